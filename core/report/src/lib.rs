//! Pictures, tables and the HTML report of a run.
//!
//! While a run is going on, the engine hands every case to [`Pictures`], which draws the case's pictures into the
//! case's folder. When it is over, [`write_outputs`] reads the run's folder (see [`shiftlens_api::record`]) and writes
//! what a person opens. It can be called again at any time: it needs nothing but the folder.
//!
//! | picture | what it shows |
//! | --- | --- |
//! | `original.png` | the image at its own size |
//! | `thumbnail.png` | the same for the gallery, where it is larger than that needs |
//! | `series-E/00.png`, … | G(w + λ sigma α), one per λ, at the generator's size |
//! | `series-E.gif`, `series-E.apng` | the series forth and back |
//! | `difference-E.png` | last minus first picture of the series, blue - white - red |
//! | `heatmap-E.png` | the positive part of the map over the grey image |
//! | `heatmap-E-layer.png` | the same map as a transparent layer |
//! | `heatmap-E-raw.png` | the map alone; blue - white - red if it has negative values |
//!
//! E is the index of the explanation in the case's record.
//!
//! | file of the run | what it holds |
//! | --- | --- |
//! | `report.html`, `report/` | overview and gallery; a file with the view of each case |
//! | `cases.csv`, `cases.parquet` | a row per case and explanation |
//! | `evaluation.csv`, `evaluation.parquet` | a row per case, method and metric, where the study evaluates |
//! | `contact-sheet.png` | cases as rows, the series as columns, f under every picture |
//!
//! [`write_comparison`] does the same above the folders of several predictors' runs: `report.html` and `report/` with what all of
//! them say of each image, and `comparison.csv` and `.parquet`, a row for each image.
//!
//! [`write_training`] does the same for the folder of a training, finished or not: curves, sample sheets, settings.

mod animation;
mod base64;
mod case;
mod charts;
mod colour;
mod compared;
mod evaluation;
mod figures;
mod folder;
mod formats;
mod index;
mod inferno;
mod maps;
mod number;
mod overview;
mod page;
mod plot;
mod scatter;
mod sheet;
mod sources;
mod summary;
mod table;
mod training;
mod view;
mod writer;

pub use colour::{Rgb, diverging, sequential};
pub use compared::write_comparison;
pub use formats::write_outputs;
pub use page::write_report;
pub use sources::{EMBED_LIMIT_BYTES, EMBED_LIMIT_CASES};
pub use table::write_cases_csv;
pub use training::write_training;
pub use writer::{Pictures, write_png};
