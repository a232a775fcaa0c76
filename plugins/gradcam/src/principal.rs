//! The first principal component of a layer.

/// Iterations after which the component is taken as it is: two singular values are then nearly equal, and no
/// direction between theirs is better than another.
const ITERATIONS: usize = 20_000;

/// Projects the positions of `channels` (each `[P]`, P = `positions`) on their first principal component: with X the
/// `[P, K]` matrix centred per channel and v its first right singular vector, `X v`.
///
/// v is found by power iteration on `X X^T` from the position that is farthest from the mean. The sign is such that
/// the map agrees with the sum of the channels before centring.
pub fn projection(mut channels: Vec<Vec<f64>>, positions: usize) -> Vec<f64> {
    let mut sum = vec![0.0; positions];
    for channel in &mut channels {
        sum.iter_mut().zip(channel.iter()).for_each(|(s, v)| *s += v);
        let mean = channel.iter().sum::<f64>() / positions as f64;
        channel.iter_mut().for_each(|v| *v -= mean);
    }
    let norm2 = |p: usize| channels.iter().map(|c| c[p] * c[p]).sum::<f64>();
    let Some(farthest) = (0..positions).max_by(|&a, &b| norm2(a).total_cmp(&norm2(b))) else { return sum };
    let mut u = vec![0.0; positions];
    u[farthest] = 1.0;
    let mut singular = 0.0;
    for _ in 0..ITERATIONS {
        // y = X X^T u, channel by channel.
        let mut y = vec![0.0; positions];
        for channel in &channels {
            let dot: f64 = channel.iter().zip(&u).map(|(a, b)| a * b).sum();
            y.iter_mut().zip(channel).for_each(|(y, a)| *y += dot * a);
        }
        let length = y.iter().map(|v| v * v).sum::<f64>().sqrt();
        if length == 0.0 {
            // Every position is the mean: nothing varies, the map is flat.
            return vec![0.0; positions];
        }
        singular = length.sqrt();
        let change: f64 = y.iter().zip(&u).map(|(y, u)| (y / length - u).powi(2)).sum();
        u = y.into_iter().map(|v| v / length).collect();
        if change < 1e-24 {
            break;
        }
    }
    let agreement: f64 = u.iter().zip(&sum).map(|(a, b)| a * b).sum();
    let scale = if agreement < 0.0 { -singular } else { singular };
    u.into_iter().map(|v| scale * v).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_of_rank_one_projects_on_its_pattern() {
        // X = 3 * u v^T with u centred, so the projection is 3 |v| u.
        let u = [0.5, -0.5, 0.5, -0.5];
        let channels = [1.0, 2.0, -2.0].map(|v| u.iter().map(|u| 3.0 * v * u + 7.0).collect()).to_vec();
        let map = projection(channels, 4);
        for (m, u) in map.iter().zip(u) {
            assert!((m - 9.0 * u).abs() < 1e-9, "{map:?}");
        }
        assert_eq!(projection(vec![vec![2.0; 3]; 2], 3), [0.0; 3]);
    }
}
