use super::*;
use crate::statistics::{Verdict, Wins};
use crate::testing::close;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

fn names(n: usize) -> Vec<String> {
    ["a", "b", "c", "d"][..n].iter().map(|n| (*n).into()).collect()
}

fn column(better: Better, values: Vec<Vec<Option<f64>>>) -> Column {
    Column { key: "k".into(), title: "K".into(), better, values }
}

/// Normal values of `groups` groups of `each` images for some explainers: a part that all share, a part of each group, a
/// part of each image, and a shift for each explainer.
fn drawn(
    groups: usize,
    each: usize,
    of_group: f64,
    shifts: &[f64],
    seed: u64,
) -> (Clusters, Vec<Vec<Option<f64>>>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = || -> f64 { rng.sample(StandardNormal) };
    let mut values = vec![Vec::new(); shifts.len()];
    for _ in 0..groups {
        let own: Vec<f64> = shifts.iter().map(|_| of_group * normal()).collect();
        for _ in 0..each {
            let shared = 3.0 * normal();
            for (e, shift) in shifts.iter().enumerate() {
                values[e].push(Some(shift + shared + own[e] + 0.1 * normal()));
            }
        }
    }
    let keys: Vec<usize> = (0..groups * each).map(|i| i / each).collect();
    (Clusters::by(&keys), values)
}

fn compared(clusters: &Clusters, columns: &[Column], settings: &ComparisonSettings) -> Vec<MetricComparison> {
    Comparison::new(&names(columns[0].values.len()), clusters, columns, settings).unwrap().metrics
}

#[test]
fn a_real_difference_is_told_from_none() {
    let (clusters, values) = drawn(20, 3, 0.1, &[0.5, 0.0, 0.0], 1);
    for test in [Test::SignFlip, Test::Wilcoxon] {
        let settings = ComparisonSettings { test, ..Default::default() };
        let m = &compared(&clusters, &[column(Better::Higher, values.clone())], &settings)[0];
        let [ab, ac, bc] = &m.differences[..] else { panic!("three pairs") };
        for d in [ab, ac] {
            assert_eq!((d.verdict, d.ahead.as_deref(), d.n, d.groups), (Verdict::Real, Some("a"), 60, 20));
            let (low, high) = d.interval.unwrap();
            assert!(low < 0.5 && 0.5 < high && low > 0.3 && d.p_holm >= d.p, "{d:?}");
        }
        assert_eq!((bc.a.as_str(), bc.b.as_str(), bc.verdict), ("b", "c", Verdict::NotShown));
        let (low, high) = bc.interval.unwrap();
        assert!(low < 0.0 && 0.0 < high && bc.p_holm.unwrap() > 0.05, "{bc:?}");
        let wins = ab.wins.unwrap();
        assert!(wins.a > 50 && wins.a + wins.ties + wins.b == 60, "{wins:?}");
        let r = m.ranking.as_ref().unwrap();
        assert!(r.groups == 20 && r.mean_ranks[0] < 1.3 && r.p.unwrap() < 0.001, "{r:?}");
        close(r.mean_ranks.iter().sum::<f64>(), 6.0, 1e-9);
        close(r.critical_difference, 2.3437 * (12.0 / 120.0f64).sqrt(), 1e-3);
    }
    // The same values where lower is better: b and c are ahead, and ranked before a.
    let m = &compared(&clusters, &[column(Better::Lower, values.clone())], &Default::default())[0];
    assert_eq!(m.differences[0].ahead.as_deref(), Some("b"));
    assert!(m.ranking.as_ref().unwrap().mean_ranks[0] > 2.7);
    assert_eq!(m.means[0].n, 60);
    close(m.means[0].value.unwrap(), values[0].iter().map(|v| v.unwrap()).sum::<f64>() / 60.0, 1e-12);
    // And where neither end is better, there is a difference but nothing ahead.
    let m = &compared(&clusters, &[column(Better::Neither, values)], &Default::default())[0];
    let d = &m.differences[0];
    assert_eq!((d.verdict, &d.ahead, d.wins, &m.ranking), (Verdict::Real, &None, None, &None));
}

