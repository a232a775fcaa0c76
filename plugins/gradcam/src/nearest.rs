//! The nearest valid name to a mistyped one.

/// Levenshtein's distance: insertions, deletions and substitutions of a letter, each 1.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// `did you mean X? expected one of: a, b, c`, without the first part where nothing is near.
pub fn suggest(found: &str, valid: &[&str]) -> String {
    let wanted = found.to_lowercase();
    let near = valid
        .iter()
        .map(|v| (distance(&wanted, &v.to_lowercase()), v))
        .min()
        .filter(|(d, v)| *d <= (v.len().max(wanted.len()) / 3).max(2) && *d < v.len());
    let list = if valid.is_empty() { "(none)".into() } else { valid.join(", ") };
    match near {
        Some((_, near)) => format!("did you mean `{near}`? expected one of: {list}"),
        None => format!("expected one of: {list}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
    }

    #[test]
    fn suggests_the_near_and_lists_the_rest() {
        assert_eq!(
            suggest("Relu_4", &["relu_3x", "relu_4"]),
            "did you mean `relu_4`? expected one of: relu_3x, relu_4"
        );
        assert_eq!(suggest("pool", &["gradcam"]), "expected one of: gradcam");
    }
}
