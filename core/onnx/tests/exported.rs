//! Gradients of whole exported networks: of a quantised one, and (a long check) of torchvision's families.
//!
//! The backend is the one that is found, or the one that `SHIFTLENS_ONNX_BACKEND` names.

use safetensors::SafeTensors;
use shiftlens_onnx::Choice;
use shiftlens_onnx::backend::Session;
use shiftlens_onnx::gradient::{GradientGraph, Request, Seed};
use shiftlens_onnx::graph::Model;
use std::path::Path;

/// Arrays of a file.
struct Arrays(Vec<u8>);

struct Array {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Arrays {
    fn read(path: &Path) -> Self {
        Self(std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }
    fn get(&self, name: &str) -> Array {
        let all = SafeTensors::deserialize(&self.0).unwrap();
        let t = all.tensor(name).unwrap();
        let data = t.data().as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c)).collect();
        Array { shape: t.shape().to_vec(), data }
    }
}

/// Answers the network's scores, the tensor `layer`, and the gradients of `sum(seed * score)` with respect to it and to
/// the input.
fn differentiate(path: &Path, layer: &str, x: &Array, seed: &Array) -> Result<[Array; 4], String> {
    let text = |e: shiftlens_api::Error| e.to_string();
    let model = Model::load(path, None).map_err(text)?;
    let input = model.inputs()[0].name.clone();
    let output = model.outputs()[0].name.clone();
    let request =
        Request { wrt: vec![input.clone(), layer.into()], seed: Seed::Weights, ..Request::default() };
    let g = GradientGraph::build(&model, &request).map_err(text)?;
    let bytes = g.model.to_bytes().map_err(text)?;
    let mut session = Session::new(&bytes, &g.outputs, None, &path.display().to_string()).map_err(text)?;
    let answer = session
        .run_floats(&[(&input, &x.shape, &x.data), ("grad/seed", &seed.shape, &seed.data)])
        .map_err(text)?;
    let named = |name: String| {
        let i =
            g.outputs.iter().position(|o| *o == name).ok_or(format!("no {name} among {:?}", g.outputs))?;
        Ok::<_, String>(Array { shape: answer[i].shape().to_vec(), data: answer[i].as_slice().to_vec() })
    };
    Ok([
        named(output)?,
        named(layer.to_owned())?,
        named(format!("grad/{layer}"))?,
        named(format!("grad/{input}"))?,
    ])
}

/// `|found - expected| / |expected|`, in the Euclidean norm.
fn relative(found: &Array, expected: &Array) -> f64 {
    if found.shape != expected.shape {
        return f64::INFINITY;
    }
    let square = |v: f32| f64::from(v).powi(2);
    let apart: f64 = found.data.iter().zip(&expected.data).map(|(f, e)| square(f - e)).sum();
    let error = (apart / expected.data.iter().map(|e| square(*e)).sum::<f64>()).sqrt();
    if error.is_nan() { f64::INFINITY } else { error }
}

/// How far a few ReLUs on the other side of 0 may take a gradient.
const FLIPPED: f64 = 0.05;

/// As [`relative`], of the image of the batch for which it is smallest.
fn best_image(found: &Array, expected: &Array) -> f64 {
    let rows = |a: &Array| -> Vec<Array> {
        let row = a.data.len() / a.shape[0];
        a.data.chunks_exact(row).map(|r| Array { shape: vec![row], data: r.to_vec() }).collect()
    };
    let pairs = rows(found).into_iter().zip(rows(expected));
    pairs.map(|(f, e)| relative(&f, &e)).fold(f64::INFINITY, f64::min)
}

/// Pearson's correlation.
fn correlation(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let mean = |v: &[f32]| v.iter().map(|v| f64::from(*v)).sum::<f64>() / v.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (f64::from(*a) - ma, f64::from(*b) - mb);
        (ab, aa, bb) = (ab + a * b, aa + a * a, bb + b * b);
    }
    ab / (aa * bb).sqrt()
}

