//! Sizes of the networks.

use candle_core::{Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Feature maps at a resolution: `min(base / resolution, max)`.
fn width(base: usize, max: usize, resolution: usize) -> usize {
    (base / resolution).clamp(1, max)
}

/// Resolutions 4, 8, .., `resolution`.
fn resolutions(resolution: usize) -> Vec<usize> {
    (2..=resolution.ilog2()).map(|e| 1 << e).collect()
}

/// Style inputs of a generator: two per resolution.
fn num_ws(resolution: usize) -> usize {
    2 * resolution.ilog2() as usize - 2
}

fn check_resolution(resolution: usize) -> Result<()> {
    if !(8..=1024).contains(&resolution) || !resolution.is_power_of_two() {
        bail!("resolution {resolution}: expected a power of two from 8 to 1024");
    }
    Ok(())
}

/// How the blocks of a network are joined (Karras et al. 2020, section 4.1 and figure 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// One chain of convolutions; the image is made after, or read before, the largest resolution only.
    Orig,
    /// Output skips in G: every block adds its image to the doubled one of the block before. Input skips in D: every
    /// block also reads the image, halved to its resolution.
    Skip,
    /// Residual blocks: a 1x1 convolution leads past the two others, and the sum is scaled by `1 / sqrt(2)`.
    Resnet,
}

impl Architecture {
    /// All of them, the default of generators first.
    pub const ALL: [Self; 3] = [Self::Skip, Self::Resnet, Self::Orig];

    /// As in files and in the reference: `orig`, `skip`, `resnet`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Orig => "orig",
            Self::Skip => "skip",
            Self::Resnet => "resnet",
        }
    }
    fn skip() -> Self {
        Self::Skip
    }
    fn resnet() -> Self {
        Self::Resnet
    }
    // serde hands over a reference
    fn is_skip(&self) -> bool {
        *self == Self::Skip
    }
    fn is_resnet(&self) -> bool {
        *self == Self::Resnet
    }
}

/// What the block of 4x4 begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SynthesisInput {
    /// A learned constant (Karras et al. 2019, section 2).
    #[default]
    Constant,
    /// To the constant comes a linear map of the code's first row, 0 before training. Styles change channels and leave places
    /// alone; where things lie is slow to learn through them.
    Latent,
}

impl SynthesisInput {
    // serde hands over a reference
    fn is_constant(&self) -> bool {
        *self == Self::Constant
    }
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// Layers of a mapping network that does not say how many.
const MAPPING_LAYERS: usize = 8;

fn mapping_layers() -> usize {
    MAPPING_LAYERS
}

fn is_usual(layers: &usize) -> bool {
    *layers == MAPPING_LAYERS
}

fn check_channels(channels: usize) -> Result<()> {
    if !(1..=4).contains(&channels) {
        bail!("channels {channels}: expected 1 to 4");
    }
    Ok(())
}

fn check_widths(base: usize, max: usize, resolution: usize) -> Result<()> {
    if max == 0 {
        bail!("channel-max 0: expected at least 1");
    }
    if base < resolution {
        bail!(
            "channel-base {base}: expected at least the resolution, {resolution}, since the largest block has \
             channel-base / resolution feature maps"
        );
    }
    Ok(())
}

fn check_clamp(clamp: Option<f32>) -> Result<()> {
    match clamp {
        Some(c) if !(c > 0.0 && c.is_finite()) => bail!("conv-clamp {c}: expected a positive number"),
        _ => Ok(()),
    }
}

/// Sizes of a generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GeneratorConfig {
    /// Side of the images in pixels, a power of two.
    pub resolution: usize,
    /// Channels of the images.
    pub channels: usize,
    /// Size of z.
    pub z_dim: usize,
    /// D, size of w.
    pub w_dim: usize,
    /// Layers of the mapping network.
    pub mapping_layers: usize,
    /// Feature maps at resolution r are `channel-base / r`, but no more than `channel-max`.
    pub channel_base: usize,
    /// Most feature maps at any resolution.
    pub channel_max: usize,
    /// Largest magnitude of activations, for networks trained in half precision.
    #[serde(default)]
    pub conv_clamp: Option<f32>,
    /// How the blocks are joined.
    #[serde(default = "Architecture::skip", skip_serializing_if = "Architecture::is_skip")]
    #[schemars(extend("default" = Architecture::skip()))]
    pub architecture: Architecture,
    /// What the first block begins with.
    #[serde(default, skip_serializing_if = "SynthesisInput::is_constant")]
    pub input: SynthesisInput,
    /// Classes that images are conditioned on; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(extend("default" = 0))]
    pub label_dim: usize,
}

