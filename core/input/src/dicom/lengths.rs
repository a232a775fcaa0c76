//! A look through a file before it is parsed: does every element that claims a length have it?
//!
//! The parser allocates what an element claims, up to 4 GiB, before it reads. Here headers alone are read, in the way that
//! the parser reads them: what it takes for a length is what is compared.

use super::attributes::keyword;
use super::codec::BIG_ENDIAN;
use crate::Said;
use dicom_core::dictionary::{DataDictionaryEntry, VirtualVr};
use dicom_core::{DataDictionary, Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags, uids};
use std::io::{self, Read, Seek, SeekFrom};

/// The group of items and delimiters, which have no value representation.
const ITEM: u16 = 0xfffe;
const FRAGMENT: Tag = Tag(ITEM, 0xe000);
const SEQUENCE_END: Tag = Tag(ITEM, 0xe0dd);
const UNDEFINED: u32 = u32::MAX;

/// Refuses a file of `size` bytes in which an element claims more than there is.
pub fn check<R: Read + Seek>(file: &mut R, size: u64) -> Said<()> {
    match (Look { file, here: 0, big: false }).through(size) {
        Ok(None) => Ok(()),
        Ok(Some((tag, claimed, left))) => Err(format!(
            "truncated or damaged DICOM file: `{}` {tag} claims {claimed} bytes, {left} are left",
            keyword(tag)
        )),
        // The end came amid a header, or what follows the last element is none.
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Err(e) => Err(e.to_string()),
    }
}

struct Look<'a, R> {
    file: &'a mut R,
    /// Bytes that were read or passed over.
    here: u64,
    big: bool,
}

impl<R: Read + Seek> Look<'_, R> {
    /// The first element that claims too much, what it claims, and what there is.
    fn through(&mut self, size: u64) -> io::Result<Option<(Tag, u32, u64)>> {
        let mut prefix = [0; 132];
        let read = self.file.read(&mut prefix)?;
        self.here = if read == 132 && &prefix[128..] == b"DICM" { 132 } else { 4 };
        self.file.seek(SeekFrom::Start(self.here))?;
        // The meta group is explicit and little-endian whatever follows it.
        let (mut meta, mut explicit, mut in_pixels) = (true, true, false);
        let mut syntax = String::new();
        while self.here < size {
            let mut tag = Tag(self.short()?, self.short()?);
            if meta && tag.0 != 2 {
                (meta, explicit) = (false, syntax != uids::IMPLICIT_VR_LITTLE_ENDIAN);
                self.big = syntax == BIG_ENDIAN;
                if self.big {
                    tag = Tag(tag.0.swap_bytes(), tag.1.swap_bytes());
                }
            }
            let (sequence, length) = self.header(tag, explicit)?;
            if tag.0 == ITEM && !(in_pixels && tag == FRAGMENT) {
                // Into an item, or out of one.
                in_pixels &= tag != SEQUENCE_END;
                continue;
            }
            if length == UNDEFINED {
                in_pixels = tag == tags::PIXEL_DATA;
                continue;
            }
            if sequence {
                continue;
            }
            let left = size.saturating_sub(self.here);
            if u64::from(length) > left {
                return Ok(Some((tag, length, left)));
            }
            if meta && tag == tags::TRANSFER_SYNTAX_UID {
                let mut uid = vec![0; length as usize];
                self.fill(&mut uid)?;
                String::from_utf8_lossy(&uid).trim_end_matches(['\0', ' ']).clone_into(&mut syntax);
                // The parser does not unpack it either.
                if syntax == uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN {
                    return Ok(None);
                }
            } else {
                self.file.seek_relative(length.into())?;
                self.here += u64::from(length);
            }
        }
        Ok(None)
    }

    /// Whether a tag begins a sequence, and the length that follows.
    fn header(&mut self, tag: Tag, explicit: bool) -> io::Result<(bool, u32)> {
        if tag.0 == ITEM {
            return Ok((false, self.long()?));
        }
        if !explicit {
            let entry = StandardDataDictionary.by_tag(tag);
            let sequence = entry.is_some_and(|e| e.vr() == VirtualVr::Exact(VR::SQ));
            return Ok((sequence, self.long()?));
        }
        let mut vr = [0; 2];
        self.fill(&mut vr)?;
        // PS3.5, table 7.1-2; all others, unknown ones too, have a length of 4 bytes behind 2 reserved ones.
        match &vr {
            b"AE" | b"AS" | b"AT" | b"CS" | b"DA" | b"DS" | b"DT" | b"FL" | b"FD" | b"IS" | b"LO" | b"LT"
            | b"PN" | b"SH" | b"SL" | b"SS" | b"ST" | b"TM" | b"UI" | b"UL" | b"US" => {
                Ok((false, self.short()?.into()))
            }
            _ => {
                self.short()?;
                Ok((&vr == b"SQ", self.long()?))
            }
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.here += bytes.len() as u64;
        self.file.read_exact(bytes)
    }

    fn short(&mut self) -> io::Result<u16> {
        let mut bytes = [0; 2];
        self.fill(&mut bytes)?;
        Ok(if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn long(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes)?;
        Ok(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }
}