/// An eight-bit network and the network it was made from (`fixtures/quantise.py`): the gradient that passes the rounding
/// straight through is nearly that of the original, whose numbers are PyTorch's.
#[test]
fn quantised_network_has_nearly_the_original_gradient() {
    shiftlens_onnx::backend::init(Choice::Auto).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let arrays = Arrays::read(&folder.join("resnet_tiny.safetensors"));
    let (x, output) = (arrays.get("input"), arrays.get("output"));
    let mut seed = Array { shape: output.shape.clone(), data: vec![0.0; output.data.len()] };
    seed.data.chunks_exact_mut(output.shape[1]).for_each(|row| row[1] = 1.0);
    // The quantiser folds each ReLU into the clipping of the tensor behind it.
    let layer = "/layer3/relu_1/Relu_output_0_DequantizeLinear_Output";
    let [y, act, g_act, g_input] =
        differentiate(&folder.join("resnet_tiny_int8.onnx"), layer, &x, &seed).unwrap();
    let found = [
        correlation(&y.data, &output.data),
        correlation(&act.data, &arrays.get("act").data),
        correlation(&g_act.data, &arrays.get("c1.grad_act").data),
        correlation(&g_input.data, &arrays.get("c1.grad_input").data),
    ];
    println!("correlations of output, activation, their gradients: {found:.4?}");
    // The further from the score, the more ReLUs lie on the other side of their kink. The rule itself is compared with
    // differences elsewhere.
    let least = [0.99, 0.99, 0.97, 0.9];
    assert!(found.iter().zip(least).all(|(c, least)| *c > least), "{found:?}, expected at least {least:?}");
}

/// Every network that `torchvision/check.py` exported, against PyTorch's autograd in float64.
#[test]
#[ignore = "needs a folder written by tests/torchvision/check.py, named in SHIFTLENS_TORCHVISION"]
fn torchvision_families_match_autograd() {
    let folder = std::env::var_os("SHIFTLENS_TORCHVISION").expect("SHIFTLENS_TORCHVISION names a folder");
    println!("backend: {}", shiftlens_onnx::backend::init(Choice::Auto).unwrap());
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "onnx"));
    paths.sort();
    assert!(!paths.is_empty(), "no .onnx files in {}", Path::new(&folder).display());
    let mut wrong = Vec::new();
    for path in &paths {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let model = stem.split('.').next().unwrap();
        let arrays = Arrays::read(&path.with_file_name(format!("{model}.safetensors")));
        let facts = std::fs::read_to_string(path.with_extension("json")).unwrap();
        let facts: serde_json::Value = serde_json::from_str(&facts).unwrap();
        let layer = facts["tensor"].as_str().unwrap();
        match differentiate(path, layer, &arrays.get("input"), &arrays.get("seed")) {
            Ok(found) => {
                let names = ["output", "act", "grad_act", "grad_input"];
                let errors: Vec<f64> =
                    names.iter().zip(&found).map(|(n, f)| relative(f, &arrays.get(n))).collect();
                println!(
                    "{stem}: output {:.1e}, activation {:.1e}, its gradient {:.1e}, input gradient {:.1e}",
                    errors[0], errors[1], errors[2], errors[3]
                );
                // PyTorch's own float32 says what rounding does to this network. A ReLU whose input rounds to the other
                // side of 0 takes a whole term of one image's gradient with it, in one runtime and not in another; a
                // wrong rule spares no image.
                let allowed = names.map(|n| 2e-5 + 4.0 * facts["float32"][n].as_f64().unwrap());
                let best: Vec<f64> =
                    names.iter().zip(&found).map(|(n, f)| best_image(f, &arrays.get(n))).collect();
                let right = best.iter().zip(allowed).all(|(e, a)| *e < a);
                if !right || errors.iter().any(|e| *e > FLIPPED) {
                    wrong.push(format!("{stem}: {errors:?}, of the better image {best:?}"));
                }
            }
            Err(e) => {
                println!("{stem}: {e}");
                wrong.push(format!("{stem}: {e}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong\n{}", wrong.len(), paths.len(), wrong.join("\n"));
}
