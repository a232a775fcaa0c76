//! What lies where.

use super::Finding;

/// All that may lie at the top level, besides tools' dotfiles.
const TOP_LEVEL: [&str; 9] =
    ["Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "core", "examples", "manifests", "plugins", "tests"];

/// The example models are committed; together with the rest of `examples` they stay below this.
const EXAMPLES_LIMIT: u64 = 40_000_000;

/// Nothing unexpected at the top level, and nothing missing.
pub fn top_level(paths: &[String]) -> Vec<Finding> {
    let mut names: Vec<&str> = paths.iter().filter_map(|p| p.split('/').next()).collect();
    names.sort_unstable();
    names.dedup();
    let extra = names
        .iter()
        .filter(|n| !n.starts_with('.') && !TOP_LEVEL.contains(n))
        .map(|n| Finding::new(*n, format!("not one of the top level's entries ({})", TOP_LEVEL.join(", "))));
    let missing =
        TOP_LEVEL.iter().filter(|n| !names.contains(n)).map(|n| Finding::new(*n, "missing at the top level"));
    extra.chain(missing).collect()
}

/// The example models stay small enough to be cloned.
pub fn size_of_examples(bytes: u64) -> Option<Finding> {
    (bytes >= EXAMPLES_LIMIT).then(|| {
        Finding::new(
            "examples",
            format!("{bytes} bytes in all, expected less than {EXAMPLES_LIMIT}: prune or shrink"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strays_and_gaps_at_the_top_level_are_found() {
        let mut paths: Vec<String> = TOP_LEVEL.iter().map(|n| format!("{n}/x")).collect();
        paths.push(".gitignore".into());
        assert_eq!(top_level(&paths), []);
        paths.push("notes.txt".into());
        paths.retain(|p| !p.starts_with("README"));
        let places: Vec<String> = top_level(&paths).into_iter().map(|f| f.place).collect();
        assert_eq!(places, ["notes.txt", "README.md"]);
    }

    #[test]
    fn heavy_examples_are_found() {
        assert!(size_of_examples(39_999_999).is_none());
        assert!(size_of_examples(40_000_000).is_some());
    }
}
