//! `contact-sheet.png`: cases as rows, the series as columns, f's score under every picture, as in the figures of Schutte et
//! al. 2021.

use crate::folder::{RunFolder, replace};
use crate::{number, writer};
use image::{Rgb, RgbImage, imageops};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use shiftlens_api::Result;
use shiftlens_api::record::{CaseRecord, ExplanationRecord};
use std::path::PathBuf;

/// Rows at most; of more cases an even selection is shown.
const ROWS: usize = 16;
/// Columns behind the image at most; of longer series an even selection that holds both ends and the reconstruction.
const COLUMNS: usize = 13;
/// A picture's longer side on the sheet is this, in pixels; smaller ones are enlarged by a whole number.
const CELL: u32 = 160;
/// A column has room for this many pixels of caption.
const NARROWEST: u32 = 112;
const GAP: u32 = 12;
const MARGIN: u32 = 20;
const LINE: u32 = 18;
const SIZE: RasterHeight = RasterHeight::Size16;
const INK: [u8; 3] = [0x1d, 0x23, 0x29];
const PALE: [u8; 3] = [0x5d, 0x68, 0x72];

/// A picture of a row: its file, what stands under it, and whether f decides for the target there.
struct Cell {
    file: String,
    caption: String,
    /// The second line.
    at: String,
    /// f's side, as the weight of the caption.
    positive: bool,
}

