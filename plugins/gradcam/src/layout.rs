//! How a layer's tensor is read as a map of channels.
//!
//! | tensor | networks | read as |
//! | --- | --- | --- |
//! | `[N, K, h, w]` | convolutional, as ONNX has them | a map, channels first |
//! | `[N, h, w, K]` | Swin and other channels-last layers | a map, channels last |
//! | `[N, T, K]` | vision transformers | T = n + h * w tokens, row by row, after n that stand for no place |
//!
//! What the shape alone leaves open is settled by the aspect ratio of the image that the network sees, H : W. Four
//! dimensions are channels first unless only the other reading has that ratio. Tokens have no or one leading token
//! and fill a grid of that ratio, or a square; where two readings are possible, or none, nothing is guessed: the
//! error says which parameters settle it.

use crate::api::{Error, Result, Tensor};

/// The axis order of a layer with four dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `[N, K, h, w]`
    ChannelsFirst,
    /// `[N, h, w, K]`
    ChannelsLast,
}

/// What the user says about layers' tensors; `None` is read off the shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// `params.layout`
    pub order: Option<Order>,
    /// `params.grid`: rows and columns of tokens.
    pub grid: Option<(usize, usize)>,
    /// `params.leading-tokens`: tokens before the grid's: class token, registers.
    pub leading: Option<usize>,
}

/// Where the values of a layer with K channels and h * w positions lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// N: images.
    pub images: usize,
    /// K: channels.
    pub channels: usize,
    /// h.
    pub height: usize,
    /// w.
    pub width: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `[N, K, P]`
    Planes,
    /// `[N, leading + P, K]`
    Rows { leading: usize },
}

impl Layout {
    /// Reads the layout of layer `layer` off `shape`. `aspect` is (H, W) of the images that the network sees.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if `shape` has no spatial extent or more than one reading; [`Error::Invalid`] if
    /// `reading` does not go with it.
    pub fn of(layer: &str, shape: &[usize], reading: &Reading, aspect: (usize, usize)) -> Result<Self> {
        let layout = |images, channels, (height, width), kind| Self { images, channels, height, width, kind };
        match *shape {
            [n, a, b, c] if a * b * c > 0 => {
                if reading.grid.is_some() || reading.leading.is_some() {
                    return Err(Error::Invalid(format!(
                        "gradcam: params.grid and params.leading-tokens are for tokens [N, T, K]; layer `{layer}` has \
                         shape {shape:?}"
                    )));
                }
                let order = reading.order.unwrap_or(if similar((a, b), aspect) && !similar((b, c), aspect) {
                    Order::ChannelsLast
                } else {
                    Order::ChannelsFirst
                });
                Ok(match order {
                    Order::ChannelsFirst => layout(n, a, (b, c), Kind::Planes),
                    Order::ChannelsLast => layout(n, c, (a, b), Kind::Rows { leading: 0 }),
                })
            }
            [n, tokens, channels] if tokens * channels > 0 => {
                if reading.order.is_some() {
                    return Err(Error::Invalid(format!(
                        "gradcam: params.layout is for layers of four dimensions; layer `{layer}` has shape \
                         {shape:?}, read as tokens [N, T, K]"
                    )));
                }
                let (leading, grid) = tokens_as_grid(layer, tokens, reading, aspect)?;
                Ok(layout(n, channels, grid, Kind::Rows { leading }))
            }
            _ => Err(Error::Unsupported(format!(
                "gradcam: layer `{layer}` has shape {shape:?}; a class activation map needs [N, K, h, w], \
                 [N, h, w, K] or tokens [N, T, K]; name another layer in params.layer"
            ))),
        }
    }

    /// P = h * w.
    pub fn positions(&self) -> usize {
        self.height * self.width
    }

    /// Values of one image.
    pub fn row(&self) -> usize {
        match self.kind {
            Kind::Planes => self.channels * self.positions(),
            Kind::Rows { leading } => (leading + self.positions()) * self.channels,
        }
    }

    /// Image `i` of a tensor of this layout as `[K, P]`.
    pub fn planes(&self, tensor: &Tensor, i: usize) -> Vec<f64> {
        let (k, p, row) = (self.channels, self.positions(), self.row());
        let image = &tensor.as_slice()[i * row..(i + 1) * row];
        match self.kind {
            Kind::Planes => image.iter().map(|v| f64::from(*v)).collect(),
            Kind::Rows { leading } => {
                let mut planes = vec![0.0; k * p];
                for (position, values) in image[leading * k..].chunks_exact(k).enumerate() {
                    for (channel, v) in values.iter().enumerate() {
                        planes[channel * p + position] = f64::from(*v);
                    }
                }
                planes
            }
        }
    }

    /// Sets channel `channel` of one image's values to 0, in leading tokens too.
    pub fn silence(&self, image: &mut [f32], channel: usize) {
        match self.kind {
            Kind::Planes => image[channel * self.positions()..(channel + 1) * self.positions()].fill(0.0),
            Kind::Rows { .. } => image.iter_mut().skip(channel).step_by(self.channels).for_each(|v| *v = 0.0),
        }
    }
}