impl GeneratorConfig {
    /// Refuses sizes that make no network.
    ///
    /// # Errors
    /// The message names the size.
    pub fn check(&self) -> Result<()> {
        check_resolution(self.resolution)?;
        check_channels(self.channels)?;
        check_widths(self.channel_base, self.channel_max, self.resolution)?;
        check_clamp(self.conv_clamp)?;
        let sizes = [("z-dim", self.z_dim), ("w-dim", self.w_dim), ("mapping-layers", self.mapping_layers)];
        if let Some((name, _)) = sizes.iter().find(|(_, n)| *n == 0) {
            bail!("{name} 0: expected at least 1");
        }
        Ok(())
    }
    /// Feature maps at a resolution.
    pub fn width(&self, resolution: usize) -> usize {
        width(self.channel_base, self.channel_max, resolution)
    }
    /// Resolutions of the blocks.
    pub fn resolutions(&self) -> Vec<usize> {
        resolutions(self.resolution)
    }
    /// Whether the block of a resolution makes an image: each does with output skips, else only the last.
    pub fn has_to_image(&self, resolution: usize) -> bool {
        self.architecture == Architecture::Skip || resolution == self.resolution
    }
    /// Whether the block of a resolution has a 1x1 convolution past its others: those of residual networks that
    /// have a block before them.
    pub fn has_residual(&self, resolution: usize) -> bool {
        self.architecture == Architecture::Resnet && resolution > 4
    }
    /// Inputs of the mapping network's first layer: z and, of a class-conditional network, the embedded label of
    /// the size of w.
    pub fn mapping_inputs(&self) -> usize {
        self.z_dim + if self.label_dim > 0 { self.w_dim } else { 0 }
    }
    /// L, the number of style inputs: two per resolution.
    pub fn num_ws(&self) -> usize {
        num_ws(self.resolution)
    }
}

/// Sizes of a discriminator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiscriminatorConfig {
    /// Side of the images in pixels, a power of two.
    pub resolution: usize,
    /// Channels of the images.
    pub channels: usize,
    /// Feature maps at resolution r are `channel-base / r`, but no more than `channel-max`.
    pub channel_base: usize,
    /// Most feature maps at any resolution.
    pub channel_max: usize,
    /// Images per group of the minibatch standard deviation.
    pub mbstd_group: usize,
    /// Feature maps of the minibatch standard deviation; 0 leaves it out.
    pub mbstd_channels: usize,
    /// Largest magnitude of activations.
    #[serde(default)]
    pub conv_clamp: Option<f32>,
    /// How the blocks are joined.
    #[serde(default = "Architecture::resnet", skip_serializing_if = "Architecture::is_resnet")]
    #[schemars(extend("default" = Architecture::resnet()))]
    pub architecture: Architecture,
    /// Classes that images are judged against; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(extend("default" = 0))]
    pub label_dim: usize,
    /// Size of the space in which a class and an image are compared; by default the feature maps at 4x4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmap_dim: Option<usize>,
    /// Layers of the mapping network of labels.
    #[serde(default = "mapping_layers", skip_serializing_if = "is_usual")]
    #[schemars(extend("default" = MAPPING_LAYERS))]
    pub mapping_layers: usize,
}

