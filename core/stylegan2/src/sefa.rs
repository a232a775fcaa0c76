//! What a code does to the styles of a generator: the affine layers that SeFa factorises.

use crate::file::load_generator;
use candle_core::DType;
use shiftlens_api::{Error, Result};
use std::ops::Range;
use std::path::Path;

/// L, the number of style inputs of the generator at `path`.
///
/// # Errors
/// If the file holds no StyleGAN2 generator.
pub fn style_inputs(path: &Path) -> Result<usize> {
    Ok(load_generator(path)?.0.num_ws())
}

/// The weights of all affine layers that the style inputs `layers` lead to, one below the other: `(D, A)` with A
/// `[R, D]`, row-major. A step `d` of those inputs moves the styles by `A d`, but for a factor that all layers share.
/// `None` for `layers` means all inputs; inputs are counted from 0, from coarse to fine.
///
/// This is the matrix A of Shen & Zhou 2021 (arXiv 2007.06600), section 3.2, whose `A^T A` SeFa takes the eigenvectors
/// of. The layers that make an image count too, as they are styled by the same code.
///
/// # Errors
/// If the file holds no StyleGAN2 generator; [`Error::Invalid`] if it has no such style inputs.
pub fn style_weights(path: &Path, layers: Option<Range<usize>>) -> Result<(usize, Vec<f32>)> {
    let (config, tensors) = load_generator(path)?;
    let inputs = config.num_ws();
    let wanted = layers.unwrap_or(0..inputs);
    if wanted.is_empty() || wanted.end > inputs {
        return Err(Error::Invalid(format!(
            "`layers`: style inputs {} to before {} asked for, the generator has {inputs}, counted from 0",
            wanted.start, wanted.end
        )));
    }
    let fail = |e: &dyn std::fmt::Display| Error::Invalid(format!("{}: {e}", path.display()));
    let mut rows = Vec::new();
    // Each block takes up the input at which the one before it made its image.
    let mut next = 0;
    for r in config.resolutions() {
        let convolutions: &[&str] = if r == 4 { &["conv1"] } else { &["conv0", "conv1"] };
        let image = config.has_to_image(r).then_some("torgb");
        for (i, layer) in convolutions.iter().copied().chain(image).enumerate() {
            if !wanted.contains(&(next + i)) {
                continue;
            }
            let name = format!("synthesis.b{r}.{layer}.affine.weight");
            let t = tensors.get(&name).ok_or_else(|| fail(&format!("tensor `{name}` is missing")))?;
            match t.dims() {
                [_, d] if *d == config.w_dim => {}
                other => {
                    let expected =
                        format!("tensor `{name}`: expected [C, {}], found {other:?}", config.w_dim);
                    return Err(fail(&expected));
                }
            }
            let values = t.to_dtype(DType::F32).and_then(|t| t.flatten_all()?.to_vec1::<f32>());
            rows.extend(values.map_err(|e| fail(&e))?);
        }
        next += convolutions.len();
    }
    Ok((config.w_dim, rows))
}
