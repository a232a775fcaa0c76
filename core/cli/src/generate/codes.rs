//! Codes from a safetensors file, read as they are needed.

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use shiftlens_api::{Error, GeneratorInfo, LatentCodes, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The tensor that holds the codes.
pub const TENSOR: &str = "w";
/// Largest header, as in the safetensors library.
const MOST_HEADER: u64 = 100_000_000;

/// The tensor `w` of a file: codes of W, `[N, D]`, or of W+, `[N, L, D]`.
#[derive(Debug)]
pub struct CodesFile {
    path: PathBuf,
    file: File,
    /// Where the codes begin in the file, in bytes.
    start: u64,
    shape: [usize; 3],
}

/// `[3, 64]` of float32 as `F32 [3, 64]`.
fn shown(dtype: Dtype, shape: &[usize]) -> String {
    format!("{dtype:?} {shape:?}")
}

impl CodesFile {
    /// Opens a file and checks that it holds codes of the generator `g`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Invalid`] if it is no such file: the message says what was found.
    pub fn open(path: &Path, g: &GeneratorInfo) -> Result<Self> {
        let io = |e| Error::io(path, e);
        let invalid = |message: String| Error::Invalid(format!("{}: {message}", path.display()));
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let no_file = || invalid("not a safetensors file".into());
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|_| no_file())?;
        let length = u64::from_le_bytes(length);
        if length > MOST_HEADER || length + 8 > size {
            return Err(no_file());
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(io)?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|e| invalid(format!("not a safetensors file: {e}")))?;
        let (d, l) = (g.latent_dim, g.latent_layers);
        let expected = match l {
            1 => format!("F32 [N, {d}]"),
            _ => format!("F32 [N, {d}] or [N, {l}, {d}]"),
        };
        let Some(w) = header.info(TENSOR) else {
            let mut found: Vec<String> = header
                .tensors()
                .iter()
                .map(|(name, t)| format!("`{name}` {}", shown(t.dtype, &t.shape)))
                .collect();
            found.sort();
            let found = if found.is_empty() { "nothing".into() } else { found.join(", ") };
            return Err(invalid(format!(
                "no tensor `{TENSOR}` of codes, expected {expected}; found {found}"
            )));
        };
        let shape = match *w.shape.as_slice() {
            [n, width] if width == d => [n, 1, d],
            [n, rows, width] if width == d && (rows == 1 || rows == l) => [n, rows, d],
            _ => [0; 3],
        };
        if w.dtype != Dtype::F32 || shape[2] == 0 {
            let found = shown(w.dtype, &w.shape);
            return Err(invalid(format!(
                "`{TENSOR}` is {found}, expected {expected}, codes of this generator"
            )));
        }
        if shape[0] == 0 {
            return Err(invalid(format!(
                "`{TENSOR}` is {}, expected at least one code",
                shown(w.dtype, &w.shape)
            )));
        }
        if length + 8 + w.data_offsets.1 as u64 > size {
            return Err(invalid(format!("the file ends within its tensors, after {size} bytes")));
        }
        Ok(Self { path: path.to_owned(), file, start: length + 8 + w.data_offsets.0 as u64, shape })
    }

    /// N.
    pub fn len(&self) -> usize {
        self.shape[0]
    }

    /// 1 for codes of W, L for those of W+.
    pub fn rows(&self) -> usize {
        self.shape[1]
    }

    /// Codes `from..to`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Invalid`] if one is not finite.
    pub fn read(&mut self, from: usize, to: usize) -> Result<LatentCodes> {
        let [_, rows, d] = self.shape;
        let code = rows * d;
        let io = |e| Error::io(&self.path, e);
        self.file.seek(SeekFrom::Start(self.start + (4 * from * code) as u64)).map_err(io)?;
        let mut bytes = vec![0; 4 * (to - from) * code];
        self.file.read_exact(&mut bytes).map_err(io)?;
        let values: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            let (i, v) = (from + at / code, values[at]);
            return Err(Error::Invalid(format!(
                "{}: code {i} of `{TENSOR}` holds {v}, expected finite numbers",
                self.path.display()
            )));
        }
        LatentCodes::new([to - from, rows, d], values)
    }
}
