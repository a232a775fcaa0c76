//! A series as an animation that runs forth and back: GIF, which everything shows, or APNG, which loses nothing.

use crate::figures::byte;
use gif::{Encoder, Frame, Repeat};
use png::{BitDepth, ColorType};
use shiftlens_api::{Error, Images, Result};

/// One frame in hundredths of a second: 8.3 pictures per second.
const DELAY: u16 = 12;
/// The two ends stand still a little longer.
const DELAY_END: u16 = 48;

/// Encodes `[S, C, H, W]` as an endless GIF of 2 S - 2 frames (one for a single picture).
///
/// All frames share one palette, so that nothing flickers that does not change. Grey pictures keep every value; colour
/// pictures keep every colour while there are at most 256, else a palette is fitted to all frames together (NeuQuant).
pub(crate) fn gif(series: &Images) -> Result<Vec<u8>> {
    let (n, (h, w)) = (series.len(), series.size());
    let side = |v: usize| u16::try_from(v).map_err(|_| too_large(series));
    let (height, width) = (side(h)?, side(w)?);
    let (palette, pixels) = if series.channels() == 1 {
        let palette = (0..=255u8).flat_map(|v| [v; 3]).collect();
        (palette, series.as_slice().iter().map(|v| byte(*v)).collect())
    } else {
        quantised(series)?
    };
    let mut out = Vec::new();
    let failed = |e: gif::EncodingError| Error::component("animation", e);
    {
        let mut encoder = Encoder::new(&mut out, width, height, &palette).map_err(failed)?;
        encoder.set_repeat(Repeat::Infinite).map_err(failed)?;
        for (i, delay) in frames(n) {
            let buffer = pixels[i * h * w..(i + 1) * h * w].into();
            encoder
                .write_frame(&Frame { width, height, delay, buffer, ..Frame::default() })
                .map_err(failed)?;
        }
    }
    Ok(out)
}

/// Encodes `[S, C, H, W]` as an endless APNG of the same frames as [`gif`], with 8 bits for each channel and every colour
/// kept.
pub(crate) fn apng(series: &Images) -> Result<Vec<u8>> {
    let failed = |e: png::EncodingError| Error::component("animation", e);
    let [n, c, h, w] = series.shape();
    let side = |v: usize| u32::try_from(v).map_err(|_| too_large(series));
    let mut out = Vec::new();
    {
        let mut encoder = png::Encoder::new(&mut out, side(w)?, side(h)?);
        encoder.set_color(if c == 1 { ColorType::Grayscale } else { ColorType::Rgb });
        encoder.set_depth(BitDepth::Eight);
        encoder.set_animated(side(frames(n).count())?, 0).map_err(failed)?;
        encoder.set_frame_delay(DELAY_END, 100).map_err(failed)?;
        let mut writer = encoder.write_header().map_err(failed)?;
        for (i, delay) in frames(n) {
            let image = series.image(i);
            let pixels: Vec<u8> =
                (0..h * w).flat_map(|p| (0..c).map(move |c| byte(image[c * h * w + p]))).collect();
            writer.set_frame_delay(delay, 100).map_err(failed)?;
            writer.write_image_data(&pixels).map_err(failed)?;
        }
        writer.finish().map_err(failed)?;
    }
    Ok(out)
}

/// Indices of the pictures in the order of the frames, each with its delay.
fn frames(n: usize) -> impl Iterator<Item = (usize, u16)> {
    let order = (0..n).chain((1..n.saturating_sub(1)).rev());
    order.map(move |i| (i, if i == 0 || i + 1 == n { DELAY_END } else { DELAY }))
}

fn too_large(series: &Images) -> Error {
    let [n, _, h, w] = series.shape();
    Error::Unsupported(format!(
        "animation: {n} pictures of {h}x{w} are too large for an animation; leave \"gif\" and \"apng\" out of [report] \
         formats"
    ))
}

