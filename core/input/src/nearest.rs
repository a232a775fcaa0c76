//! The nearest valid name to a mistyped one.

/// Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours, each 1.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut d = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in d.iter_mut().enumerate() {
        row[0] = i;
    }
    d[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (d[i - 1][j] + 1).min(d[i][j - 1] + 1).min(d[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(d[i - 2][j - 2] + 1);
            }
            d[i][j] = best;
        }
    }
    d[a.len()][b.len()]
}

/// The name of `valid` that `found` most likely meant; `None` if nothing is near (more than a third of its letters,
/// at least 2, differ). Case and the choice of `-` or `_` do not count.
pub fn nearest<'a>(found: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let fold = |s: &str| s.to_lowercase().replace('_', "-");
    let wanted = fold(found);
    valid
        .into_iter()
        .map(|v| (distance(&wanted, &fold(v)), v))
        .filter(|(d, v)| *d <= (v.chars().count().max(wanted.chars().count()) / 3).max(2) && *d < v.len())
        .min_by_key(|(d, _)| *d)
        .map(|(_, v)| v)
}

/// `did you mean X? expected one of: a, b, c` for a help line.
pub fn suggest(found: &str, valid: &[&str]) -> String {
    let list = valid.join(", ");
    match nearest(found, valid.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? expected one of: {list}"),
        None => format!("expected one of: {list}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits_and_swaps() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("predcitor", "predictor"), 1);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn finds_the_near_and_refuses_the_far() {
        let valid = ["stylegan2", "onnx"];
        assert_eq!(nearest("StyleGAN2", valid), Some("stylegan2"));
        assert_eq!(nearest("stylgan", valid), Some("stylegan2"));
        assert_eq!(nearest("onxx", valid), Some("onnx"));
        assert_eq!(nearest("diffusion", valid), None);
        assert_eq!(nearest("latent_shift", ["latent-shift"]), Some("latent-shift"));
    }
}
