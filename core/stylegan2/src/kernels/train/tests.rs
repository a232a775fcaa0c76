//! Against the definitions, summed in f64.

use super::flow::Budget;
use super::*;
use crate::kernels::conv::{self, tests::values};

/// y, and the gradients of `sum(y * g)` with respect to x and w, by their definitions in f64.
fn definitions(s: &Shape, x: &[f64], w: &[f64], g: &[f64]) -> [Vec<f64>; 3] {
    let (xh, xw) = s.x_size();
    let [mut y, mut gx, mut gw] = [vec![0.0; g.len()], vec![0.0; x.len()], vec![0.0; w.len()]];
    for (o, y) in y.iter_mut().enumerate() {
        let (n, k, i, j) = (o / (s.k * s.h * s.w), o / (s.h * s.w) % s.k, o / s.w % s.h, o % s.w);
        for (c, a, b) in (0..s.c * 9).map(|t| (t / 9, t / 3 % 3, t % 3)) {
            let (row, column) = match s.geometry {
                Geometry::Same => ((i + a).wrapping_sub(1), (j + b).wrapping_sub(1)),
                Geometry::Down => (2 * i + a, 2 * j + b),
            };
            if row < xh && column < xw {
                let (at, tap) = (((n * s.c + c) * xh + row) * xw + column, (k * s.c + c) * 9 + a * 3 + b);
                *y += x[at] * w[tap];
                gx[at] += g[o] * w[tap];
                gw[tap] += g[o] * x[at];
            }
        }
    }
    [y, gx, gw]
}

fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|v| f64::from(*v)).collect()
}

/// Each plane times its factor.
fn times(v: &[f32], factors: &[f32]) -> Vec<f64> {
    let area = v.len() / factors.len();
    v.iter().enumerate().map(|(i, v)| f64::from(*v) * f64::from(factors[i / area])).collect()
}

/// Largest error over the rms of the truth.
fn error(y: &[f32], truth: &[f64]) -> f64 {
    assert_eq!(y.len(), truth.len());
    let rms = (truth.iter().map(|v| v * v).sum::<f64>() / truth.len() as f64).sqrt();
    let worst = y.iter().zip(truth).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    worst / rms
}

fn shape(geometry: Geometry, [n, c, k, h, w]: [usize; 5]) -> Shape {
    Shape { geometry, n, c, k, h, w, size: 3 }
}

struct Case {
    s: Shape,
    x: Vec<f32>,
    w: Vec<f32>,
    g: Vec<f32>,
}

impl Case {
    fn new(geometry: Geometry, sizes: [usize; 5]) -> Self {
        let s = shape(geometry, sizes);
        let (xh, xw) = s.x_size();
        let (x, w) = (values(s.n * s.c * xh * xw, 1), values(s.k * s.c * 9, 2));
        Self { s, x, w, g: values(s.n * s.k * s.h * s.w, 3) }
    }
    /// All three maps, plain.
    fn run(&self, isa: Isa, budget: Option<Budget>) -> [Vec<f32>; 3] {
        let s = &self.s;
        let (mut f, mut t, mut g) = (forward_scheme(s), transposed_scheme(s), Gradient::new(s.geometry));
        if let Some(b) = budget {
            (f.budget, t.budget, g.budget) = (b, b, b);
        }
        let (x, y) = (Operand::plain(&self.x), Operand::plain(&self.g));
        [
            forward_by(&f, isa, s, x, &self.w, |_, _| ()),
            transposed_by(&t, isa, s, y, &self.w, |_, _| ()),
            gradient_by(&g, isa, s, x, y),
        ]
    }
}

/// Images, channels of x and of y, height and width of y: odd numbers of channels, panels that are not full, one tile,
/// more rows than columns, and enough tiles for several items.
const SIZES: [[usize; 5]; 6] = [
    [1, 8, 9, 4, 4],
    [3, 20, 40, 8, 12],
    [2, 33, 17, 12, 4],
    [1, 1, 1, 4, 8],
    [2, 16, 32, 32, 32],
    [17, 16, 8, 4, 4],
];

#[test]
fn all_maps_are_their_definitions_in_f64() {
    for (geometry, sizes) in [Geometry::Same, Geometry::Down].into_iter().flat_map(|g| SIZES.map(|s| (g, s)))
    {
        let case = Case::new(geometry, sizes);
        let truth = definitions(&case.s, &wide(&case.x), &wide(&case.w), &wide(&case.g));
        for isa in Isa::available() {
            // Everything in one item; cut as finely as possible, fused; the same, wide.
            let budgets =
                [None, Some([usize::MAX >> 8, usize::MAX >> 8]), Some([usize::MAX >> 8, 1]), Some([1, 1])];
            for budget in budgets {
                let budget = budget.map(|[fused, wide]| Budget { fused, wide });
                for (map, (ours, truth)) in case.run(isa, budget).iter().zip(&truth).enumerate() {
                    let e = error(ours, truth);
                    assert!(e < 2e-5, "{isa:?} {:?} map {map} {budget:?}: {e}", case.s);
                }
            }
        }
    }
}

