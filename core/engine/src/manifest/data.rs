//! The meaning of `[data]`, and of the `data` of a direction.

use super::check::Checker;
use super::problem::Located;
use super::raw::RawData;
use super::study::{DataSpec, GroupBy, ImageSource, LabelBy, Labels, Window};
use crate::nearest::suggest;
use regex::Regex;
use shiftlens_input::check_keyword;

impl Checker<'_> {
    pub(super) fn data(&self, raw: &RawData) -> Option<DataSpec> {
        let images = ImageSource::new(self.base, &raw.images.value);
        let list = images.is_list();
        let column = |c: &Located<String>| {
            if !list {
                self.sink.add(c.at, "a `column` needs `images` to be a CSV file (or TSV, Parquet)", "");
            }
            c.value.clone()
        };
        let labels = raw.labels.as_ref().map(|l| {
            let by = match (l.from.value.as_str(), &l.column) {
                ("folder", None) => Some(LabelBy::Folder),
                ("column", Some(c)) => Some(LabelBy::Column(column(c))),
                ("folder", Some(c)) => {
                    self.sink.add(c.at, "`column` with `from = \"folder\"`", "write from = \"column\"");
                    None
                }
                ("column", None) => {
                    self.sink.add(
                        l.from.at,
                        "`from = \"column\"` without `column`",
                        "name the list's column",
                    );
                    None
                }
                (other, _) => {
                    let message = format!("`from` of the labels is \"{other}\"");
                    self.sink.add(l.from.at, message, suggest(other, &["folder", "column"]));
                    None
                }
            };
            let values = |v: &[Located<String>]| v.iter().map(|v| v.value.clone()).collect::<Vec<_>>();
            for v in &l.positive.value {
                if l.negative.value.iter().any(|n| n.value == v.value) {
                    self.sink.add(v.at, format!("\"{}\" is both positive and negative", v.value), "");
                }
            }
            by.map(|by| Labels {
                by,
                positive: values(&l.positive.value),
                negative: values(&l.negative.value),
            })
        });
        let group = match (&raw.group_file_name, &raw.group_column) {
            (Some(r), None) => match Regex::new(&r.value) {
                Ok(r) => Some(GroupBy::FileName(r)),
                Err(e) => {
                    self.sink.add(r.at, format!("not a regular expression: {e}"), "");
                    None
                }
            },
            (None, Some(c)) => Some(GroupBy::Column(column(c))),
            (Some(r), Some(_)) => {
                self.sink.add(r.at, "`group` names both `file-name` and `column`", "keep one");
                None
            }
            (None, None) => None,
        };
        if let (Some(r), false) = (&raw.root, list) {
            self.sink.add(
                r.at,
                "`root` needs `images` to be a CSV file (or TSV, Parquet)",
                "other images are found where they lie",
            );
        }
        let root = raw.root.as_ref().map(|r| self.base.join(&r.value));
        let crop = raw.crop.as_ref().map(|c| c.value as usize);
        let limit = raw.limit.as_ref().map(|l| l.value as usize);
        let (mask, frame) = (raw.mask_column.as_ref().map(column), raw.frame_column.as_ref().map(column));
        let window = raw.window.as_ref().map_or(Ok(Window::default()), |n| {
            serde_json::from_value(n.json()).map_err(|e| {
                let help =
                    "\"minmax\", \"percentile\", { low = 0, high = 4095 } or { centre = 40, width = 400 }";
                self.sink.add(n.at, format!("`window`: {e}"), help);
            })
        });
        for name in raw.metadata.iter().filter(|_| !list) {
            if let Err(e) = check_keyword(&name.value) {
                let help = "images that are not in a list have attributes of DICOM only, by keyword";
                self.sink.add(name.at, format!("`metadata`: {e}"), help);
            }
        }
        let metadata = raw.metadata.iter().map(|m| m.value.clone()).collect();
        match labels {
            Some(None) => None,
            labels => {
                let (labels, synthetic) = (labels.flatten(), raw.synthetic);
                let window = window.ok()?;
                let columns = DataSpec { labels, group, mask, frame, metadata, ..DataSpec::new(images) };
                Some(DataSpec { root, window, crop, limit, synthetic, ..columns })
            }
        }
    }
}
