//! One pass through the network, block by block.

use super::layers::Styled;
use super::style::{LayerStyle, Styles};
use super::{Level, See, Space, Synthesis};
use crate::kernels::aligned::Aligned;
use crate::kernels::fast::{Input, Workspace};
use crate::kernels::image::{ToImage, combine, double_maps, to_image};
use crate::kernels::team::Team;
use crate::kernels::tiles::{BLOCK, Epilogue};
use std::ops::Range;

/// Values of a block's maps that may be in flight; batches that are larger are cut.
const IN_FLIGHT: usize = 8 << 20;

pub(super) struct Pass<'a> {
    pub net: &'a Synthesis,
    pub team: &'a Team<'a>,
    pub styles: &'a Styles,
    pub noise: bool,
    pub see: Option<&'a See<'a>>,
    /// All images.
    pub out: &'a mut [f32],
}

/// Maps of the images at work: one each, or one for all of an edit's.
#[derive(Clone, Copy)]
struct Maps<'a> {
    data: &'a [f32],
    n: usize,
}

/// The images among `range` of values that are either one for all or one each.
fn part(all: &[f32], images: usize, range: &Range<usize>) -> Range<usize> {
    let size = all.len() / images;
    range.start * size..range.end * size
}

impl LayerStyle {
    /// True where all images share this style, as a single image does.
    fn shared(&self, width: usize) -> bool {
        self.style.len() == width
    }
}

