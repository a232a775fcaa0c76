//! The sign-flip permutation test of paired differences (Fisher 1935), whole clusters changing sign together (Winkler et al.
//! 2014, exchangeability blocks).

use super::Clusters;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Result};

/// What the test answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SignFlip {
    /// Two-sided p value of the mean difference.
    pub p: f64,
    /// The smallest p value that this many clusters and permutations could have given.
    pub least: f64,
    /// True if all sign patterns were tried.
    pub exact: bool,
    /// Clusters whose difference is not 0: the others say nothing.
    pub clusters: usize,
}

/// Is the mean of `differences` (a row each) 0? If it is so because either sign is equally likely in each cluster, then the
/// absolute sum is as large as it is in a share p of all sign patterns. Where there are at most `permutations + 1` patterns
/// all of them are tried, otherwise as many are drawn, the one that was seen counting as one more (Phipson and Smyth 2010).
///
/// # Errors
/// [`Error::Shape`] for a number of differences other than that of the rows; [`Error::Invalid`] for fewer than 100
/// permutations.
pub fn sign_flip(
    differences: &[f64],
    clusters: &Clusters,
    permutations: usize,
    seed: u64,
) -> Result<SignFlip> {
    if differences.len() != clusters.rows() {
        return Err(Error::Shape {
            what: "differences of rows in clusters".into(),
            expected: format!("[{}]", clusters.rows()),
            found: vec![differences.len()],
        });
    }
    if permutations < 100 {
        return Err(Error::Invalid(format!(
            "sign-flip test: {permutations} permutations, expected at least 100"
        )));
    }
    let sums: Vec<f64> = clusters.sums(differences).into_iter().filter(|s| *s != 0.0).collect();
    let n = sums.len();
    let seen = sums.iter().sum::<f64>().abs();
    // Sums that are equal but for rounding are equal.
    let enough = seen - 1e-12 * sums.iter().map(|s| s.abs()).sum::<f64>();
    let all =
        u32::try_from(n).ok().and_then(|n| 2u64.checked_pow(n)).filter(|a| *a <= permutations as u64 + 1);
    let (reached, tried, least) = match all {
        Some(all) => {
            let of = |pattern: u64| -> f64 {
                sums.iter().enumerate().map(|(i, s)| signed(*s, pattern >> i)).sum()
            };
            let reached = (0..all).filter(|p| of(*p).abs() >= enough).count();
            // A pattern and its opposite are equally far out.
            (reached, all as f64, (2.0 / all as f64).min(1.0))
        }
        None => {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let reached = (0..permutations).filter(|_| flipped(&sums, &mut rng).abs() >= enough).count();
            let tried = permutations as f64 + 1.0;
            (reached + 1, tried, 1.0 / tried)
        }
    };
    Ok(SignFlip { p: reached as f64 / tried, least, exact: all.is_some(), clusters: n })
}

/// `value`, its sign turned if the last bit of `turn` is set: without a branch, because bits that were drawn cannot be foreseen.
fn signed(value: f64, turn: u64) -> f64 {
    f64::from_bits(value.to_bits() ^ (turn << 63))
}

/// The sum with signs drawn, 64 at a time.
fn flipped(sums: &[f64], rng: &mut ChaCha8Rng) -> f64 {
    sums.chunks(64)
        .map(|chunk| {
            let signs: u64 = rng.random();
            chunk.iter().enumerate().map(|(i, s)| signed(*s, signs >> i)).sum::<f64>()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::special::two_sided;
    use crate::testing::{close, numbers, oracle};

    #[test]
    fn exact_p_values_are_scipys() {
        for case in oracle()["sign_flip"].as_array().unwrap() {
            let d = numbers(&case["differences"]);
            let found = sign_flip(&d, &Clusters::alone(d.len()), 9999, 0).unwrap();
            close(found.p, case["p"].as_f64().unwrap(), 1e-12);
            assert!(found.exact);
        }
    }

    #[test]
    fn clusters_flip_together() {
        // Three clusters whose sums are 3, 2 and 1: of the 8 patterns only all plus and all minus reach 6.
        let clusters = Clusters::by(&[0, 0, 0, 1, 1, 2]);
        let found = sign_flip(&[1.0, 1.5, 0.5, 3.0, -1.0, 1.0], &clusters, 999, 0).unwrap();
        assert_eq!(found, SignFlip { p: 0.25, least: 0.25, exact: true, clusters: 3 });
        // Alone the same rows have 64 patterns; a cluster that is 0 says nothing.
        let alone = sign_flip(&[1.0, 1.5, 0.5, 3.0, -1.0, 1.0], &Clusters::alone(6), 999, 0).unwrap();
        assert!(alone.exact && alone.p < 0.25 && alone.least == 2.0 / 64.0);
        let zero = sign_flip(&[1.0, 1.0, -1.0], &Clusters::by(&[0, 1, 1]), 999, 0).unwrap();
        assert_eq!((zero.clusters, zero.p), (1, 1.0));
        let nothing = sign_flip(&[0.0; 4], &Clusters::alone(4), 999, 0).unwrap();
        assert_eq!(nothing, SignFlip { p: 1.0, least: 1.0, exact: true, clusters: 0 });
    }

    #[test]
    fn drawn_patterns_approach_the_normal_limit() {
        // 400 differences of size 1, a share of 0.56 positive: the sum is 48, its deviation 20, and it moves in steps of 2.
        let d: Vec<f64> = (0..400).map(|i| if i < 224 { 1.0 } else { -1.0 }).collect();
        let found = sign_flip(&d, &Clusters::alone(400), 9999, 1).unwrap();
        close(found.p, two_sided(47.0 / 20.0), 0.006);
        assert_eq!((found.exact, found.least), (false, 1e-4));
        assert_eq!(found, sign_flip(&d, &Clusters::alone(400), 9999, 1).unwrap());
        // Far out: the smallest value that can be had.
        let far = sign_flip(&[1.0; 400], &Clusters::alone(400), 9999, 1).unwrap();
        assert_eq!(far.p, far.least);
    }

    #[test]
    fn what_is_refused() {
        assert!(sign_flip(&[1.0; 3], &Clusters::alone(4), 999, 0).is_err());
        assert!(sign_flip(&[1.0; 3], &Clusters::alone(3), 99, 0).is_err());
    }
}