impl DiscriminatorConfig {
    /// Refuses sizes that make no network.
    ///
    /// # Errors
    /// The message names the size.
    pub fn check(&self) -> Result<()> {
        check_resolution(self.resolution)?;
        check_channels(self.channels)?;
        check_widths(self.channel_base, self.channel_max, self.resolution)?;
        check_clamp(self.conv_clamp)?;
        if self.mbstd_group == 0 {
            bail!("mbstd-group 0: expected at least 1");
        }
        let last = self.width(4);
        if self.mbstd_channels > 0 && !last.is_multiple_of(self.mbstd_channels) {
            bail!(
                "mbstd-channels {}: expected a divisor of the {last} feature maps at 4x4",
                self.mbstd_channels
            );
        }
        if self.label_dim > 0 && (self.cmap_dim == Some(0) || self.mapping_layers == 0) {
            bail!("cmap-dim and mapping-layers: expected at least 1 where label-dim is not 0");
        }
        Ok(())
    }
    /// Feature maps at a resolution.
    pub fn width(&self, resolution: usize) -> usize {
        width(self.channel_base, self.channel_max, resolution)
    }
    /// Size of the space in which a class and an image are compared; 0 without classes.
    pub fn comparison_dim(&self) -> usize {
        match self.label_dim {
            0 => 0,
            _ => self.cmap_dim.unwrap_or_else(|| self.width(4)),
        }
    }
    /// Resolutions of the blocks before the last, from the largest down to 8.
    pub fn resolutions(&self) -> Vec<usize> {
        let mut r = resolutions(self.resolution);
        r.remove(0);
        r.reverse();
        r
    }
}

/// The space of codes that an encoder answers in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Space {
    /// W: one code for all style inputs.
    #[default]
    #[serde(rename = "w")]
    W,
    /// W+: a code for each style input (Abdal et al. 2019, arXiv 1904.03189).
    #[serde(rename = "w+")]
    WPlus,
}

impl Space {
    fn is_w(&self) -> bool {
        *self == Self::W
    }
    /// Rows of a code, for a generator of `num_ws` style inputs.
    pub fn rows(self, num_ws: usize) -> usize {
        match self {
            Self::W => 1,
            Self::WPlus => num_ws,
        }
    }
}

// serde hands over a reference
fn is_false(b: &bool) -> bool {
    !*b
}

/// Sizes of an encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EncoderConfig {
    /// Side of the images in pixels, a power of two.
    pub resolution: usize,
    /// Channels of the images.
    pub channels: usize,
    /// D, size of w.
    pub w_dim: usize,
    /// Feature maps at resolution r are `channel-base / r`, but no more than `channel-max`.
    pub channel_base: usize,
    /// Most feature maps at any resolution.
    pub channel_max: usize,
    /// Where the codes live, `w` or `w+`.
    #[serde(default, skip_serializing_if = "Space::is_w")]
    #[schemars(extend("default" = Space::default()))]
    pub space: Space,
    /// Residual blocks that keep the size, at each resolution below the images'.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(extend("default" = 0))]
    pub blocks: usize,
    /// The head also reads the mean over all places of every resolution's features.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schemars(extend("default" = false))]
    pub context: bool,
    /// Units of the head's hidden layer; by default the feature maps at 4x4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<usize>,
}

impl EncoderConfig {
    /// Refuses sizes that make no network.
    ///
    /// # Errors
    /// The message names the size.
    pub fn check(&self) -> Result<()> {
        self.trunk().check()?;
        if self.w_dim == 0 || self.head == Some(0) {
            bail!("w-dim and head: expected at least 1");
        }
        Ok(())
    }
    /// L, the number of style inputs of a generator of this resolution.
    pub fn num_ws(&self) -> usize {
        num_ws(self.resolution)
    }
    /// Rows of a code: 1 in W, L in W+.
    pub fn rows(&self) -> usize {
        self.space.rows(self.num_ws())
    }
    /// The halving blocks are those of a residual discriminator without minibatch statistics.
    pub(super) fn trunk(&self) -> DiscriminatorConfig {
        DiscriminatorConfig {
            resolution: self.resolution,
            channels: self.channels,
            channel_base: self.channel_base,
            channel_max: self.channel_max,
            mbstd_group: 1,
            mbstd_channels: 0,
            conv_clamp: None,
            architecture: Architecture::Resnet,
            label_dim: 0,
            cmap_dim: None,
            mapping_layers: MAPPING_LAYERS,
        }
    }
}
