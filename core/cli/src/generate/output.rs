//! Where images go: pictures in a folder, or tensors of float32 values that are written as they come.

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use shiftlens_api::{Error, Images, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A safetensors file of one float32 tensor whose values come piece by piece: only a piece is in memory. It is written
/// beside its place and moved there once it is whole.
pub struct TensorFile {
    path: PathBuf,
    temporary: PathBuf,
    out: BufWriter<File>,
    /// Values still to come.
    left: usize,
    moved: bool,
}

impl TensorFile {
    /// Begins the file at `path` with the tensor `name` of `shape`.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Invalid`] for a shape beyond what a file can hold.
    pub fn create(path: &Path, name: &str, shape: &[usize], facts: &[(&str, String)]) -> Result<Self> {
        let invalid = |e: &dyn std::fmt::Display| Error::Invalid(format!("{}: {e}", path.display()));
        let left = shape.iter().try_fold(1usize, |a, b| a.checked_mul(*b));
        let (Some(left), Some(bytes)) = (left, left.and_then(|n| n.checked_mul(4))) else {
            return Err(invalid(&format!("{shape:?} is more than a file can hold")));
        };
        let tensor = TensorInfo { dtype: Dtype::F32, shape: shape.to_vec(), data_offsets: (0, bytes) };
        // The library keeps facts in a map without order; sorted, the same images make the same file.
        let facts: BTreeMap<_, _> = facts.iter().cloned().collect();
        let header = serde_json::json!({ "__metadata__": facts, name: tensor });
        let mut header = serde_json::to_vec(&header).map_err(|e| invalid(&e))?;
        // The values begin at a multiple of 8.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let temporary = path.with_file_name(name);
        let io = |e| Error::io(path, e);
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&temporary).map_err(io)?);
        out.write_all(&(header.len() as u64).to_le_bytes())
            .and_then(|()| out.write_all(&header))
            .map_err(io)?;
        Ok(Self { path: path.to_owned(), temporary, out, left, moved: false })
    }

    /// Adds the next values.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Shape`] for more values than the tensor has.
    pub fn append(&mut self, values: &[f32]) -> Result<()> {
        self.left = self.left.checked_sub(values.len()).ok_or_else(|| Error::Shape {
            what: format!("values for {}", self.path.display()),
            expected: format!("at most {}", self.left),
            found: vec![values.len()],
        })?;
        let mut bytes = Vec::with_capacity(4 * values.len());
        values.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
        self.out.write_all(&bytes).map_err(|e| Error::io(&self.temporary, e))
    }

    /// Moves the whole file to its place.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Invalid`] if values are missing.
    pub fn finish(mut self) -> Result<()> {
        if self.left > 0 {
            return Err(Error::Invalid(format!("{}: {} values are missing", self.path.display(), self.left)));
        }
        self.out.flush().map_err(|e| Error::io(&self.temporary, e))?;
        std::fs::rename(&self.temporary, &self.path).map_err(|e| Error::io(&self.path, e))?;
        self.moved = true;
        Ok(())
    }
}

impl Drop for TensorFile {
    fn drop(&mut self) {
        if !self.moved {
            // What is half written is of no use; the error that led here is already on its way.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Where images go.
pub enum Sink {
    /// One PNG each.
    Pictures(PathBuf),
    /// One tensor `[N, C, R, R]` in the network's range.
    Raw(TensorFile),
}

impl Sink {
    /// Writes images that come in the network's range, `[C, R, R]` each, one for each name.
    ///
    /// # Errors
    /// If one is not finite, or cannot be written.
    pub fn write(&mut self, mut values: Vec<f32>, [c, h, w]: [usize; 3], names: &[String]) -> Result<()> {
        let size = c * h * w;
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            let what = names.get(at / size).map_or_else(|| "image".to_owned(), |n| format!("image {n}"));
            return Err(Error::NotFinite { what, index: at % size, value: values[at] });
        }
        match self {
            Self::Raw(file) => file.append(&values),
            Self::Pictures(folder) => {
                values.iter_mut().for_each(|v| *v = 0.5 * *v + 0.5);
                let images = Images::new([names.len(), c, h, w], values)?;
                names.iter().enumerate().try_for_each(|(i, name)| {
                    let path = folder.join(format!("{name}.png"));
                    shiftlens_report::write_png(&path, &images.slice(i, i + 1))
                })
            }
        }
    }

    /// Ends the output.
    ///
    /// # Errors
    /// As [`TensorFile::finish`].
    pub fn finish(self) -> Result<()> {
        match self {
            Self::Raw(file) => file.finish(),
            Self::Pictures(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_that_comes_in_pieces_is_a_safetensors_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let facts = ["range", "c", "b", "a"].map(|k| (k, "[-1, 1]".to_owned()));
        let create = || TensorFile::create(&path, "x", &[3, 2], &facts).unwrap();
        let mut file = create();
        file.append(&[1.0, -2.5]).unwrap();
        file.append(&[f32::MIN, 0.0, 5.0]).unwrap();
        assert!(matches!(file.append(&[0.0, 0.0]), Err(Error::Shape { .. })));
        drop(file);
        let mut file = create();
        file.append(&[1.0, -2.5]).unwrap();
        file.append(&[f32::MIN, 0.0, 5.0, 7.0]).unwrap();
        assert!(!path.exists(), "nothing is there before it is finished");
        file.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let x = read.tensor("x").unwrap();
        assert_eq!((x.dtype(), x.shape()), (Dtype::F32, &[3, 2][..]));
        let expected: Vec<u8> =
            [1.0, -2.5, f32::MIN, 0.0, 5.0, 7.0].iter().flat_map(|v: &f32| v.to_le_bytes()).collect();
        assert_eq!(x.data(), expected);
        let (length, facts) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert!(length.is_multiple_of(8));
        assert_eq!(facts.metadata().as_ref().unwrap()["range"], "[-1, 1]");
        let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
        let places = [r#""a":"#, r#""b":"#, r#""c":"#, r#""range":"#].map(|k| header.find(k).unwrap());
        assert!(places.is_sorted(), "the order of facts is left to chance: {header}");
    }

    #[test]
    fn half_a_tensor_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let mut file = TensorFile::create(&path, "x", &[4], &[]).unwrap();
        file.append(&[1.0]).unwrap();
        assert!(file.finish().unwrap_err().to_string().contains("3 values are missing"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(TensorFile::create(&path, "x", &[usize::MAX, 3], &[]).is_err());
    }
}
