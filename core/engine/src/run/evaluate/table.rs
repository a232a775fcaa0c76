//! The tables on the screen, and their means for programs.

use super::StudyEvaluation;
use serde_json::{Map, Value, json};
use shiftlens_evaluation::Better;
use shiftlens_evaluation::statistics::{Comparison, Difference, MetricComparison, Verdict};
use std::fmt::{Display, Formatter, Result};

/// Characters of a metric's title.
const TITLE: usize = 44;
/// Differences that are listed in full.
const LISTED: usize = 12;

/// Three significant digits.
fn short(v: f64) -> String {
    match v.abs() {
        0.0 => "0".into(),
        a if (0.001..1000.0).contains(&a) => {
            let digits = (2 - a.log10().floor() as i32).clamp(0, 5) as usize;
            format!("{v:.digits$}")
        }
        _ => format!("{v:.2e}"),
    }
}

/// The method whose mean is best; none where no end is better, and of a single method.
fn best(m: &MetricComparison) -> Option<usize> {
    let sign = match m.better {
        Better::Higher => 1.0,
        Better::Lower => -1.0,
        Better::Neither => return None,
    };
    let there = m.means.iter().enumerate().filter_map(|(i, mean)| Some((i, sign * mean.value?)));
    let there: Vec<(usize, f64)> = there.collect();
    let top = there.iter().map(|t| t.1).reduce(f64::max)?;
    let mut first = there.iter().filter(|t| t.1 == top).map(|t| t.0);
    match (first.next(), first.next(), there.len()) {
        (Some(i), None, 2..) => Some(i),
        _ => None,
    }
}

fn table(f: &mut Formatter<'_>, what: &str, c: &Comparison) -> Result {
    writeln!(f, "{what}:")?;
    for (i, name) in c.explainers.iter().enumerate() {
        writeln!(f, "  [{}] {name}", i + 1)?;
    }
    write!(f, "  {:TITLE$}", "")?;
    (1..=c.explainers.len()).try_for_each(|i| write!(f, "{:>10} ", format!("[{i}]")))?;
    writeln!(f)?;
    for m in &c.metrics {
        let way = match m.better {
            Better::Higher => " (more)",
            Better::Lower => " (less)",
            Better::Neither => "",
        };
        write!(f, "  {:TITLE$}", format!("{}{way}", m.title))?;
        let best = best(m);
        for (i, mean) in m.means.iter().enumerate() {
            let value = mean.value.map_or_else(|| "-".into(), short);
            write!(f, "{value:>10}{}", if best == Some(i) { "*" } else { " " })?;
        }
        writeln!(f)?;
    }
    differences(f, c)
}

fn differences(f: &mut Formatter<'_>, c: &Comparison) -> Result {
    let all: Vec<(&MetricComparison, &Difference)> =
        c.metrics.iter().flat_map(|m| m.differences.iter().map(move |d| (m, d))).collect();
    let of = |v: Verdict| all.iter().filter(move |(_, d)| d.verdict == v);
    let real: Vec<_> = of(Verdict::Real).filter(|(_, d)| d.ahead.is_some()).collect();
    let shown = all.len() - of(Verdict::NoData).count();
    if shown == 0 {
        return Ok(());
    }
    writeln!(
        f,
        "  differences that are real (p <= {} after Holm's correction): {}",
        c.settings.alpha,
        real.len()
    )?;
    for (m, d) in real.iter().take(LISTED) {
        let (Some(ahead), Some(by), Some(p)) = (&d.ahead, d.difference, d.p_holm) else { continue };
        let behind = if *ahead == d.a { &d.b } else { &d.a };
        writeln!(f, "    {}: {ahead} before {behind} by {} (p = {})", m.title, short(by.abs()), short(p))?;
    }
    if real.len() > LISTED {
        writeln!(f, "    and {} more in evaluation.json", real.len() - LISTED)?;
    }
    match of(Verdict::CannotBeShown).count() {
        0 => Ok(()),
        n => writeln!(f, "  {n} of {shown} comparisons have too few groups to show any difference"),
    }
}

