//! Pixels in the order of their relevance.

use shiftlens_api::Heatmap;

/// All pixels (row-major indices) from the largest value to the smallest. Equal values come in the order of the SplitMix64
/// hash of their indices (Steele et al. 2014): fixed, the same for every map, and scattered over the plane.
pub fn by_relevance(map: &Heatmap) -> Vec<usize> {
    // Adding 0 makes 0 of -0, which `total_cmp` would tell apart.
    let keys: Vec<(f32, u64)> =
        map.as_slice().iter().enumerate().map(|(i, v)| (v + 0.0, scattered(i as u64))).collect();
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_unstable_by(|&a, &b| keys[b].0.total_cmp(&keys[a].0).then(keys[a].1.cmp(&keys[b].1)));
    order
}

/// SplitMix64's output function: one to one, so that no two pixels tie.
fn scattered(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_and_ties_are_scattered() {
        let map = Heatmap::new(2, 3, vec![0.5, -1.0, 2.0, 0.0, 0.25, -3.0]).unwrap();
        assert_eq!(by_relevance(&map), [2, 0, 4, 3, 1, 5]);
        let flat = by_relevance(&Heatmap::new(32, 32, vec![0.0; 1024]).unwrap());
        let mut sorted = flat.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1024).collect::<Vec<_>>());
        // The first half of a plateau holds about half of its upper half: 256 of 512, deviation 11.
        let upper = flat[..512].iter().filter(|p| **p < 512).count();
        assert!((220..292).contains(&upper), "{upper}");
        // Signed zeros are equal.
        let signed = (0..1024).map(|i| if i % 2 == 0 { 0.0 } else { -0.0 }).collect();
        assert_eq!(by_relevance(&Heatmap::new(32, 32, signed).unwrap()), flat);
    }

    #[test]
    fn the_hash_is_splitmix64() {
        // First outputs of the published generator with seed 0; its state grows by the constant that is added here.
        assert_eq!(scattered(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(scattered(0x9e37_79b9_7f4a_7c15), 0x6e78_9e6a_a1b9_65f4);
    }
}