#[test]
fn sizes_lead_to_both_schedules_and_to_several_chunks() {
    // Otherwise the comparisons would leave one of them out.
    let mut seen = std::collections::BTreeSet::new();
    for (geometry, sizes) in [Geometry::Same, Geometry::Down].into_iter().flat_map(|g| SIZES.map(|s| (g, s)))
    {
        let s = shape(geometry, sizes);
        for small in [false, true] {
            let (mut f, mut t, mut g) = (forward_scheme(&s), transposed_scheme(&s), Gradient::new(geometry));
            if small {
                let budget = Budget { fused: usize::MAX >> 8, wide: 1 };
                (f.budget, t.budget, g.budget) = (budget, Budget { fused: 1, ..budget }, budget);
            }
            let isa = Isa::detect();
            let plans = [
                f.plan(isa, tiles(&s), forward_order(&s)),
                t.plan(isa, tiles(&s), transposed_order(&s)),
                g.plan(isa, tiles(&s), gradient_order(&s)),
            ];
            for (map, plan) in plans.iter().enumerate() {
                seen.insert((map, plan.fused, plan.rows < s.n * s.h / TILE));
            }
        }
    }
    for (map, fused) in (0..3).flat_map(|m| [(m, true), (m, false)]) {
        assert!(seen.contains(&(map, fused, true)), "map {map}, fused {fused}: {seen:?}");
    }
}

#[test]
fn very_large_images_are_left_to_gathered_rows() {
    let up = |side| shape(Geometry::Down, [1, 32, 64, side, side]);
    let isa = Isa::detect();
    assert!(serves_transposed(isa, &up(128)) && !serves_transposed(isa, &up(512)));
    assert!(serves(&up(512)) && serves_transposed(isa, &Shape { geometry: Geometry::Same, ..up(512) }));
    for s in [[1, 8, 8, 6, 8], [1, 8, 8, 8, 7], [1, 7, 8, 8, 8], [1, 8, 7, 8, 8], [0, 8, 8, 8, 8]] {
        assert!(!serves(&shape(Geometry::Same, s)), "{s:?}");
    }
    assert!(!serves(&Shape { size: 1, ..up(8) }));
}

#[test]
fn factors_and_what_follows_a_row_belong_to_their_planes() {
    for geometry in [Geometry::Same, Geometry::Down] {
        let case = Case::new(geometry, [2, 18, 21, 8, 8]);
        let s = &case.s;
        let (fx, fy) = (values(s.n * s.c, 5), values(s.n * s.k, 6));
        let (x, y) = (times(&case.x, &fx), times(&case.g, &fy));
        let [mut forward, mut back, gradient] = definitions(s, &x, &wide(&case.w), &y);
        let (_, xw) = s.x_size();
        let planes = s.n * s.k;
        let area = forward.len() / planes;
        forward
            .iter_mut()
            .enumerate()
            .for_each(|(i, v)| *v = *v * f64::from(fy[i / area]) + (i % s.w) as f64);
        let area = back.len() / (s.n * s.c);
        back.iter_mut().enumerate().for_each(|(i, v)| *v = *v * f64::from(fx[i / area]) + (i % xw) as f64);
        let finish = |factors: &[f32], row: &mut [f32], plane: usize| {
            row.iter_mut().enumerate().for_each(|(i, v)| *v = *v * factors[plane] + i as f32);
        };
        for isa in Isa::available() {
            let (x, y) = (Operand::scaled(&case.x, &fx), Operand::scaled(&case.g, &fy));
            let ours = [
                super::forward(isa, s, x, &case.w, |row, plane| finish(&fy, row, plane)),
                super::transposed(isa, s, y, &case.w, |row, plane| finish(&fx, row, plane)),
                super::weight_gradient(isa, s, x, y),
            ];
            for (ours, truth) in ours.iter().zip([&forward, &back, &gradient]) {
                let e = error(ours, truth);
                assert!(e < 2e-5, "{isa:?} {geometry:?}: {e}");
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    for (geometry, sizes) in [Geometry::Same, Geometry::Down].into_iter().flat_map(|g| SIZES.map(|s| (g, s)))
    {
        let case = Case::new(geometry, sizes);
        let runs = [1, 2, 5].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| case.run(Isa::detect(), None))
        });
        assert!(runs.iter().all(|r| r == &runs[0]), "{:?}", case.s);
    }
}

#[test]
fn many_channels_and_many_tiles_stay_within_a_few_units_of_rounding() {
    // Gathered rows round less, so they are the truth here; both add thousands of terms.
    for (geometry, sizes) in [
        (Geometry::Same, [1, 512, 48, 16, 16]),
        (Geometry::Down, [1, 512, 48, 8, 8]),
        (Geometry::Same, [16, 16, 16, 64, 64]),
    ] {
        let case = Case::new(geometry, sizes);
        let s = &case.s;
        let (x, g, isa) = (Operand::plain(&case.x), Operand::plain(&case.g), Isa::detect());
        let maps = || {
            [
                conv::forward(isa, s, x, &case.w, |_, _| ()),
                conv::transposed(isa, s, g, &case.w, |_, _| ()),
                conv::weight_gradient(isa, s, x, g),
            ]
        };
        let truth = maps();
        // Whoever asks for the fast ones gets these, but not where gathered rows are insisted on.
        assert_eq!(conv::fast(maps), case.run(isa, None));
        assert_eq!(conv::gathered(|| conv::fast(maps)), truth);
        for (map, (ours, truth)) in case.run(isa, None).iter().zip(&truth).enumerate() {
            let e = error(ours, &wide(truth));
            println!("{s:?} map {map}: {e:.1e}");
            assert!(e < 3e-5, "{s:?} map {map}: {e}");
        }
    }
}