impl Display for StudyEvaluation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "evaluation of {} images in {} groups, means (* best):", self.cases, self.groups)?;
        for (what, c) in [("heatmaps", &self.heatmaps), ("counterfactuals", &self.counterfactuals)] {
            c.as_ref().map_or(Ok(()), |c| table(f, what, c))?;
        }
        for s in &self.sets {
            let value = |v: Option<f64>| v.map_or_else(|| "-".into(), short);
            writeln!(
                f,
                "  {} to {}: FID {}, KID {} ({} flips, {} real images)",
                s.method,
                s.towards,
                value(s.fid),
                value(s.kid),
                s.flips,
                s.real
            )?;
        }
        self.remarks.iter().try_for_each(|r| writeln!(f, "  note: {r}"))
    }
}

impl StudyEvaluation {
    /// The means of the tables: for each kind of explanation (`null` where none was measured) the methods, and for each the
    /// metrics by key (`null` where there is no value). All the rest stands in `evaluation.json`.
    pub fn means(&self) -> Value {
        let table = |c: &Comparison| -> Value {
            let row = |i: usize| c.metrics.iter().map(move |m| (m.key.clone(), json!(m.means[i].value)));
            let rows = c.explainers.iter().enumerate();
            rows.map(|(i, name)| (name.clone(), row(i).collect::<Map<_, _>>().into()))
                .collect::<Map<_, _>>()
                .into()
        };
        json!({
            "cases": self.cases,
            "groups": self.groups,
            "heatmaps": self.heatmaps.as_ref().map(table),
            "counterfactuals": self.counterfactuals.as_ref().map(table),
            "sets": self.sets,
            "remarks": self.remarks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shiftlens_evaluation::statistics::{Clusters, Column};

    #[test]
    fn numbers_are_short() {
        for (v, text) in
            [(0.0, "0"), (0.71234, "0.712"), (-0.012345, "-0.0123"), (123.456, "123"), (5.0, "5.00")]
        {
            assert_eq!(short(v), text);
        }
        assert_eq!((short(1e-6), short(123_456.0)), ("1.00e-6".into(), "1.23e5".into()));
    }

    #[test]
    fn the_best_is_marked_and_real_differences_are_listed() {
        let names = ["good".to_owned(), "same".into(), "bad".into()];
        let wave = |i: usize| 0.01 * (i as f64 * 1.7).sin();
        let good: Vec<Option<f64>> = (0..12).map(|i| Some(0.9 + wave(i))).collect();
        let bad: Vec<Option<f64>> = (0..12).map(|i| Some(0.4 - wave(i))).collect();
        let column = |key: &str, better, values: [&Vec<Option<f64>>; 3]| Column {
            key: key.into(),
            title: format!("Metric {key}"),
            better,
            values: values.map(Clone::clone).to_vec(),
        };
        let columns = [
            column("a", Better::Higher, [&good, &good, &bad]),
            column("b", Better::Lower, [&good, &good, &bad]),
        ];
        let c = Comparison::new(&names, &Clusters::alone(12), &columns, &Default::default()).unwrap();
        let evaluation = StudyEvaluation {
            schema: 1,
            cases: 12,
            groups: 12,
            budget: 1000,
            metrics: vec![],
            heatmaps: Some(c),
            counterfactuals: None,
            sets: vec![],
            randomisation: None,
            remarks: vec!["said".into()],
            timings: Default::default(),
        };
        let text = evaluation.to_string();
        // Two that tie are both best, and none is marked.
        let line =
            |key: &str| text.lines().find(|l| l.contains(&format!("Metric {key} ("))).unwrap().to_owned();
        assert!(!line("a").contains('*') && line("b").ends_with("*"), "{text}");
        assert!(text.contains("differences that are real (p <= 0.05 after Holm's correction): 4"), "{text}");
        assert!(text.contains("Metric a: good before bad by 0.5"), "{text}");
        assert!(text.contains("Metric b: bad before good by 0.5") && text.contains("note: said"), "{text}");
        let means = evaluation.means();
        let value = |method: &str, key: &str| means["heatmaps"][method][key].as_f64().unwrap();
        assert!((value("good", "a") - 0.9).abs() < 0.01 && (value("bad", "b") - 0.4).abs() < 0.01, "{means}");
        assert!(means["counterfactuals"].is_null() && means["cases"] == 12, "{means}");
    }
}
