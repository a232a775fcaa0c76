//! One case: its arrays, its record, its folder.

use super::folder::{RunFolder, write_json};
use crate::data::{Item, Source};
use crate::latent_shift::{flip, monotony};
use crate::registry::hex;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};
use shiftlens_api::record::{Case, CaseWriter, ExplanationRecord, RECORD_SCHEMA, TrustRecord};
use shiftlens_api::{Error, Explanation, Images, Result, ShiftSeries, Target, resize};
use std::collections::HashMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// The file of a case's arrays.
const ARRAYS: &str = "arrays.safetensors";

/// Metadata key under which `arrays.safetensors` keeps the sum of the image's file.
const SOURCE: &str = "source_sha256";

/// What the components said about one image.
pub struct Explained {
    /// Place in the batch.
    pub index: usize,
    /// f's scores.
    pub scores: Vec<f32>,
    /// What is to be known of its code, where the study has a latent space.
    pub trust: Option<TrustRecord>,
    /// In the order of the explainers, then of their classes.
    pub explanations: Vec<Made>,
}

/// One explanation and where it comes from.
pub struct Made {
    /// What was answered.
    pub explanation: Explanation,
    /// Index of its explainer.
    pub explainer: usize,
    /// The class that it is about.
    pub class: Target,
    /// Seconds it took for this image.
    pub seconds: f64,
    /// Images that f was asked about for it: the mean over those that were explained together.
    pub asked: f64,
}

/// The notes of an explanation, its class among them.
fn notes_with_class(notes: &[(String, String)], class: &Target) -> Vec<(String, String)> {
    let said = notes.iter().any(|(key, _)| key == "class");
    let class = (!said).then(|| ("class".to_owned(), class.name.clone()));
    class.into_iter().chain(notes.iter().cloned()).collect()
}

/// A path for people: `manifests/../images/a.png` becomes `images/a.png`; a frame's number follows behind `#`.
pub fn shown(source: &Source) -> String {
    let mut out = PathBuf::new();
    for part in source.path.components() {
        match part {
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    Source { path: out, frame: source.frame }.to_string()
}

/// The records of all explanations; the writer fills in the pictures.
pub fn records(e: &Explained, x: &Images, threshold: f32, kinds: &[String]) -> Vec<ExplanationRecord> {
    e.explanations
        .iter()
        .map(|Made { explanation, explainer, class, seconds, .. }| match explanation {
            Explanation::Heatmap { title, map, notes } => ExplanationRecord::Heatmap {
                explainer: kinds[*explainer].clone(),
                class: Some(class.clone()),
                title: title.clone(),
                range: map.range(),
                size: map.size(),
                notes: notes_with_class(notes, class),
                picture: None,
                seconds: *seconds,
            },
            Explanation::Shift { title, series, notes } => ExplanationRecord::Shift {
                explainer: kinds[*explainer].clone(),
                class: Some(class.clone()),
                title: title.clone(),
                lambdas: series.lambdas.clone(),
                scores: series.scores.clone(),
                origin: series.origin,
                latent_score: series.latent_score,
                flip: flip_of(series, threshold),
                spearman: monotony(series).map(|v| v as f32),
                calibration: series.calibration.clone(),
                reconstruction_gap: (e.scores[class.class] - series.scores[series.origin]).abs(),
                reconstruction_l1: l1(x, &series.images, series.origin),
                notes: notes_with_class(notes, class),
                pictures: Vec::new(),
                animation: None,
                difference: None,
                seconds: *seconds,
            },
        })
        .collect()
}

/// Where f's decision changes within a series: as its calibration found it, else between its steps.
fn flip_of(series: &ShiftSeries, threshold: f32) -> Option<f32> {
    let ends = (series.lambdas[0], series.lambdas[series.lambdas.len() - 1]);
    let found = series.calibration.as_ref().and_then(|c| c.flip);
    found
        .filter(|l| (ends.0..=ends.1).contains(l))
        .or_else(|| flip(&series.lambdas, &series.scores, threshold))
}

/// Images at the size and with the channels of others.
pub fn fitted(x: &Images, like: &Images) -> Result<Images> {
    resize::images(&x.with_channels(like.channels())?, like.size(), resize::Filter::Bilinear)
}

/// Mean absolute difference of x, at the generator's size and channels, and picture `i`.
fn l1(x: &Images, pictures: &Images, i: usize) -> f32 {
    let Ok(fitted) = fitted(x, pictures) else { return f32::NAN };
    let other = pictures.image(i);
    let sum: f64 = fitted.as_slice().iter().zip(other).map(|(a, b)| f64::from((a - b).abs())).sum();
    (sum / other.len() as f64) as f32
}

/// Writes a case into a temporary folder and renames it into place.
pub fn write_case(folder: &RunFolder, case: &mut Case, hash: &str, writer: &dyn CaseWriter) -> Result<()> {
    let (part, home) = (folder.temporary(&case.id), folder.case(&case.id));
    let fresh = |path: &Path| match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    };
    fresh(&part)?;
    fs::create_dir_all(&part).map_err(|e| Error::io(&part, e))?;
    let written = write_arrays(&part.join(ARRAYS), case, hash)
        .and_then(|()| writer.write(&part, case))
        .and_then(|()| write_json(&part.join("case.json"), &case.record));
    if let Err(e) = written {
        fresh(&part)?;
        return Err(e);
    }
    fresh(&home)?;
    fs::rename(&part, &home).map_err(|e| Error::io(&home, e))
}

fn write_arrays(path: &Path, case: &Case, hash: &str) -> Result<()> {
    let [_, c, h, w] = case.image.shape();
    let mut arrays: Vec<(String, Vec<usize>, &[f32])> =
        vec![("x".into(), vec![c, h, w], case.image.as_slice())];
    for (i, e) in case.explanations.iter().enumerate() {
        match e {
            Explanation::Heatmap { map, .. } => {
                let (h, w) = map.size();
                arrays.push((format!("heatmap.{i}"), vec![h, w], map.as_slice()));
            }
            Explanation::Shift { series, .. } => {
                arrays.push((
                    format!("series.{i}"),
                    series.images.shape().to_vec(),
                    series.images.as_slice(),
                ));
                arrays.push((format!("code.{i}"), vec![series.code.len()], &series.code));
            }
        }
    }
    arrays.extend(case.arrays.iter().map(|(name, t)| (name.clone(), t.shape().to_vec(), t.as_slice())));
    let bytes: Vec<Vec<u8>> =
        arrays.iter().map(|(_, _, v)| v.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let fail = |e: safetensors::SafeTensorError| Error::component(path.display().to_string(), e);
    let views = arrays
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), b)| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), b).map_err(fail)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([(SOURCE.to_owned(), hash.to_owned())]);
    let file = safetensors::serialize(views, Some(metadata)).map_err(fail)?;
    fs::write(path, file).map_err(|e| Error::io(path, e))
}

