//! The synthesis network on the CPU, for trained weights: the same numbers as [`crate::net::GeneratorNet`] but for
//! rounding, several times as fast.
//!
//! Maps live in blocks of 16 channels, convolutions are Winograd's and Toom and Cook's with weights transformed when
//! the network is loaded (see [`crate::kernels`]), and what surrounds a convolution is fused into it: the modulation
//! into its input, demodulation, noise, bias, activation and clamp into its output. Images of a batch share the
//! weights; from the resolution on at which a batch outgrows the caches, images go through the rest of the network
//! few at a time. How the work is cut follows from the network alone, and sums run in one order: an image does not
//! depend on the number of threads, nor on the others of its batch.

mod flow;
mod input;
mod layers;
mod style;

use crate::kernels::aligned::Aligned;
use crate::kernels::fast::Workspace;
use crate::kernels::gemm::Isa;
use crate::kernels::team::Team;
use crate::net::{GeneratorConfig, SynthesisInput};
use input::Latent;
use layers::Block;
use std::sync::{Mutex, PoisonError};

/// How the engine works; no option changes what it computes beyond rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SynthesisOptions {
    /// Threads; 0 for as many as rayon would use here (`RAYON_NUM_THREADS`, or one for each core).
    pub threads: usize,
    /// Bytes of transformed weights to keep. They are given out from the smallest resolution on; layers whose weights do
    /// not fit what is left transform theirs at every use, which costs time: most for single images.
    pub weight_budget: usize,
    /// Instructions.
    pub isa: Isa,
}

impl Default for SynthesisOptions {
    fn default() -> Self {
        Self { threads: 0, weight_budget: 2 << 30, isa: Isa::detect() }
    }
}

/// Buffers of one forward pass.
struct Space {
    work: Workspace,
    /// One level for each block.
    levels: Vec<Level>,
}

/// What a block writes.
struct Level {
    /// After the first convolution, and a residual block's way past both.
    first: Aligned,
    past: Aligned,
    /// After the second.
    second: Aligned,
    /// Two maps before their epilogue, for edits.
    pair: Aligned,
    image: Aligned,
}

/// The synthesis network. One call after the other is the usual way; calls from several threads at once work, each
/// with its own buffers and its own team of threads.
pub struct Synthesis {
    config: GeneratorConfig,
    options: SynthesisOptions,
    /// `[C/16][4][4][16]`
    constant: Aligned,
    /// What the code adds to it.
    input: Option<Latent>,
    blocks: Vec<Block>,
    spaces: Mutex<Vec<Space>>,
}

/// Shown `(resolution, features, image)` after a block.
pub type See<'a> = dyn Fn(usize, &[f32], &[f32]) + 'a;

/// Codes of a forward pass: rows `[N][L][D]`, or an edit of one.
#[derive(Clone, Copy)]
enum Codes<'a> {
    Batch { ws: &'a [f32], n: usize },
    Edit { w: &'a [f32], change: &'a [f32], steps: &'a [f32] },
}

impl Codes<'_> {
    fn images(&self) -> usize {
        match self {
            Self::Batch { n, .. } => *n,
            Self::Edit { steps, .. } => steps.len(),
        }
    }
}

impl Synthesis {
    /// Prepares the network. `get(name, shape)` answers a tensor of the file by its full name
    /// (`synthesis.b8.conv0.weight`), row-major.
    ///
    /// # Errors
    /// Those of `get`.
    ///
    /// # Panics
    /// If `get` answers another number of values than the shape says, or this machine lacks the instructions asked for.
    pub fn new<E>(
        config: &GeneratorConfig,
        options: SynthesisOptions,
        mut get: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        // What all calls of the kernels rely on.
        assert!(Isa::available().contains(&options.isa), "this machine has no {}", options.isa.name());
        let mut budget = options.weight_budget;
        let width = config.width(4);
        let constant = get("synthesis.b4.const", &[width, 4, 4])?;
        assert_eq!(constant.len(), width * 16, "synthesis.b4.const");
        let input = match config.input {
            SynthesisInput::Constant => None,
            SynthesisInput::Latent => Some(Latent::new(width, config.w_dim, &mut get)?),
        };
        let resolutions = config.resolutions();
        let blocks = resolutions
            .iter()
            .map(|r| Block::new(config, *r, options.isa, &mut budget, &mut get))
            .collect::<Result<_, E>>()?;
        Ok(Self {
            config: config.clone(),
            options,
            constant: layers::blocked(&constant, width, 16),
            input,
            blocks,
            spaces: Mutex::default(),
        })
    }