impl Pass<'_> {
    pub(super) fn run(&mut self, space: &mut Space) {
        let images = self.styles.images;
        let constant = &self.net.constant;
        let edit = !self.styles.steps.is_empty();
        let n = if edit { 1 } else { images };
        let mut x: Vec<f32> = (0..n).flat_map(|_| constant.iter().copied()).collect();
        if let Some(input) = &self.net.input {
            for (x, w) in
                x.chunks_exact_mut(constant.len()).zip(self.styles.first.chunks_exact(self.styles.dim))
            {
                input.add(w, x);
            }
        }
        let Space { work, levels } = space;
        self.block(0, work, levels, Maps { data: &x, n }, Maps { data: &[], n: 0 }, 0..images);
    }

    /// Runs `range` of the images from block `b` on. `x` and `image` hold as many, or one for all.
    fn block(
        &mut self,
        b: usize,
        work: &mut Workspace,
        levels: &mut [Level],
        x: Maps<'_>,
        image: Maps<'_>,
        range: Range<usize>,
    ) {
        let (net, styles) = (self.net, self.styles);
        let Some((level, deeper)) = levels.split_first_mut() else { return };
        let (block, style) = (&net.blocks[b], &styles.blocks[b]);
        let r = block.resolution;
        let size = block.conv1.outputs.next_multiple_of(BLOCK) * r * r;
        let width = |l: &Styled| l.inputs.next_multiple_of(BLOCK);
        // An edit's images part at the first layer whose style differs.
        let apart0 = block.conv0.as_ref().is_some_and(|l| !style.conv0.shared(width(l)));
        let apart = apart0 || !style.conv1.shared(width(&block.conv1));
        let picture_width =
            block.picture.as_ref().map_or(0, |p| p.inputs.next_multiple_of(BLOCK) * net.config.channels);
        let pictures_apart = block.picture.is_some() && style.picture.len() != picture_width;
        let one = x.n == 1 && !apart && !(pictures_apart && range.len() > 1);
        let group = if one { range.len() } else { (IN_FLIGHT / size).max(1) };
        for from in range.clone().step_by(group) {
            let part_of = from..(from + group).min(range.end);
            let local = from - range.start..part_of.end - range.start;
            let inner = if x.n == 1 { 0..1 } else { local.clone() };
            let x = Maps { data: &x.data[part(x.data, x.n, &inner)], n: inner.len() };
            let inner = if image.n == 1 { 0..1 } else { local };
            let before = if image.n == 0 { &[][..] } else { &image.data[part(image.data, image.n, &inner)] };
            let n = self.features(b, work, level, x, &part_of);
            let maps = &level.second[..n * size];
            let mut images = 0;
            if let Some(p) = &block.picture {
                let count = part_of.len();
                images = if n == 1 && !pictures_apart { 1 } else { count };
                let area = net.config.channels * r * r;
                level.image.reserve(images * area);
                let weights = if pictures_apart {
                    &style.picture[part_of.start * picture_width..part_of.end * picture_width]
                } else {
                    &style.picture
                };
                let t = ToImage {
                    isa: net.options.isa,
                    x: maps,
                    images,
                    side: r,
                    inputs: p.inputs.next_multiple_of(BLOCK),
                    channels: net.config.channels,
                    weights,
                    bias: &p.bias,
                    limit: p.limit,
                    before: (!before.is_empty()).then_some(before),
                };
                to_image(self.team, &t, &mut level.image[..images * area]);
            }
            let area = net.config.channels * r * r;
            self.show(r, maps, &level.image[..images * area]);
            if deeper.is_empty() {
                let pictures = &level.image[..images * area];
                for (i, out) in part_of.enumerate() {
                    let i = if images == 1 { 0 } else { i };
                    self.out[out * area..(out + 1) * area]
                        .copy_from_slice(&pictures[i * area..(i + 1) * area]);
                }
            } else {
                let maps = Maps { data: maps, n };
                let image = Maps { data: &level.image[..images * area], n: images };
                self.block(b + 1, work, deeper, maps, image, part_of);
            }
        }
    }

    /// Shows a block's results, planes first.
    fn show(&self, r: usize, maps: &[f32], image: &[f32]) {
        let Some(see) = self.see else { return };
        let area = r * r;
        let channels = self.net.config.width(r);
        let planes: Vec<f32> = (0..channels * area)
            .map(|i| maps[(i / area / BLOCK * area + i % area) * BLOCK + i / area % BLOCK])
            .collect();
        see(r, &planes, image);
    }

    /// Both convolutions of block `b`; returns how many maps `level.second` then holds: one each, or one for all.
    fn features(
        &self,
        b: usize,
        work: &mut Workspace,
        level: &mut Level,
        x: Maps<'_>,
        range: &Range<usize>,
    ) -> usize {
        let (block, style) = (&self.net.blocks[b], &self.styles.blocks[b]);
        let Level { first, past, second, pair, .. } = level;
        let r = block.resolution;
        let Some(conv0) = &block.conv0 else {
            return self.styled(work, &block.conv1, &style.conv1, x, range, None, pair, second);
        };
        let n = self.styled(work, conv0, &style.conv0, x, range, None, pair, first);
        let size = conv0.outputs.next_multiple_of(BLOCK) * r * r;
        let mut add = None;
        if let Some(conv) = &block.past {
            // The 1x1 convolution and the doubling commute; at the smaller side it costs a quarter.
            let last = if style.conv1.shared(size / (r * r)) { n } else { range.len() };
            past.reserve(last * size + x.n * size / 4);
            let (full, small) = past.split_at_mut(last * size);
            let small = &mut small[..x.n * size / 4];
            let input = Input { data: x.data, n: x.n, height: r / 2, width: r / 2, style: None };
            conv.forward(self.team, work, input, &Epilogue::linear(), small);
            double_maps(self.team, self.net.options.isa, small, r / 2, &mut full[..x.n * size]);
            // The sum wants as many maps on both ways.
            (x.n..last).for_each(|i| full.copy_within(..size, i * size));
            add = Some(&*full);
        }
        let maps = Maps { data: &first[..n * size], n };
        self.styled(work, &block.conv1, &style.conv1, maps, range, add, pair, second)
    }

    /// One modulated convolution into `y`; returns how many maps it made.
    #[expect(clippy::too_many_arguments, reason = "buffers and their owners")]
    fn styled(
        &self,
        work: &mut Workspace,
        layer: &Styled,
        style: &LayerStyle,
        x: Maps<'_>,
        range: &Range<usize>,
        add: Option<&[f32]>,
        pair: &mut Aligned,
        y: &mut Aligned,
    ) -> usize {
        let (c, k) = (layer.inputs.next_multiple_of(BLOCK), layer.outputs.next_multiple_of(BLOCK));
        let area = layer.noise.len();
        let shared = style.shared(c);
        let n = if shared { x.n } else { range.len() };
        let rows = if shared { 0..1 } else { range.clone() };
        let epilogue = Epilogue {
            factors: Some(&style.demod[rows.start * k..rows.end * k]),
            bias: Some(&layer.bias),
            noise: self.noise.then_some(&layer.noise),
            high: layer.high,
            low: layer.low,
            limit: layer.limit,
            add,
        };
        y.reserve(n * k * area);
        let y = &mut y[..n * k * area];
        let input =
            |data, n, style| Input { data, n, height: layer.side, width: layer.side, style: Some(style) };
        if x.n == n {
            let style = &style.style[rows.start * c..rows.end * c];
            layer.conv.forward(self.team, work, input(x.data, n, style), &epilogue, y);
            return n;
        }
        // One input, an edited style: conv(x (s + t ds)) = conv(x s) + t conv(x ds), where s is the style at t = 0.
        let steps = &self.styles.steps[rows];
        let twice: Vec<f32> = x.data.iter().chain(x.data).copied().collect();
        pair.reserve(2 * k * area);
        let pair = &mut pair[..2 * k * area];
        layer.conv.forward(self.team, work, input(&twice, 2, &style.line), &Epilogue::linear(), pair);
        combine(self.team, self.net.options.isa, pair.split_at(k * area), k, steps, &epilogue, y);
        n
    }
}
