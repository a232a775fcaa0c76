//! Which package may depend on which.

use super::{File, Finding};

/// Every package with all that it may use of this workspace. The order is the layering: nothing depends on what
/// stands below it.
const ARROWS: &[(&str, &str, &[&str])] = &[
    ("core/abi", "shiftlens-abi", &[]),
    ("core/api", "shiftlens-api", &[]),
    ("core/sdk", "shiftlens-sdk", &["shiftlens-abi", "shiftlens-api"]),
    ("core/onnx", "shiftlens-onnx", &["shiftlens-api"]),
    ("core/input", "shiftlens-input", &["shiftlens-api"]),
    ("core/stylegan2", "shiftlens-stylegan2", &["shiftlens-api", "shiftlens-input"]),
    ("core/evaluation", "shiftlens-evaluation", &["shiftlens-api"]),
    (
        "core/engine",
        "shiftlens-engine",
        // The SDK's bridge is the one implementation of the ABI: the host stands on its other end.
        &[
            "shiftlens-abi",
            "shiftlens-api",
            "shiftlens-sdk",
            "shiftlens-onnx",
            "shiftlens-input",
            "shiftlens-evaluation",
            "shiftlens-stylegan2",
        ],
    ),
    ("core/report", "shiftlens-report", &["shiftlens-api"]),
    // Training is no study, so the program reaches it without the engine.
    (
        "core/cli",
        "shiftlens",
        &["shiftlens-api", "shiftlens-stylegan2", "shiftlens-engine", "shiftlens-report"],
    ),
    ("core/xtask", "xtask", &[]),
];

/// All that the shared types and the C ABI may use from elsewhere: no tensor library, no runtime.
const LEAN: &[(&str, &[&str])] =
    &[("shiftlens-abi", &[]), ("shiftlens-api", &["thiserror", "serde", "serde_json"])];

/// Checks every member's manifest.
pub fn check(files: &[File]) -> Vec<Finding> {
    files.iter().filter(|f| f.path.ends_with("/Cargo.toml")).flat_map(one).collect()
}

fn one(file: &File) -> Vec<Finding> {
    let manifest: toml::Table = match file.text.parse() {
        Ok(t) => t,
        Err(e) => return vec![Finding::new(&file.path, e.to_string())],
    };
    let name =
        manifest.get("package").and_then(|p| p.get("name")).and_then(toml::Value::as_str).unwrap_or_default();
    let folder = file.path.trim_end_matches("/Cargo.toml");
    let mut findings = Vec::new();
    let mut finding = |message: String| findings.push(Finding::new(&file.path, message));
    let allowed: Vec<&str> = match ARROWS.iter().find(|(f, ..)| *f == folder) {
        Some((_, n, allowed)) if *n == name => allowed.to_vec(),
        Some((_, n, _)) => {
            finding(format!("the package is called `{name}`, expected `{n}`"));
            return findings;
        }
        // The integration tests look at results with the core's own types; they reach plugins by the program.
        None if folder == "tests" => {
            vec!["shiftlens-abi", "shiftlens-api", "shiftlens-sdk", "shiftlens-onnx"]
        }
        None if in_plugins(folder) => vec!["shiftlens-sdk"],
        None => {
            finding("a package in a folder that core/ARCHITECTURE.md does not know".into());
            return findings;
        }
    };
    for (section, dependency) in dependencies(&manifest) {
        let ours = dependency.starts_with("shiftlens") || dependency == "xtask";
        let lean = LEAN.iter().find(|(n, _)| *n == name && section != "dev-dependencies");
        if ours && !allowed.contains(&dependency.as_str()) {
            finding(format!("`{name}` depends on `{dependency}`, it may use {allowed:?} only"));
        } else if !ours && lean.is_some_and(|(_, only)| !only.contains(&dependency.as_str())) {
            finding(format!(
                "`{name}` depends on `{dependency}`, it is kept free of all but {:?}",
                lean.map(|l| l.1)
            ));
        } else if is_tensor_library(&dependency) && name != "shiftlens-stylegan2" {
            finding(format!("`{name}` depends on `{dependency}`, which only `shiftlens-stylegan2` may"));
        }
    }
    findings
}

fn in_plugins(folder: &str) -> bool {
    folder.starts_with("plugins/") || folder.starts_with("examples/") || folder.starts_with("tests/fixtures/")
}

