//! What a projection can be told.

use crate::net::Space;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Result};

/// What the generator's noise inputs are during the descent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseInputs {
    /// The pictures stored with the network, with which codes are drawn afterwards too: the error that falls is that of
    /// the image which is shown.
    #[default]
    Fixed,
    /// Optimised with the code and kept from carrying a signal, as in the paper: they take up what is random in the
    /// image, and w need not. A code holds no noise, so the maps are let go in the end, and what they took up is not in
    /// G(w).
    Optimised,
}

/// How codes are searched (Karras et al. 2020, arXiv 1912.04958, section 5 and appendix D).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ProjectionParams {
    /// Where the codes live, `w` or `w+`.
    pub space: Space,
    /// Steps of the descent.
    pub steps: usize,
    /// Seconds per image at most. The schedule is shortened, so that the descent ends as it should; how far it comes is
    /// then the machine's affair, and two runs differ.
    pub seconds: Option<f64>,
    /// Images that are worked on at once. Each has its own descent.
    pub batch: usize,
    /// Adam's largest step, in standard units of each coordinate of w.
    pub learning_rate: f64,
    /// Share of the steps over which the step size rises to that.
    pub ramp_up: f64,
    /// Share of the steps over which it falls to 0 along half a cosine, in the end.
    pub ramp_down: f64,
    /// Weight of the mean squared error of pixels (network range).
    pub pixel_weight: f64,
    /// Weight of how much longer the code is than W's own (see [`crate::prior`]).
    pub prior_weight: f64,
    /// Weight of the mean square of a row's difference from the mean row, in standard units; for W+.
    pub offset_weight: f64,
    /// Normal noise that is added to the code, in standard units at the start; it falls as the square of the share of
    /// `noise-ramp` that is left.
    pub latent_noise: f64,
    /// Share of the steps in which it is added.
    pub noise_ramp: f64,
    /// The generator's noise inputs.
    pub noise: NoiseInputs,
    /// Weight of the autocorrelation of optimised noise inputs.
    pub noise_weight: f64,
    /// Seed of all noise.
    pub seed: u64,
}

impl Default for ProjectionParams {
    fn default() -> Self {
        Self {
            space: Space::W,
            steps: 200,
            seconds: None,
            batch: 8,
            learning_rate: 0.05,
            ramp_up: 0.05,
            ramp_down: 0.25,
            pixel_weight: 1.0,
            prior_weight: 0.01,
            offset_weight: 0.05,
            latent_noise: 0.05,
            noise_ramp: 0.75,
            noise: NoiseInputs::Fixed,
            noise_weight: 1e5,
            seed: 0,
        }
    }
}

impl ProjectionParams {
    /// Refuses numbers that make no descent.
    ///
    /// # Errors
    /// [`Error::Invalid`]; the message names the parameter.
    pub fn check(&self) -> Result<()> {
        let refuse = |name: &str, found: String, expected: &str| {
            Err(Error::Invalid(format!("`{name}` is {found}, expected {expected}")))
        };
        for (name, n) in [("steps", self.steps), ("batch", self.batch)] {
            if n == 0 {
                return refuse(name, n.to_string(), "at least 1");
            }
        }
        for (name, v) in [("learning-rate", Some(self.learning_rate)), ("seconds", self.seconds)] {
            if let Some(v) = v.filter(|v| !(v.is_finite() && *v > 0.0)) {
                return refuse(name, v.to_string(), "a positive number");
            }
        }
        let weights = [
            ("pixel-weight", self.pixel_weight),
            ("prior-weight", self.prior_weight),
            ("offset-weight", self.offset_weight),
            ("noise-weight", self.noise_weight),
            ("latent-noise", self.latent_noise),
        ];
        for (name, v) in weights {
            if !(v.is_finite() && v >= 0.0) {
                return refuse(name, v.to_string(), "a number of at least 0");
            }
        }
        let shares =
            [("ramp-up", self.ramp_up), ("ramp-down", self.ramp_down), ("noise-ramp", self.noise_ramp)];
        for (name, v) in shares {
            if !(0.0..=1.0).contains(&v) {
                return refuse(name, v.to_string(), "a share from 0 to 1");
            }
        }
        Ok(())
    }

    /// Adam's step size once the share `progress` of the work is done; `more` is the share that a step is.
    pub(super) fn rate(&self, progress: f64, more: f64) -> f64 {
        let share = |part: f64, whole: f64| if whole > 0.0 { (part / whole).min(1.0) } else { 1.0 };
        let down = share(1.0 - progress, self.ramp_down);
        // A step of size 0 would do nothing, so the rise counts the step that is about to be made.
        let up = share(progress + more, self.ramp_up);
        self.learning_rate * up * (0.5 - 0.5 * (std::f64::consts::PI * down).cos())
    }

    /// The code's noise, in standard units.
    pub(super) fn strength(&self, progress: f64) -> f64 {
        if self.noise_ramp == 0.0 {
            return 0.0;
        }
        self.latent_noise * (1.0 - progress / self.noise_ramp).max(0.0).powi(2)
    }
}
