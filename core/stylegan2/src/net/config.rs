//! Sizes of the networks.

use candle_core::{Result, bail};
use serde::{Deserialize, Serialize};

/// Feature maps at a resolution: `min(base / resolution, max)`.
fn width(base: usize, max: usize, resolution: usize) -> usize {
    (base / resolution).clamp(1, max)
}

/// Resolutions 4, 8, .., `resolution`.
fn resolutions(resolution: usize) -> Vec<usize> {
    (2..=resolution.ilog2()).map(|e| 1 << e).collect()
}

fn check_resolution(resolution: usize) -> Result<()> {
    if !(8..=1024).contains(&resolution) || !resolution.is_power_of_two() {
        bail!("resolution {resolution}: expected a power of two from 8 to 1024");
    }
    Ok(())
}

/// Sizes of a generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Feature maps at resolution r are `channel-base / r`,
    pub channel_base: usize,
    /// but no more than this.
    pub channel_max: usize,
    /// Largest magnitude of activations, for networks trained in half precision.
    #[serde(default)]
    pub conv_clamp: Option<f32>,
}

impl GeneratorConfig {
    /// Refuses sizes that make no network.
    ///
    /// # Errors
    /// The message names the size.
    pub fn check(&self) -> Result<()> {
        check_resolution(self.resolution)?;
        if !(1..=4).contains(&self.channels) {
            bail!("channels {}: expected 1 to 4", self.channels);
        }
        let sizes = [self.z_dim, self.w_dim, self.mapping_layers, self.channel_max];
        if sizes.contains(&0) || self.channel_base < self.resolution {
            bail!("{self:?}: sizes must be positive and channel-base at least the resolution");
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
    /// L, the number of style inputs: two per resolution.
    pub fn num_ws(&self) -> usize {
        2 * self.resolution.ilog2() as usize - 2
    }
}

/// Sizes of a discriminator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiscriminatorConfig {
    /// Side of the images in pixels, a power of two.
    pub resolution: usize,
    /// Channels of the images.
    pub channels: usize,
    /// Feature maps at resolution r are `channel-base / r`,
    pub channel_base: usize,
    /// but no more than this.
    pub channel_max: usize,
    /// Images per group of the minibatch standard deviation.
    pub mbstd_group: usize,
    /// Feature maps of the minibatch standard deviation; 0 leaves it out.
    pub mbstd_channels: usize,
    /// Largest magnitude of activations.
    #[serde(default)]
    pub conv_clamp: Option<f32>,
}

impl DiscriminatorConfig {
    /// Refuses sizes that make no network.
    ///
    /// # Errors
    /// The message names the size.
    pub fn check(&self) -> Result<()> {
        check_resolution(self.resolution)?;
        if self.channels == 0 || self.channel_max == 0 || self.channel_base < self.resolution {
            bail!("{self:?}: sizes must be positive and channel-base at least the resolution");
        }
        Ok(())
    }
    /// Feature maps at a resolution.
    pub fn width(&self, resolution: usize) -> usize {
        width(self.channel_base, self.channel_max, resolution)
    }
    /// Resolutions of the residual blocks, from the largest down to 8.
    pub fn resolutions(&self) -> Vec<usize> {
        let mut r = resolutions(self.resolution);
        r.remove(0);
        r.reverse();
        r
    }
}

/// Sizes of an encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EncoderConfig {
    /// Side of the images in pixels, a power of two.
    pub resolution: usize,
    /// Channels of the images.
    pub channels: usize,
    /// D, size of w.
    pub w_dim: usize,
    /// Feature maps at resolution r are `channel-base / r`,
    pub channel_base: usize,
    /// but no more than this.
    pub channel_max: usize,
}

impl EncoderConfig {
    /// The residual trunk is that of a discriminator without minibatch statistics.
    pub(super) fn trunk(&self) -> DiscriminatorConfig {
        DiscriminatorConfig {
            resolution: self.resolution,
            channels: self.channels,
            channel_base: self.channel_base,
            channel_max: self.channel_max,
            mbstd_group: 1,
            mbstd_channels: 0,
            conv_clamp: None,
        }
    }
}