fn is_tensor_library(dependency: &str) -> bool {
    ["candle", "cudarc", "cuda"].iter().any(|p| dependency.starts_with(p))
}

/// Section and name of every dependency, those of `[target.….dependencies]` included.
fn dependencies(manifest: &toml::Table) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let tables = targets.into_iter().flat_map(|t| t.values().filter_map(toml::Value::as_table));
    for table in std::iter::once(manifest).chain(tables) {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let names = table.get(section).and_then(toml::Value::as_table).into_iter().flatten();
            for (key, value) in names {
                // `other = { package = "name" }` depends on `name`.
                let name = value.get("package").and_then(toml::Value::as_str).unwrap_or(key);
                found.push((section.to_owned(), name.to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(folder: &str, name: &str, rest: &str) -> Vec<String> {
        let text = format!("[package]\nname = \"{name}\"\n{rest}");
        check(&[File::new(&format!("{folder}/Cargo.toml"), &text)]).into_iter().map(|f| f.message).collect()
    }

    #[test]
    fn arrows_that_point_back_are_found() {
        let engine = "[dependencies]\nshiftlens-engine.workspace = true\n";
        assert_eq!(messages("core/cli", "shiftlens", engine), [""; 0]);
        for (folder, name) in [
            ("core/api", "shiftlens-api"),
            ("core/onnx", "shiftlens-onnx"),
            ("core/report", "shiftlens-report"),
            ("plugins/gradcam", "shiftlens-gradcam"),
            ("examples/plugin-rust", "example"),
            ("tests", "shiftlens-tests"),
        ] {
            let found = messages(folder, name, engine);
            assert!(found.len() == 1 && found[0].contains("`shiftlens-engine`"), "{folder}: {found:?}");
        }
    }

    #[test]
    fn nothing_depends_on_a_plugin() {
        for section in
            ["dependencies", "dev-dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"]
        {
            let rest = format!("[{section}]\nshiftlens-gradcam = {{ path = \"../../plugins/gradcam\" }}\n");
            for (folder, name) in
                [("core/cli", "shiftlens"), ("tests", "shiftlens-tests"), ("plugins/x", "x")]
            {
                assert_eq!(messages(folder, name, &rest).len(), 1, "{folder} [{section}]");
            }
            let renamed =
                format!("[{section}]\ncam = {{ package = \"shiftlens-gradcam\", version = \"1\" }}\n");
            assert_eq!(messages("core/engine", "shiftlens-engine", &renamed).len(), 1, "[{section}]");
        }
    }

    #[test]
    fn the_shared_types_stay_lean() {
        let with = |d: &str| messages("core/api", "shiftlens-api", &format!("[dependencies]\n{d} = \"1\"\n"));
        assert_eq!(with("serde"), [""; 0]);
        for d in ["ndarray", "candle-core", "ort", "shiftlens-abi"] {
            assert_eq!(with(d).len(), 1, "{d}");
        }
        assert_eq!(messages("core/abi", "shiftlens-abi", "[dependencies]\nlibc = \"1\"\n").len(), 1);
        assert_eq!(
            messages("core/api", "shiftlens-api", "[dev-dependencies]\nserde_json = \"1\"\n"),
            [""; 0]
        );
    }

    #[test]
    fn the_tensor_library_stays_in_its_crate() {
        let deps = "[dependencies]\ncandle-core = \"1\"\n";
        assert_eq!(messages("core/stylegan2", "shiftlens-stylegan2", deps), [""; 0]);
        for (folder, name) in [("core/engine", "shiftlens-engine"), ("core/onnx", "shiftlens-onnx")] {
            assert_eq!(messages(folder, name, deps).len(), 1);
        }
    }

    #[test]
    fn unknown_folders_and_names_are_found() {
        assert_eq!(messages("core/extra", "shiftlens-extra", "").len(), 1);
        assert_eq!(messages("core/api", "api", "").len(), 1);
        assert_eq!(check(&[File::new("core/api/Cargo.toml", "[package")]).len(), 1);
    }

    #[test]
    fn the_order_is_the_layering() {
        for (i, (_, name, allowed)) in ARROWS.iter().enumerate() {
            for a in *allowed {
                assert!(
                    ARROWS[..i].iter().any(|(_, n, _)| n == a),
                    "{name} may use {a}, which does not stand above it"
                );
            }
        }
    }
}