/// Draws the sheet, unless no case has a picture to show.
///
/// Of a series all steps are shown, λ under f; of a case without one its heatmaps. The sheet is 8-bit RGB on white. Letters
/// that the embedded font lacks (it has Latin) are drawn as `?`.
pub(crate) fn write(folder: &RunFolder) -> Result<Option<PathBuf>> {
    let drawable: Vec<String> =
        folder.cases().flatten().filter(|c| !cells(c).is_empty()).map(|c| c.id).collect();
    let mut rows = Vec::new();
    for i in spread(drawable.len(), ROWS) {
        let case = crate::folder::case(&folder.root.join("cases"), &drawable[i])?;
        rows.push(row(folder, &case));
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let sheet = stack(&rows, &title(folder, drawable.len(), rows.len()));
    let path = folder.root.join("contact-sheet.png");
    replace(&path, &writer::png(&sheet.into())?)?;
    Ok(Some(path))
}

fn title(folder: &RunFolder, all: usize, shown: usize) -> String {
    let run = &folder.run;
    let some = if shown < all { format!(" - {shown} of {all} cases, evenly spread") } else { String::new() };
    format!("{}: f = score for {}, shift in standard deviations (sd){some}", run.name, run.target.name)
}

/// What a case's row shows behind the image.
fn cells(case: &CaseRecord) -> Vec<Cell> {
    let series = case.explanations.iter().find_map(|e| match e {
        ExplanationRecord::Shift { lambdas, scores, origin, pictures, .. } if !pictures.is_empty() => {
            let step = |i: usize| Cell {
                file: pictures[i].clone(),
                caption: format!("f = {}", number::score(scores[i])),
                at: if i == *origin {
                    "G(E(x))".into()
                } else {
                    format!("{} sd", number::lambda(lambdas[i]))
                },
                positive: scores[i] >= crate::case::DECISION,
            };
            let mut steps = spread(pictures.len(), COLUMNS);
            if let Err(place) = steps.binary_search(origin) {
                // The nearest of the selection gives way to the reconstruction, unless it is an end.
                let place = place.clamp(1, steps.len() - 2);
                steps[place] = *origin;
            }
            Some(steps.into_iter().map(step).collect::<Vec<_>>())
        }
        _ => None,
    });
    series.unwrap_or_else(|| {
        let maps = case.explanations.iter().filter_map(|e| match e {
            ExplanationRecord::Heatmap { title, class, picture: Some(file), .. } => Some(Cell {
                file: file.clone(),
                caption: title.clone(),
                at: class.as_ref().map_or_else(String::new, |c| c.name.clone()),
                positive: false,
            }),
            _ => None,
        });
        maps.take(COLUMNS).collect()
    })
}

/// The pictures of a case at the sheet's size.
fn row(folder: &RunFolder, case: &CaseRecord) -> Vec<(RgbImage, Cell)> {
    let original = case.pictures.get("original").map(|file| Cell {
        file: file.clone(),
        caption: format!("f(x) = {}", number::score(case.score)),
        at: case.id.clone(),
        positive: case.score >= crate::case::DECISION,
    });
    let picture = |cell: Cell| match image::open(folder.case_folder(&case.id).join(&cell.file)) {
        Ok(picture) => (fitted(picture.to_rgb8()), cell),
        Err(_) => {
            (RgbImage::from_pixel(CELL, CELL, Rgb([0xe6; 3])), Cell { at: "picture missing".into(), ..cell })
        }
    };
    original.into_iter().chain(cells(case)).map(picture).collect()
}

/// A picture at the sheet's size: enlarged without smoothing, so that its pixels stay what they are, or reduced.
fn fitted(picture: RgbImage) -> RgbImage {
    let (w, h) = picture.dimensions();
    let longer = w.max(h).max(1);
    if longer > CELL {
        let side = |v: u32| (u64::from(v) * u64::from(CELL)).div_ceil(u64::from(longer)) as u32;
        return imageops::resize(&picture, side(w), side(h), imageops::FilterType::Triangle);
    }
    let times = CELL / longer;
    imageops::resize(&picture, w * times, h * times, imageops::FilterType::Nearest)
}

/// Draws a picture with its two lines into a column that is `width` wide, its middle in the column's.
fn place(onto: &mut RgbImage, (x, y): (u32, u32), width: u32, picture: &RgbImage, cell: &Cell) {
    imageops::replace(onto, picture, i64::from(x + (width - picture.width()) / 2), i64::from(y));
    let below = y + picture.height() + 4;
    let weight = if cell.positive { FontWeight::Bold } else { FontWeight::Regular };
    text_in(onto, (x, below), width, &cell.caption, weight, INK);
    text_in(onto, (x, below + LINE), width, &cell.at, FontWeight::Regular, PALE);
}

/// Draws a text in the middle of a column, as much of it as there is room for.
fn text_in(
    onto: &mut RgbImage,
    (x, y): (u32, u32),
    width: u32,
    said: &str,
    weight: FontWeight,
    colour: [u8; 3],
) {
    let letter = get_raster_width(weight, SIZE) as u32;
    let said = clipped(said, (width / letter) as usize);
    let free = width - (said.chars().count() as u32 * letter).min(width);
    text(onto, x + free / 2, y, &said, weight, colour);
}

/// Rows below each other under a title, pictures in columns that are equally wide.
fn stack(rows: &[Vec<(RgbImage, Cell)>], title: &str) -> RgbImage {
    let pictures = || rows.iter().flatten().map(|(picture, _)| picture);
    let column = pictures().map(RgbImage::width).max().unwrap_or(0).max(NARROWEST);
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0) as u32;
    let high = |row: &[(RgbImage, Cell)]| {
        row.iter().map(|(p, _)| p.height()).max().unwrap_or(0) + 6 + 2 * LINE + GAP
    };
    let width = 2 * MARGIN + columns * (column + GAP) - GAP;
    let height = 2 * MARGIN + LINE + rows.iter().map(|r| high(r)).sum::<u32>();
    let mut sheet = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    let letters = (width - 2 * MARGIN) as usize / get_raster_width(FontWeight::Regular, SIZE);
    text(&mut sheet, MARGIN, MARGIN - 6, &clipped(title, letters), FontWeight::Regular, PALE);
    let mut y = MARGIN + LINE + 6;
    for row in rows {
        for (i, (picture, cell)) in row.iter().enumerate() {
            place(&mut sheet, (MARGIN + i as u32 * (column + GAP), y), column, picture, cell);
        }
        y += high(row);
    }
    sheet
}