    /// Sizes.
    pub fn config(&self) -> &GeneratorConfig {
        &self.config
    }

    /// Multiply-adds of all convolutions for one image as they are carried out here, in Winograd's and Toom and Cook's
    /// domains.
    pub fn multiply_adds(&self) -> usize {
        self.blocks.iter().map(Block::multiply_adds).sum()
    }

    /// Images `[N, C, R, R]` in network range (about -1 to 1), row-major, of codes `ws` `[N, L, D]`; `noise` adds the
    /// pictures stored with the network.
    ///
    /// # Panics
    /// If `ws` does not hold whole codes.
    pub fn synthesize(&self, ws: &[f32], noise: bool) -> Vec<f32> {
        let size = self.config.num_ws() * self.config.w_dim;
        assert_eq!(ws.len() % size, 0, "codes [N, {}, {}]", self.config.num_ws(), self.config.w_dim);
        self.run(Codes::Batch { ws, n: ws.len() / size }, noise, None)
    }

    /// As [`Self::synthesize`], showing `(resolution, features, image)` of the batch after each block: features
    /// `[N, C, r, r]` and the image so far, `[N, channels, r, r]`, empty where the block makes none.
    ///
    /// # Panics
    /// If `ws` does not hold whole codes, or more than one: batches do not pass through a block together.
    pub fn trace(&self, ws: &[f32], noise: bool, see: &See<'_>) -> Vec<f32> {
        assert_eq!(ws.len(), self.config.num_ws() * self.config.w_dim, "one code");
        self.run(Codes::Batch { ws, n: 1 }, noise, Some(see))
    }

    /// The series `G(w + t change)` for each t of `steps`, `[S, C, R, R]`; w and `change` are `[L, D]`. What comes
    /// before the first row of `change` that is not 0 is computed once; so are both convolutions of the first layer that
    /// it touches, whose input all steps share: `conv(x (s + t ds)) = conv(x s) + t conv(x ds)`.
    ///
    /// # Panics
    /// If `w` and `change` are not one code each.
    pub fn series(&self, w: &[f32], change: &[f32], steps: &[f32], noise: bool) -> Vec<f32> {
        let size = self.config.num_ws() * self.config.w_dim;
        assert!(w.len() == size && change.len() == size, "one code and one change, {size} values each");
        if self.input.is_some() && change[..self.config.w_dim].iter().any(|v| *v != 0.0) {
            // The steps share nothing, their first maps differ already.
            let step = |t: &f32| w.iter().zip(change).map(|(w, c)| w + t * c).collect::<Vec<f32>>();
            return self.synthesize(&steps.iter().flat_map(step).collect::<Vec<f32>>(), noise);
        }
        self.run(Codes::Edit { w, change, steps }, noise, None)
    }

    fn run(&self, codes: Codes<'_>, noise: bool, see: Option<&See<'_>>) -> Vec<f32> {
        let c = &self.config;
        let mut out = vec![0.0; codes.images() * c.channels * c.resolution * c.resolution];
        if out.is_empty() {
            return out;
        }
        let lent = self.spaces.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut space = lent.unwrap_or_else(|| Space {
            work: Workspace::new(),
            levels: self.blocks.iter().map(|_| Level::empty()).collect(),
        });
        Team::with(self.threads(), |team| {
            let styles = style::Styles::new(team, self, codes);
            let mut pass = flow::Pass { net: self, team, styles: &styles, noise, see, out: &mut out };
            pass.run(&mut space);
        });
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner).push(space);
        out
    }

    fn threads(&self) -> usize {
        match self.options.threads {
            0 => rayon::current_num_threads(),
            n => n,
        }
    }
}

impl Level {
    fn empty() -> Self {
        let none = || Aligned::zeros(0);
        Self { first: none(), past: none(), second: none(), pair: none(), image: none() }
    }
}
