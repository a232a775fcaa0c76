//! A look through a file before it is parsed: does every element that claims a length have it?
//!
//! The parser allocates what an element claims, up to 4 GiB, before it reads. Headers alone are read here. Whatever looks
//! unusual ends the look without a verdict: that is the parser's.

use super::attributes::keyword;
use super::codec::BIG_ENDIAN;
use crate::Said;
use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use std::io::{self, Read, Seek, SeekFrom};

/// The group of items and delimiters, which have no value representation.
const ITEM: u16 = 0xfffe;
const FRAGMENT: Tag = Tag(ITEM, 0xe000);
const SEQUENCE_END: Tag = Tag(ITEM, 0xe0dd);
const UNDEFINED: u32 = u32::MAX;

/// Value representations with a length of 4 bytes behind 2 reserved ones (PS3.5, table 7.1-1).
const LONG: [&[u8; 2]; 13] =
    [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"];

/// Refuses a file of `size` bytes in which an element claims more than there is.
pub fn check<R: Read + Seek>(file: &mut R, size: u64) -> Said<()> {
    match look(file, size) {
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

fn look<R: Read + Seek>(file: &mut R, size: u64) -> io::Result<Option<(Tag, u32, u64)>> {
    let mut prefix = [0; 132];
    let read = file.read(&mut prefix)?;
    let begin = if read == 132 && &prefix[128..] == b"DICM" { 132 } else { 4 };
    file.seek(SeekFrom::Start(begin))?;
    let mut here = begin;
    // The meta group is explicit whatever follows it.
    let (mut explicit, mut meta, mut in_pixels) = (true, true, false);
    let mut implicit_follows = false;
    while here < size {
        let tag = Tag(short(file)?, short(file)?);
        here += 4;
        if meta && tag.0 != 2 {
            (meta, explicit) = (false, !implicit_follows);
        }
        let mut vr = *b"--";
        let length = if tag.0 == ITEM || !explicit {
            here += 4;
            long(file)?
        } else {
            file.read_exact(&mut vr)?;
            if !vr.iter().all(u8::is_ascii_uppercase) {
                return Ok(None);
            }
            if LONG.contains(&&vr) {
                short(file)?;
                here += 8;
                long(file)?
            } else {
                here += 4;
                short(file)?.into()
            }
        };
        let fragment = in_pixels && tag == FRAGMENT;
        if tag.0 == ITEM && !fragment {
            // Into an item, or out of one.
            in_pixels &= tag != SEQUENCE_END;
            continue;
        }
        if length == UNDEFINED {
            if &vr == b"UN" {
                return Ok(None);
            }
            in_pixels = tag == tags::PIXEL_DATA;
            continue;
        }
        if &vr == b"SQ" {
            continue;
        }
        if u64::from(length) > size - here.min(size) {
            return Ok(Some((tag, length, size - here.min(size))));
        }
        if meta && tag == tags::TRANSFER_SYNTAX_UID {
            let mut uid = vec![0; length as usize];
            file.read_exact(&mut uid)?;
            let uid = String::from_utf8_lossy(&uid);
            match uid.trim_end_matches(['\0', ' ']) {
                uids::IMPLICIT_VR_LITTLE_ENDIAN => implicit_follows = true,
                // Big-endian, or not to be read without unpacking.
                BIG_ENDIAN | uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN => return Ok(None),
                _ => {}
            }
        } else {
            file.seek_relative(length.into())?;
        }
        here += u64::from(length);
    }
    Ok(None)
}

fn short<R: Read>(file: &mut R) -> io::Result<u16> {
    let mut bytes = [0; 2];
    file.read_exact(&mut bytes)?;
    Ok(u16::from_le_bytes(bytes))
}

fn long<R: Read>(file: &mut R) -> io::Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}
