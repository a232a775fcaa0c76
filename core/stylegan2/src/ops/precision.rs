//! In which precision the products of convolutions are computed on a GPU.

use candle_core::{DType, Device, Result, Tensor, bail};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::fmt;
use std::sync::Mutex;

/// Precision of the products of convolutions on a GPU. Everything else (mapping network, styles, noise, activations,
/// losses, weights, optimiser) is f32 in every case, and so are the sums within a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Precision {
    /// Single precision throughout.
    #[default]
    F32,
    /// Factors rounded to 10 bits of mantissa by the tensor cores (compute capability 8.0 or newer).
    Tf32,
    /// Factors and results of convolutions rounded to bfloat16, 7 bits of mantissa; the gradients of weights and the
    /// resampling filters as in [`Precision::Tf32`].
    Bf16,
}

impl Precision {
    /// All, in falling accuracy.
    pub const ALL: [Self; 3] = [Self::F32, Self::Tf32, Self::Bf16];

    /// As in manifests: `f32`, `tf32`, `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }

    /// The same, but no less accurate than TF32: for gradients of gradients, where rounding adds up.
    pub fn for_second_order(self) -> Self {
        if self == Self::Bf16 { Self::Tf32 } else { self }
    }

    /// Refuses what a device does not have: the CPU computes in f32 only.
    ///
    /// # Errors
    /// The message names the precision and the device.
    pub fn check(self, device: &Device) -> Result<()> {
        if device.is_cpu() && self != Self::F32 {
            bail!(
                "`precision` is \"{self}\": the CPU computes in \"f32\" only; use device \"cuda:0\", or leave it out"
            );
        }
        Ok(())
    }
}

impl JsonSchema for Precision {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Precision".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "enum": Self::ALL.map(Self::name),
            "description": "Precision of convolutions on a GPU; the CPU computes in f32 only.",
        })
    }
}

impl TryFrom<String> for Precision {
    type Error = String;
    fn try_from(name: String) -> std::result::Result<Self, String> {
        let found = Self::ALL.into_iter().find(|p| p.name() == name);
        found.ok_or_else(|| format!("`precision` is \"{name}\", expected \"f32\", \"tf32\" or \"bf16\""))
    }
}

impl From<Precision> for &'static str {
    fn from(p: Precision) -> Self {
        p.name()
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// Runs `f` with the products of convolutions in precision `p`. Operations on the CPU's own kernels stay in f32.
pub fn with_precision<R>(p: Precision, f: impl FnOnce() -> R) -> R {
    struct Restore(Precision);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.with(|v| v.set(self.0));
        }
    }
    let _restore = Restore(CURRENT.with(|v| v.replace(p)));
    f()
}

/// True where convolutions are in bf16.
pub(super) fn is_bf16() -> bool {
    CURRENT.with(Cell::get) == Precision::Bf16
}

/// candle's switch for TF32 is one for the whole process, read when a product is launched.
static SWITCH: Mutex<()> = Mutex::new(());

/// Runs `f`, which launches products of matrices in f32, with TF32 if the current precision allows it.
pub(super) fn reduced<R>(f: impl FnOnce() -> R) -> R {
    use candle_core::cuda::set_gemm_reduced_precision_f32;
    if CURRENT.with(Cell::get) == Precision::F32 {
        return f();
    }
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            set_gemm_reduced_precision_f32(false);
        }
    }
    let _one = SWITCH.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    set_gemm_reduced_precision_f32(true);
    let _reset = Reset;
    f()
}

/// `f(x, w)`, a convolution, in the current precision; the result is of x's type.
///
/// On the CPU bf16 is imitated: the same values are rounded, so that its error can be measured without a GPU.
pub(super) fn convolution(
    x: &Tensor,
    w: &Tensor,
    f: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    if x.dtype() != DType::F32 || !is_bf16() {
        return reduced(|| f(x, w));
    }
    let (x, w) = (x.to_dtype(DType::BF16)?, w.to_dtype(DType::BF16)?);
    if x.device().is_cpu() {
        let y = f(&x.to_dtype(DType::F32)?, &w.to_dtype(DType::F32)?)?;
        return y.to_dtype(DType::BF16)?.to_dtype(DType::F32);
    }
    f(&x, &w)?.to_dtype(DType::F32)
}
