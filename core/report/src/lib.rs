//! Pictures, tables and the HTML report of a run.
//!
//! While a run is going on, the engine hands every case to [`Pictures`], which draws the case's pictures into the
//! case's folder. When it is over, [`write_report`] and [`write_cases_csv`] read the run's folder (see
//! [`shiftlens_api::record`]) and write what a person opens. Both can be called again at any time: they need nothing
//! but the folder.
//!
//! | picture | what it shows |
//! | --- | --- |
//! | `original.png` | the image at its own size |
//! | `series-E/00.png`, … | G(w + λ sigma α), one per λ, at the generator's size |
//! | `series-E.gif` | the series forth and back |
//! | `difference-E.png` | last minus first picture of the series, blue - white - red |
//! | `heatmap-E.png` | the positive part of the map over the grey image |
//! | `heatmap-E-layer.png` | the same map as a transparent layer |
//! | `heatmap-E-raw.png` | the map alone; blue - white - red if it has negative values |
//!
//! E is the index of the explanation in the case's record.
//!
//! [`write_training`] does the same for the folder of a training, finished or not: curves, sample sheets, settings.

mod animation;
mod base64;
mod colour;
mod figures;
mod folder;
mod inferno;
mod maps;
mod number;
mod page;
mod plot;
mod summary;
mod table;
mod training;
mod view;
mod writer;

pub use colour::{Rgb, diverging, sequential};
pub use page::{EMBED_LIMIT_BYTES, EMBED_LIMIT_CASES, write_report};
pub use table::write_cases_csv;
pub use training::write_training;
pub use writer::{Pictures, write_png};
