//! Which images, and what is known about them.

use crate::read::{SMALLEST_SIDE, View};
use crate::window::Window;
use regex::Regex;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Where the images come from, what is known about them.
#[derive(Debug, Clone, Serialize)]
pub struct DataSpec {
    /// The files.
    pub images: ImageSource,
    /// The folder that the paths in a list start from; `None` is the list's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// Which stored values are black and white.
    #[serde(skip_serializing_if = "Window::is_default")]
    pub window: Window,
    /// Side of the centre square that is cut out of every image before anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<usize>,
    /// Ground truth.
    pub labels: Option<Labels>,
    /// Groups (patients).
    pub group: Option<GroupBy>,
    /// The list's column that names a mask image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// The list's column that names a frame or page, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    /// What else is copied for every image: columns of the list, or keywords of DICOM attributes. Nothing else ever is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<String>,
    /// At most so many, evenly spread over the sorted list.
    pub limit: Option<usize>,
    /// True if the images were drawn from a generator; the report says so.
    pub synthetic: bool,
}

impl DataSpec {
    /// All of `images`, whole, without ground truth.
    pub fn new(images: ImageSource) -> Self {
        Self {
            images,
            root: None,
            window: Window::default(),
            crop: None,
            labels: None,
            group: None,
            mask: None,
            frame: None,
            metadata: Vec::new(),
            limit: None,
            synthetic: false,
        }
    }

    /// How a study sees these images.
    pub fn view(&self) -> View {
        View { window: self.window, crop: self.crop, smallest: SMALLEST_SIDE }
    }
}

/// Which files.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageSource {
    /// All image files below a folder.
    Folder(PathBuf),
    /// The files that the `path` column names, relative to the list or to [`DataSpec::root`].
    Csv(PathBuf),
    /// The same with tabs between the columns.
    Tsv(PathBuf),
    /// The same in Apache Parquet.
    Parquet(PathBuf),
    /// All files that match.
    Glob(String),
    /// These.
    Files(Vec<PathBuf>),
}

impl ImageSource {
    /// A list by its ending, a glob by its wildcards, else a folder.
    pub fn new(base: &Path, text: &str) -> Self {
        let path = base.join(text);
        match Self::of(path) {
            Self::Folder(path) if text.contains(['*', '?', '[']) => Self::Glob(path.display().to_string()),
            other => other,
        }
    }

    /// A list by its ending, else a folder.
    pub fn of(path: PathBuf) -> Self {
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            Some("csv") => Self::Csv(path),
            Some("tsv" | "tab") => Self::Tsv(path),
            Some("parquet" | "pq") => Self::Parquet(path),
            _ => Self::Folder(path),
        }
    }

    /// True if the images have columns.
    pub fn is_list(&self) -> bool {
        matches!(self, Self::Csv(_) | Self::Tsv(_) | Self::Parquet(_))
    }
}

/// Ground truth: an image whose value stands in neither list is unlabelled.
#[derive(Debug, Clone, Serialize)]
pub struct Labels {
    /// Where the value comes from.
    pub by: LabelBy,
    /// Values that mean the target class.
    pub positive: Vec<String>,
    /// Values that mean it is absent.
    pub negative: Vec<String>,
}

/// Where a label's value comes from.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelBy {
    /// The name of the folder that the image lies in.
    Folder,
    /// A column of the list.
    Column(String),
}

/// Where a group's name comes from.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupBy {
    /// The first capture (or the whole match) of an expression on the file name.
    FileName(#[serde(serialize_with = "as_text")] Regex),
    /// A column of the list.
    Column(String),
}

fn as_text<S: serde::Serializer>(r: &Regex, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(r.as_str())
}
