//! `include/shiftlens.h`, compiled by the C compiler, and the types of this crate agree in every size, offset and
//! constant.

use shiftlens_abi::*;
use std::fmt::Write as _;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

/// One line of C and the same fact from Rust.
struct Facts {
    c: String,
    rust: String,
}

macro_rules! layout {
    ($facts:ident, $($rust:ident = $c:literal { $($field:ident),* $(,)? })*) => {$(
        $facts.number(concat!("sizeof(", $c, ")"), size_of::<$rust>());
        $($facts.number(
            concat!("offsetof(", $c, ", ", stringify!($field), ")"),
            offset_of!($rust, $field),
        );)*
    )*};
}

impl Facts {
    fn number(&mut self, c: &str, value: usize) {
        writeln!(self.c, "    printf(\"%s %llu\\n\", \"{c}\", (unsigned long long)({c}));").unwrap();
        writeln!(self.rust, "{c} {value}").unwrap();
    }
    fn text(&mut self, c: &str, value: &std::ffi::CStr) {
        writeln!(self.c, "    printf(\"%s %s\\n\", \"{c}\", {c});").unwrap();
        writeln!(self.rust, "{c} {}", value.to_str().unwrap()).unwrap();
    }
}

fn facts() -> Facts {
    let mut f = Facts { c: String::new(), rust: String::new() };
    layout! { f,
        Array = "shiftlens_array_t" { data, rank, reserved, shape }
        Buffer = "shiftlens_buffer_t" { data, capacity, rank, reserved, shape }
        Text = "shiftlens_text_t" { data, capacity, length }
        Host = "shiftlens_host_t" { abi_version, struct_size, name, version, context, get_interface }
        Plugin = "shiftlens_plugin_t" {
            magic, abi_version, struct_size, id, name, version, capabilities, create, get_interface, destroy
        }
        GeneratorV1 = "shiftlens_generator_v1_t" { info, sample, synthesize }
        EncoderV1 = "shiftlens_encoder_v1_t" { encode }
        PredictorV1 = "shiftlens_predictor_v1_t" { info, predict }
        GradientRequestV1 = "shiftlens_gradient_request_v1_t" {
            layers, layer_count, classes, class_count, layer_gradients, input_gradient, score, reserved
        }
        GradientOutputV1 = "shiftlens_gradient_output_v1_t" { scores, activations, gradients, input_gradient }
        GradientsV1 = "shiftlens_gradients_v1_t" { layers, gradients }
        ActivationsV1 = "shiftlens_activations_v1_t" { scores }
        DirectionStatsV1 = "shiftlens_direction_stats_v1_t" { sigma, mean, slope, intercept }
        DirectionV1 = "shiftlens_direction_v1_t" { find }
        ExplainerV1 = "shiftlens_explainer_v1_t" { explain }
        LatentV1 = "shiftlens_latent_v1_t" { info, sample, synthesize, encode, direction }
        SeriesV1 = "shiftlens_series_v1_t" { lambdas, images, scores, code, origin, latent_score, reserved }
        ResultsV1 = "shiftlens_results_v1_t" { heatmap, shift }
        LogV1 = "shiftlens_log_v1_t" { log }
        ProgressV1 = "shiftlens_progress_v1_t" { progress }
        CancelV1 = "shiftlens_cancel_v1_t" { cancelled }
    }
    f.number("SHIFTLENS_MAGIC", MAGIC as usize);
    f.number("SHIFTLENS_ABI_VERSION", ABI_VERSION as usize);
    f.number("SHIFTLENS_MAX_RANK", MAX_RANK);
    for (c, value) in [
        ("SHIFTLENS_OK", status::OK),
        ("SHIFTLENS_INVALID", status::INVALID),
        ("SHIFTLENS_UNSUPPORTED", status::UNSUPPORTED),
        ("SHIFTLENS_SHAPE", status::SHAPE),
        ("SHIFTLENS_NOT_FINITE", status::NOT_FINITE),
        ("SHIFTLENS_TOO_SMALL", status::TOO_SMALL),
        ("SHIFTLENS_CANCELLED", status::CANCELLED),
        ("SHIFTLENS_FAILED", status::FAILED),
        ("SHIFTLENS_PANIC", status::PANIC),
    ] {
        f.number(c, value as usize);
    }
    for (c, value) in [
        ("SHIFTLENS_GENERATOR_V1", capability::GENERATOR),
        ("SHIFTLENS_ENCODER_V1", capability::ENCODER),
        ("SHIFTLENS_PREDICTOR_V1", capability::PREDICTOR),
        ("SHIFTLENS_DIRECTION_V1", capability::DIRECTION),
        ("SHIFTLENS_EXPLAINER_V1", capability::EXPLAINER),
        ("SHIFTLENS_GRADIENTS_V1", capability::GRADIENTS),
        ("SHIFTLENS_ACTIVATIONS_V1", capability::ACTIVATIONS),
        ("SHIFTLENS_HOST_PREDICT_V1", host::PREDICT),
        ("SHIFTLENS_HOST_GRADIENTS_V1", host::GRADIENTS),
        ("SHIFTLENS_HOST_ACTIVATIONS_V1", host::ACTIVATIONS),
        ("SHIFTLENS_HOST_LATENT_V1", host::LATENT),
        ("SHIFTLENS_HOST_RESULTS_V1", host::RESULTS),
        ("SHIFTLENS_HOST_LOG_V1", host::LOG),
        ("SHIFTLENS_HOST_PROGRESS_V1", host::PROGRESS),
        ("SHIFTLENS_HOST_CANCEL_V1", host::CANCEL),
    ] {
        f.text(c, value);
    }
    f
}

#[test]
fn the_header_and_the_crate_agree() {
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let header = std::fs::read_to_string(include.join("shiftlens.h")).unwrap();
    let facts = facts();
    // Nothing in the header is left out here.
    for word in header.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        let constant = word.starts_with("SHIFTLENS_") && !["SHIFTLENS_H", "SHIFTLENS_EXPORT"].contains(&word);
        if constant || (word.starts_with("shiftlens_") && word.ends_with("_t")) {
            assert!(facts.rust.contains(word), "{word} is in the header and not compared");
        }
    }

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("abi-layout");
    std::fs::create_dir_all(&folder).unwrap();
    let source = folder.join("layout.c");
    let program = folder.join(format!("layout{}", std::env::consts::EXE_SUFFIX));
    let text = format!(
        "#include \"shiftlens.h\"\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {{\n{}    return 0;\n}}\n",
        facts.c
    );
    std::fs::write(&source, text).unwrap();
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let output = Command::new(&compiler)
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-I"])
        .arg(&include)
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap_or_else(|e| panic!("{compiler}: {e}: this test needs a C compiler, as Rust's linker does"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = Command::new(&program).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    for (c, rust) in said.lines().zip(facts.rust.lines()) {
        assert_eq!(c, rust, "left: C, right: Rust");
    }
    assert_eq!(said.lines().count(), facts.rust.lines().count());
}