#[test]
fn too_few_groups_can_show_nothing() {
    // Four groups: the clearest difference has p = 2 / 16, and with six pairs nothing can come of it.
    let (clusters, values) = drawn(4, 10, 0.1, &[5.0, 0.0], 2);
    let d = compared(&clusters, &[column(Better::Higher, values)], &Default::default()).remove(0).differences;
    assert_eq!((d[0].verdict, d[0].p, d[0].least_holm), (Verdict::CannotBeShown, Some(0.125), Some(0.125)));
    // Seven groups: 2 / 128 is enough for one pair and, if two others are clear too, for each of three.
    let (clusters, values) = drawn(7, 2, 0.1, &[9.0, 5.0, 0.0], 2);
    let one = vec![values[0].clone(), values[1].clone()];
    let d = compared(&clusters, &[column(Better::Higher, one)], &Default::default()).remove(0).differences;
    assert_eq!((d[0].verdict, d[0].p_holm), (Verdict::Real, Some(2.0 / 128.0)));
    let columns = [column(Better::Higher, values.clone()), column(Better::Higher, values)];
    let all = |family| {
        let settings = ComparisonSettings { family, ..Default::default() };
        compared(&clusters, &columns, &settings).into_iter().flat_map(|m| m.differences).collect::<Vec<_>>()
    };
    assert!(
        all(HolmFamily::Metric).iter().all(|d| d.verdict == Verdict::Real && d.p_holm == Some(6.0 / 128.0))
    );
    // The level is one of its own, whatever the intervals' confidence.
    let strict = ComparisonSettings { alpha: 0.04, ..Default::default() };
    let d = compared(&clusters, &columns, &strict).remove(0).differences;
    assert!(d.iter().all(|d| d.verdict == Verdict::CannotBeShown && d.p_holm == Some(6.0 / 128.0)));
    // Both metrics in one family: six times 2 / 128 is too much.
    let table = all(HolmFamily::Table);
    assert!(table.iter().all(|d| d.verdict == Verdict::CannotBeShown && d.p_holm == Some(12.0 / 128.0)));
}

#[test]
fn images_without_a_value_do_not_count() {
    let values = vec![
        vec![Some(1.0), Some(2.0), None, Some(4.0), Some(0.0)],
        vec![Some(1.0), None, Some(0.0), Some(1.0), Some(0.5)],
        vec![None, Some(7.0), None, None, None],
    ];
    let clusters = Clusters::by(&["p", "q", "q", "r", "s"]);
    let m = &compared(&clusters, &[column(Better::Higher, values)], &Default::default())[0];
    let d = &m.differences[0];
    assert_eq!((d.n, d.groups, d.difference), (3, 3, Some(2.5 / 3.0)));
    assert_eq!(d.wins, Some(Wins { a: 1, ties: 1, b: 1 }));
    assert_eq!((m.differences[1].n, m.differences[1].interval), (1, None));
    let none = &m.differences[2];
    assert_eq!((none.n, none.verdict, none.p, none.p_holm), (0, Verdict::NoData, None, None));
    assert_eq!(m.ranking, None);
    assert_eq!((m.means[2].n, m.means[2].value, m.means[2].interval), (1, Some(7.0), None));
}

#[test]
fn wrong_verdicts_are_as_rare_as_promised_and_groups_matter() {
    // 200 studies without any difference, ten groups of five images that are alike. 1023 permutations: all are tried.
    let wrong = |alone: bool| {
        let settings = ComparisonSettings {
            permutations: 1023,
            bootstrap: BootstrapSettings { resamples: 100, ..Default::default() },
            ..Default::default()
        };
        (0..200)
            .filter(|seed| {
                let (clusters, values) = drawn(10, 5, 1.0, &[0.0; 3], 100 + seed);
                let clusters = if alone { Clusters::alone(50) } else { clusters };
                let m = compared(&clusters, &[column(Better::Higher, values)], &settings).remove(0);
                m.differences.iter().any(|d| d.verdict == Verdict::Real)
            })
            .count()
    };
    // At most 5 %: 10 of 200, deviation 3.1. Taken for independent, the images show what is not there.
    let (grouped, alone) = (wrong(false), wrong(true));
    assert!(grouped <= 20 && alone > 60, "{grouped} and {alone} of 200");
}

#[test]
fn tables_are_written_and_read_and_wrong_ones_refused() {
    let (clusters, values) = drawn(6, 1, 0.1, &[0.0, 1.0], 3);
    let columns = [column(Better::Lower, values.clone())];
    let table = Comparison::new(&names(2), &clusters, &columns, &Default::default()).unwrap();
    let text = serde_json::to_string(&table).unwrap();
    let read: Comparison = serde_json::from_str(&text).unwrap();
    let (d, e) = (&read.metrics[0].differences[0], &table.metrics[0].differences[0]);
    assert_eq!((d.verdict, d.p_holm, &d.ahead, d.wins), (e.verdict, e.p_holm, &e.ahead, e.wins));
    assert_eq!((read.settings, &read.explainers), (table.settings, &table.explainers));
    // The reader of JSON may be off by a rounding.
    close(d.interval.unwrap().1, e.interval.unwrap().1, 1e-12);
    assert_eq!(Comparison::new(&names(2), &clusters, &columns, &Default::default()).unwrap(), table);
    let refused = |names: &[String], columns: &[Column], settings: &ComparisonSettings| {
        Comparison::new(names, &clusters, columns, settings).unwrap_err().to_string()
    };
    assert!(refused(&names(3), &columns, &Default::default()).contains("3 times 6"));
    let mut odd = values.clone();
    odd[1][4] = Some(f64::NAN);
    assert!(refused(&names(2), &[column(Better::Lower, odd)], &Default::default()).contains("of b: value 4"));
    let few = ComparisonSettings { permutations: 10, ..Default::default() };
    assert!(refused(&names(2), &columns, &few).contains("10 permutations"));
    let none = ComparisonSettings { alpha: 0.0, ..Default::default() };
    assert!(refused(&names(2), &columns, &none).contains("alpha 0"));
}
