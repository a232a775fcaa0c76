//! Pairs of images: structural similarity and its like, tested here on the reference's colour images too.

pub use shiftlens_evaluation::image_similarity::{WINDOW, mse, psnr, ssim, ssim_map};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::tests::{fixture_array, fixture_facts};
    use shiftlens_api::{Error, Images};

    fn pair(index: u64) -> (Images, Images) {
        let one = |side: &str| {
            let (shape, data) = fixture_array(&format!("pair{index}.{side}"));
            Images::new([1, shape[0], shape[1], shape[2]], data).unwrap()
        };
        (one("a"), one("b"))
    }

    #[test]
    fn agree_with_scikit_image() {
        let facts = fixture_facts();
        let pairs = facts["pairs"].as_array().unwrap();
        assert_eq!(pairs.len(), 2);
        for facts in pairs {
            let index = facts["index"].as_u64().unwrap();
            let (a, b) = pair(index);
            let check = |found: f64, name: &str, tolerance: f64| {
                let expected = facts[name].as_f64().unwrap();
                assert!((found - expected).abs() < tolerance, "{name} {found}, expected {expected}");
            };
            check(ssim(&a, &b).unwrap()[0], "ssim_gaussian", 1e-9);
            check(psnr(&a, &b).unwrap()[0], "psnr", 1e-9);
            check(mse(&a, &b).unwrap()[0], "mse", 1e-12);
            // Window by window, away from the border, which the reference fills in.
            let (shape, expected) = fixture_array(&format!("pair{index}.ssim_map"));
            let (h, w) = (shape[1], shape[2]);
            for k in 0..shape[0] {
                let plane = |x: &Images| x.image(0)[k * h * w..(k + 1) * h * w].to_vec();
                let found = ssim_map(&plane(&a), &plane(&b), w);
                for (p, f) in found.iter().enumerate() {
                    let (y, x) = (p / (w - 10) + WINDOW / 2, p % (w - 10) + WINDOW / 2);
                    assert!((f - f64::from(expected[(k * h + y) * w + x])).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn equal_images_and_what_is_refused() {
        let (a, b) = pair(1);
        assert!((ssim(&a, &a).unwrap()[0] - 1.0).abs() < 1e-12);
        assert_eq!(psnr(&a, &a).unwrap()[0], f64::INFINITY);
        let two = Images::concat(&[a.clone(), b.clone()]).unwrap();
        let back = Images::concat(&[b.clone(), a.clone()]).unwrap();
        let both = ssim(&two, &back).unwrap();
        assert!((both[0] - ssim(&a, &b).unwrap()[0]).abs() < 1e-12 && (both[0] - both[1]).abs() < 1e-12);
        assert!(matches!(ssim(&two, &a), Err(Error::Shape { .. })));
        let small = Images::new([1, 1, 10, 20], vec![0.5; 200]).unwrap();
        assert!(ssim(&small, &small).is_err_and(|e| e.to_string().contains("at least 11")));
    }
}