/// As much of a text as there is room for, in letters that the font has.
fn clipped(said: &str, letters: usize) -> String {
    let known = |c: char| match c {
        '−' => '-',
        c if get_raster(c, FontWeight::Regular, SIZE).is_some() => c,
        _ => '?',
    };
    let all: Vec<char> = said.chars().map(known).collect();
    if all.len() <= letters {
        return all.into_iter().collect();
    }
    all.into_iter().take(letters.saturating_sub(2)).chain("..".chars()).collect()
}

/// Draws letters with their upper left corner at `(x, y)`; what does not fit is cut off.
fn text(onto: &mut RgbImage, x: u32, y: u32, said: &str, weight: FontWeight, colour: [u8; 3]) {
    let step = get_raster_width(weight, SIZE) as u32;
    for (i, letter) in said.chars().enumerate() {
        let Some(raster) = get_raster(letter, weight, SIZE) else { continue };
        for (dy, line) in raster.rows().enumerate() {
            for (dx, ink) in line.iter().enumerate() {
                let at = (x + i as u32 * step + dx as u32, y + dy as u32);
                if let Some(pixel) = onto.get_pixel_mut_checked(at.0, at.1) {
                    let mixed = |c: usize| {
                        let (below, above, t) =
                            (u32::from(pixel.0[c]), u32::from(colour[c]), u32::from(*ink));
                        ((below * (255 - t) + above * t + 127) / 255) as u8
                    };
                    pixel.0 = [mixed(0), mixed(1), mixed(2)];
                }
            }
        }
    }
}

/// `most` of `n` indices, evenly spread, both ends among them.
fn spread(n: usize, most: usize) -> Vec<usize> {
    if n <= most {
        return (0..n).collect();
    }
    (0..most).map(|i| (i * (n - 1) + (most - 1) / 2) / (most - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_are_even_and_hold_both_ends() {
        assert_eq!(spread(3, 5), [0, 1, 2]);
        assert_eq!(spread(9, 5), [0, 2, 4, 6, 8]);
        let many = spread(5000, 16);
        assert!(
            many.len() == 16
                && many[0] == 0
                && many[15] == 4999
                && many.windows(2).all(|w| w[1] - w[0] > 300)
        );
    }

    #[test]
    fn pictures_keep_their_pixels_or_are_reduced() {
        let mut small = RgbImage::from_pixel(3, 2, Rgb([10; 3]));
        small.put_pixel(2, 1, Rgb([200; 3]));
        let big = fitted(small);
        assert_eq!(big.dimensions(), (159, 106));
        assert!(big.pixels().all(|p| p.0 == [10; 3] || p.0 == [200; 3]));
        assert_eq!(big.pixels().filter(|p| p.0[0] == 200).count(), 53 * 53);
        let reduced = fitted(RgbImage::from_pixel(1000, 500, Rgb([77; 3])));
        assert_eq!(reduced.dimensions(), (160, 80));
        assert!(reduced.pixels().all(|p| p.0 == [77; 3]));
    }

    #[test]
    fn letters_are_drawn_where_they_are_asked_for() {
        let blank = || RgbImage::from_pixel(40, 20, Rgb([255; 3]));
        let mut drawn = blank();
        text(&mut drawn, 8, 0, "I", FontWeight::Regular, [0, 0, 255]);
        let width = get_raster_width(FontWeight::Regular, SIZE) as u32;
        for (x, _, p) in drawn.enumerate_pixels() {
            assert!(p.0[2] == 255 && ((8..8 + width).contains(&x) || p.0 == [255; 3]));
        }
        assert!(drawn.pixels().any(|p| p.0[0] < 60));
        let mut outside = blank();
        text(&mut outside, 39, 19, "MM", FontWeight::Regular, INK);
        assert_eq!(clipped("λ = −1.5 é", 20), "? = -1.5 é");
        assert_eq!(clipped("a long caption", 8), "a long..");
    }
}