/// True if a map of `grid` has the aspect ratio of images of `aspect`, as far as whole numbers can.
fn similar(grid: (usize, usize), aspect: (usize, usize)) -> bool {
    let near = |a: usize, b: usize, to: usize, from: usize| {
        (a as f64 * to as f64 / from as f64 - b as f64).abs() < 1.0
    };
    near(grid.0, grid.1, aspect.1, aspect.0) && near(grid.1, grid.0, aspect.0, aspect.1)
}

/// The grid that `n` tokens fill with the aspect ratio of (h, w) images exactly.
fn grid_of(n: usize, (h, w): (usize, usize)) -> Option<(usize, usize)> {
    // rows / columns = h / w and rows * columns = n give rows^2 = n h / w.
    let rows = ((n * h) as f64 / w as f64).sqrt().round() as usize;
    (rows > 0 && n.is_multiple_of(rows) && rows * w == n / rows * h).then(|| (rows, n / rows))
}

/// Leading tokens and grid of `tokens` tokens.
fn tokens_as_grid(
    layer: &str,
    tokens: usize,
    reading: &Reading,
    aspect: (usize, usize),
) -> Result<(usize, (usize, usize))> {
    let invalid =
        |why: String| Error::Invalid(format!("gradcam: layer `{layer}` has {tokens} tokens; {why}"));
    let mut found: Vec<(usize, (usize, usize))> = Vec::new();
    match (reading.leading, reading.grid) {
        (leading, Some((h, w))) => {
            let rest = tokens.checked_sub(h * w).filter(|rest| leading.is_none_or(|n| n == *rest));
            return rest.map(|rest| (rest, (h, w))).ok_or_else(|| {
                let leading = leading.map_or(String::new(), |n| format!(" and params.leading-tokens = {n}"));
                invalid(format!(
                    "params.grid = [{h}, {w}]{leading} make {} of them",
                    h * w + reading.leading.unwrap_or(0)
                ))
            });
        }
        (Some(n), None) if n >= tokens => {
            return Err(invalid(format!("params.leading-tokens = {n} leave none for a map")));
        }
        (leading, None) => {
            for n in leading.map_or(0..=1, |n| n..=n).filter(|n| *n < tokens) {
                let grids = [grid_of(tokens - n, aspect), grid_of(tokens - n, (1, 1))];
                found.extend(grids.into_iter().flatten().map(|grid| (n, grid)));
            }
        }
    }
    found.dedup();
    match found[..] {
        [one] => Ok(one),
        [] => {
            // Registers: DINOv2 has four behind the class token.
            let more = (2..=16.min(tokens - 1)).find_map(|n| grid_of(tokens - n, aspect).map(|g| (n, g)));
            let example = more.map_or(String::new(), |(n, (h, w))| {
                format!(" (perhaps leading-tokens = {n}, which leave a grid of {h} x {w})")
            });
            Err(Error::Unsupported(format!(
                "gradcam: layer `{layer}` has {tokens} tokens, which fill no square and no grid of the image's aspect \
                 ratio {} : {}, with or without one class token; set params.grid = [rows, columns] or \
                 params.leading-tokens{example}",
                aspect.0, aspect.1
            )))
        }
        _ => {
            let ways: Vec<String> =
                found.iter().map(|(n, (h, w))| format!("{n} leading and a grid of {h} x {w}")).collect();
            Err(Error::Unsupported(format!(
                "gradcam: layer `{layer}` has {tokens} tokens, which may be {}; set params.grid = [rows, columns]",
                ways.join(", or ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUARE: (usize, usize) = (224, 224);

    fn automatic(shape: &[usize], aspect: (usize, usize)) -> Result<Layout> {
        Layout::of("x", shape, &Reading::default(), aspect)
    }

    fn grid(layout: &Layout) -> (usize, usize, usize) {
        (layout.channels, layout.height, layout.width)
    }

    #[test]
    fn tokens_become_a_grid_without_the_leading_ones() {
        for (tokens, aspect, leading, h, w) in [
            (197, SQUARE, 1, 14, 14),
            (49, SQUARE, 0, 7, 7),
            (1, SQUARE, 0, 1, 1),
            (2, SQUARE, 1, 1, 1),
            (1 + 24 * 8, (384, 128), 1, 24, 8),
            (24 * 8, (384, 128), 0, 24, 8),
        ] {
            let layout = automatic(&[2, tokens, 3], aspect).unwrap();
            assert_eq!((grid(&layout), layout.kind), ((3, h, w), Kind::Rows { leading }), "{tokens}");
        }
        let tensor = Tensor::new(vec![2, 5, 2], (0..20).map(|v| v as f32).collect()).unwrap();
        let layout = automatic(&[2, 5, 2], SQUARE).unwrap();
        assert_eq!(layout.planes(&tensor, 1), [12.0, 14.0, 16.0, 18.0, 13.0, 15.0, 17.0, 19.0]);
    }

    #[test]
    fn ambiguous_tokens_are_refused_and_settled_by_parameters() {
        // 1 + 24 * 12 = 17 * 17.
        let wide = (384, 192);
        let message = automatic(&[1, 289, 3], wide).unwrap_err().to_string();
        for word in ["0 leading and a grid of 17 x 17", "1 leading and a grid of 24 x 12", "params.grid"] {
            assert!(message.contains(word), "{message}");
        }
        let with = |reading: Reading, tokens: usize| Layout::of("x", &[1, tokens, 3], &reading, wide);
        let layout = with(Reading { grid: Some((24, 12)), ..Reading::default() }, 289).unwrap();
        assert_eq!((grid(&layout), layout.kind), ((3, 24, 12), Kind::Rows { leading: 1 }));
        let layout = with(Reading { leading: Some(1), ..Reading::default() }, 289).unwrap();
        assert_eq!(grid(&layout), (3, 24, 12));
        // DINOv2 with registers: 1 + 4 + 16 * 16.
        let message = automatic(&[1, 261, 3], SQUARE).unwrap_err().to_string();
        assert!(message.contains("leading-tokens = 5") && message.contains("16 x 16"), "{message}");
        let reading = Reading { leading: Some(5), ..Reading::default() };
        let layout = Layout::of("x", &[1, 261, 3], &reading, SQUARE).unwrap();
        assert_eq!((grid(&layout), layout.kind), ((3, 16, 16), Kind::Rows { leading: 5 }));
        for (reading, words) in [
            (Reading { grid: Some((5, 5)), ..Reading::default() }, "make 25 of them"),
            (Reading { grid: Some((2, 4)), leading: Some(3), ..Reading::default() }, "make 11 of them"),
            (Reading { leading: Some(9), ..Reading::default() }, "leave none"),
        ] {
            let message = with(reading, 9).unwrap_err().to_string();
            assert!(message.contains(words) && message.contains("9 tokens"), "{message}");
        }
    }

    #[test]
    fn four_dimensions_are_channels_first_unless_only_the_other_reading_fits_the_image() {
        for (shape, aspect, expected) in [
            ([1, 512, 7, 7], SQUARE, (512, 7, 7)),
            ([1, 7, 7, 768], SQUARE, (768, 7, 7)),
            ([1, 8, 8, 8], SQUARE, (8, 8, 8)),
            ([1, 64, 15, 20], (480, 640), (64, 15, 20)),
            ([1, 15, 20, 64], (480, 640), (64, 15, 20)),
            ([1, 32, 14, 19], (480, 640), (32, 14, 19)),
            // Neither reading fits: the interface's own order.
            ([1, 16, 1, 32], (32, 128), (16, 1, 32)),
            ([1, 10, 1, 1], SQUARE, (10, 1, 1)),
        ] {
            assert_eq!(grid(&automatic(&shape, aspect).unwrap()), expected, "{shape:?}");
        }
        let reading = Reading { order: Some(Order::ChannelsLast), ..Reading::default() };
        let layout = Layout::of("x", &[1, 2, 1, 2], &reading, (2, 1)).unwrap();
        assert_eq!(grid(&layout), (2, 2, 1));
        let tensor = Tensor::new(vec![1, 2, 1, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(layout.planes(&tensor, 0), [1.0, 3.0, 2.0, 4.0]);
    }

    #[test]
    fn a_channel_is_silenced_in_every_layout() {
        let mut row = [1.0, 2.0, 3.0, 4.0];
        automatic(&[1, 2, 1, 2], (1, 2)).unwrap().silence(&mut row, 1);
        assert_eq!(row, [1.0, 2.0, 0.0, 0.0]);
        let mut row = [1.0, 2.0, 3.0, 4.0];
        automatic(&[1, 2, 2], SQUARE).unwrap().silence(&mut row, 1);
        assert_eq!(row, [1.0, 0.0, 3.0, 0.0]);
    }

    #[test]
    fn shapes_without_extent_and_parameters_that_do_not_apply_are_refused() {
        for shape in [&[1, 10][..], &[1, 0, 3], &[1, 0, 4, 4], &[1, 2, 3, 4, 5]] {
            let message = Layout::of("fc", shape, &Reading::default(), SQUARE).unwrap_err().to_string();
            assert!(message.contains("`fc`") && message.contains("params.layer"), "{message}");
        }
        let message = automatic(&[1, 7, 3], SQUARE).unwrap_err().to_string();
        assert!(message.contains("7 tokens") && message.contains("params.grid"), "{message}");
        let reading = Reading { leading: Some(1), ..Reading::default() };
        assert!(Layout::of("x", &[1, 2, 3, 3], &reading, SQUARE).is_err());
        let reading = Reading { order: Some(Order::ChannelsLast), ..Reading::default() };
        assert!(Layout::of("x", &[1, 4, 3], &reading, SQUARE).is_err());
    }
}