/// A palette for all pictures of an RGB series, and the index of every pixel, `[S, H, W]`.
fn quantised(series: &Images) -> Result<(Vec<u8>, Vec<u8>)> {
    let (h, w) = series.size();
    let plane = h * w;
    let colours: Vec<u8> = (0..series.len())
        .flat_map(|i| {
            let image = series.image(i);
            (0..plane).flat_map(move |p| [0, 1, 2].map(|c| byte(image[c * plane + p])))
        })
        .collect();
    // The quantiser does not look at neighbourhoods: the pixels may come as rows of any length. The last row is filled
    // up with the last colour, which adds no colour to the palette.
    let width = 4096u16;
    let rows = (series.len() * plane).div_ceil(usize::from(width));
    let last: [u8; 3] = colours[colours.len() - 3..].try_into().expect("three channels");
    let mut padded = colours;
    while padded.len() < rows * usize::from(width) * 3 {
        padded.extend(last);
    }
    let height = rows.try_into().map_err(|_| too_large(series))?;
    // The palette is fitted to every `speed`-th pixel: to all of a small series, to some 200 000 of a large one.
    let speed = (series.len() * plane / 200_000).clamp(1, 30) as i32;
    let frame = Frame::from_rgb_speed(width, height, &padded, speed);
    let mut pixels = frame.buffer.into_owned();
    pixels.truncate(series.len() * plane);
    Ok((frame.palette.unwrap_or_default(), pixels))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(bytes).unwrap();
        let mut frames = Vec::new();
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            let rgb = frame.buffer.chunks(4).flat_map(|p| p[..3].to_vec()).collect();
            frames.push((frame.delay, rgb));
        }
        assert_eq!(decoder.repeat(), Repeat::Infinite);
        frames
    }

    #[test]
    fn grey_series_run_forth_and_back_without_loss() {
        let values: Vec<f32> = (0..4 * 64).map(|v| v as f32 / 255.0).collect();
        let series = Images::new([4, 1, 8, 8], values).unwrap();
        let frames = decode(&gif(&series).unwrap());
        assert_eq!(frames.len(), 6);
        let order: Vec<u8> = frames.iter().map(|f| f.1[0]).collect();
        assert_eq!(order, [0, 64, 128, 192, 128, 64]);
        assert_eq!(frames[1].1[3 * 5], 69);
        assert_eq!(frames.iter().map(|f| f.0).collect::<Vec<_>>(), [48, 12, 12, 48, 12, 12]);
    }

    #[test]
    fn apng_keeps_every_value_and_the_same_frames() {
        for c in [1, 3] {
            let values: Vec<f32> = (0..4 * c * 64).map(|v| (v * 37 % 256) as f32 / 255.0).collect();
            let series = Images::new([4, c, 8, 8], values).unwrap();
            let bytes = apng(&series).unwrap();
            let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
            let control = *reader.info().animation_control().unwrap();
            assert_eq!((control.num_frames, control.num_plays), (6, 0));
            let mut frame = vec![0; reader.output_buffer_size().unwrap()];
            for (k, i) in [0, 1, 2, 3, 2, 1].into_iter().enumerate() {
                reader.next_frame(&mut frame).unwrap();
                let timing = reader.info().frame_control().unwrap();
                let delay = if k % 3 == 0 { 48 } else { 12 };
                assert_eq!((timing.delay_num, timing.delay_den), (delay, 100), "frame {k}");
                for (at, v) in frame.iter().enumerate() {
                    assert_eq!(*v, byte(series.image(i)[at % c * 64 + at / c]), "frame {k}, byte {at}");
                }
            }
            assert!(reader.next_frame(&mut frame).is_err(), "no seventh frame");
        }
        let one = Images::new([1, 1, 1, 1], vec![0.5]).unwrap();
        assert!(png::Decoder::new(std::io::Cursor::new(apng(&one).unwrap())).read_info().is_ok());
    }

    #[test]
    fn short_series_and_colours() {
        let one = Images::new([1, 1, 1, 1], vec![0.5]).unwrap();
        assert_eq!(decode(&gif(&one).unwrap()).len(), 1);
        let two = Images::new([2, 3, 1, 1], vec![1.0, 0.0, 0.2, 0.0, 0.4, 1.0]).unwrap();
        let frames = decode(&gif(&two).unwrap());
        assert_eq!(frames.iter().map(|f| f.1.clone()).collect::<Vec<_>>(), [[255, 0, 51], [0, 102, 255]]);
    }

    #[test]
    fn many_colours_share_one_palette_and_stay_close() {
        // Stained tissue: each pixel absorbs some haematoxylin and some eosin (Ruifrok and Johnston 2001).
        let (s, side) = (3, 40);
        let (haematoxylin, eosin) = ([0.65, 0.70, 0.29], [0.07, 0.99, 0.11]);
        let mut values: Vec<f32> = Vec::new();
        for i in 0..s {
            for (h, e) in haematoxylin.into_iter().zip(eosin) {
                for p in 0..side * side {
                    let (y, x) = ((p / side) as f32 / side as f32, (p % side) as f32 / side as f32);
                    values.push((-(h * x * (1.0 + 0.2 * i as f32) + e * y)).exp());
                }
            }
        }
        let series = Images::new([s, 3, side, side], values).unwrap();
        let bytes = gif(&series).unwrap();
        assert_eq!(bytes, gif(&series).unwrap(), "the same series gives the same file");
        let frames = decode(&bytes);
        let mut sum = 0.0;
        for (i, (_, rgb)) in frames.iter().take(s).enumerate() {
            let plane = side * side;
            for p in 0..plane {
                for c in 0..3 {
                    sum += (f32::from(rgb[3 * p + c]) - 255.0 * series.image(i)[c * plane + p]).abs();
                }
            }
        }
        let mean = sum / (s * side * side * 3) as f32;
        assert!(mean < 4.0, "mean error {mean} of 255");
    }
}