/// True if the folder holds this image's case, whole, made from the file as it is now.
pub fn finished(folder: &RunFolder, item: &Item) -> bool {
    let Ok(record) = folder.read_case(&item.id) else { return false };
    let known =
        (&record.label, &record.group, &record.metadata) == (&item.label, &item.group, &item.metadata);
    if record.schema != RECORD_SCHEMA || !known {
        return false;
    }
    let Some(source) = source_of(&folder.case(&item.id).join(ARRAYS)) else { return false };
    fs::read(&item.path).is_ok_and(|bytes| hex(&Sha256::digest(&bytes)) == source)
}

/// The header of a safetensors file and its length, and the file after it; `None` if it is damaged or cut short.
fn open_arrays(path: &Path) -> Option<(serde_json::Value, u64, fs::File)> {
    const LONGEST_HEADER: u64 = 1 << 20;
    let mut file = fs::File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let header = u64::from_le_bytes(length).min(LONGEST_HEADER);
    let mut bytes = vec![0; header as usize];
    file.read_exact(&mut bytes).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    let end = value.as_object()?.values().filter_map(|t| t["data_offsets"][1].as_u64()).max()?;
    (file.metadata().ok()?.len() == 8 + header + end).then_some((value, header, file))
}

/// The image's sum that a case's arrays were made from, read from the header alone.
fn source_of(path: &Path) -> Option<String> {
    let (header, ..) = open_arrays(path)?;
    header["__metadata__"][SOURCE].as_str().map(str::to_owned)
}

/// The code of explanation `e` of the case in `folder`, without reading the pictures' arrays.
///
/// # Errors
/// [`Error::Invalid`] if the file is damaged.
pub fn read_code(folder: &Path, e: usize) -> Result<Vec<f32>> {
    let code = read_array(folder, &format!("code.{e}"))?;
    code.map(|(_, values)| values).ok_or_else(|| damaged(&folder.join(ARRAYS)))
}

fn damaged(path: &Path) -> Error {
    Error::Invalid(format!("{}: damaged; remove the case's folder and run again", path.display()))
}

/// Shape and values of one array of the case in `folder`, without reading the others; `None` if it has no such array.
///
/// # Errors
/// [`Error::Invalid`] if the file is damaged.
pub fn read_array(folder: &Path, name: &str) -> Result<Option<(Vec<usize>, Vec<f32>)>> {
    let path = folder.join(ARRAYS);
    let (header, length, mut file) = open_arrays(&path).ok_or_else(|| damaged(&path))?;
    let Some(entry) = header.get(name) else { return Ok(None) };
    let mut read = || {
        let numbers = |v: &serde_json::Value| -> Option<Vec<u64>> {
            v.as_array()?.iter().map(serde_json::Value::as_u64).collect()
        };
        let shape: Vec<u64> = numbers(&entry["shape"])?;
        let [from, to] = <[u64; 2]>::try_from(numbers(&entry["data_offsets"])?).ok()?;
        if 4 * shape.iter().product::<u64>() != to.checked_sub(from)? {
            return None;
        }
        file.seek(SeekFrom::Start(8 + length + from)).ok()?;
        let mut bytes = vec![0; (to - from) as usize];
        file.read_exact(&mut bytes).ok()?;
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Some((shape.into_iter().map(|n| n as usize).collect(), values))
    };
    read().map(Some).ok_or_else(|| damaged(&path))
}

/// Shape and values by name.
#[cfg(test)]
pub type Arrays = HashMap<String, (Vec<usize>, Vec<f32>)>;

/// Reads a case's arrays back, by name: shape and values.
///
/// # Errors
/// [`Error::Io`], or [`Error::Invalid`] if the file is damaged.
#[cfg(test)]
pub fn read_arrays(path: &Path) -> Result<Arrays> {
    let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
    let file = safetensors::SafeTensors::deserialize(&bytes)
        .map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))?;
    Ok(file
        .tensors()
        .into_iter()
        .map(|(name, t)| {
            let data =
                t.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            (name, (t.shape().to_vec(), data))
        })
        .collect())
}
