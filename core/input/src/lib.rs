//! Image files and lists of them: what a study and a training read.
//!
//! ```text
//! DataSpec --scan--> Items (file, frame, label, group, mask, metadata) --Reader--> Images [1, C, H, W] in [0, 1]
//! ```
//!
//! * [`scan`] lists a folder, a glob, or a table (CSV, TSV, Parquet); every frame of a DICOM file and every page of a
//!   TIFF is an image of its own.
//! * [`Reader`] reads one image: PNG, JPEG, TIFF, WebP, BMP, GIF and DICOM, recognised by content. [`Window`] says which
//!   stored values are black and white.
//! * Of a DICOM file's attributes nothing leaves this crate but pixels, and the values whose keywords
//!   [`DataSpec::metadata`] names; messages name attributes, never their values.
//!
//! Nothing is allocated before the size that a header claims has been compared with [`MAX_VALUES`] and the file's own.

mod dicom;
mod format;
mod list;
pub mod nearest;
mod picture;
mod pixels;
mod read;
mod spec;
mod tiff;
mod window;

pub use dicom::{Keyword, check_keyword};
pub use format::EXTENSIONS;
pub use list::{Census, Item, census, columns, scan, sources};
pub use pixels::MAX_VALUES;
pub use read::{Reader, SMALLEST_SIDE, Source, View, read_mask};
pub use spec::{DataSpec, GroupBy, ImageSource, LabelBy, Labels};
pub use window::{VoiFunction, Window};

/// What is wrong with a file, in words that do not name it: the caller does.
type Said<T> = Result<T, String>;

#[cfg(test)]
mod testing;
