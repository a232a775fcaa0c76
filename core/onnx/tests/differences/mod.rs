//! Gradient models against central differences of the [interpreter](crate::reference), in float64.

#![allow(dead_code, reason = "coverage is asked once, by one of the test programs")]

mod gradient;
mod known;
mod oracle;

use crate::cases::{Case, Family, GROUPS, all, net::SAMPLES};
use gradient::Outcome;
pub use known::Known;
use known::{Entry, REFUSED, WITHOUT_RULE};
use oracle::Oracle;
use std::collections::{BTreeMap, BTreeSet};

/// Largest error of a logit or a gradient relative to the largest of its kind. Runtimes compute in float32 (unit roundoff
/// 6e-8); sums of a few dozen terms and the polynomial approximations of Erf and Tanh leave 1e-6 to 1e-5 of the result,
/// cancellation in normalisations costs another digit.
pub const TOLERANCE: f64 = 2e-4;

/// A case that has a derivative at its images, with what the interpreter says about it.
fn smooth_case(family: &Family, opset: i64, index: u64) -> Result<(Case, Oracle), String> {
    for attempt in 0..40 {
        let case = family.case(opset, index, attempt);
        if let Some(oracle) = Oracle::of(&case).map_err(|e| format!("{}: the interpreter: {e}", case.name))? {
            return Ok((case, oracle));
        }
    }
    Err(format!("{}-{opset} #{index}: 40 draws, and each lies on a kink", family.operator))
}

/// Checks all cases of a group.
pub fn check(group: &str, known: &Known) {
    let families = GROUPS.iter().find(|(name, _)| *name == group).expect("a group of that name").1;
    let mut wrong = Vec::new();
    let mut limited: BTreeMap<(&str, i64), String> = BTreeMap::new();
    let mut refused: BTreeMap<(&str, i64), String> = BTreeMap::new();
    let mut without: BTreeSet<&str> = BTreeSet::new();
    let mut right: BTreeSet<&str> = BTreeSet::new();
    let (mut cases, mut worst) = (0, (0.0, String::new()));
    for family in families.iter().copied().flatten() {
        for (opset, index) in family.opsets.iter().flat_map(|o| (0..family.count).map(move |i| (*o, i))) {
            let (case, oracle) = match smooth_case(family, opset, index) {
                Ok(found) => found,
                Err(e) => {
                    wrong.push(e);
                    continue;
                }
            };
            match gradient::check(&case, &oracle) {
                Outcome::Right(error) => {
                    cases += 1;
                    right.insert(family.operator);
                    if error > worst.0 {
                        worst = (error, case.name);
                    }
                }
                Outcome::Wrong(e) if listed(known.limits, family, opset, &e) => {
                    limited.insert((family.operator, opset), e);
                }
                Outcome::Wrong(e) => wrong.push(format!("{}: {e}", case.name)),
                Outcome::NotRun(e) if listed(known.limits, family, opset, &e) => {
                    limited.insert((family.operator, opset), e);
                }
                Outcome::NotRun(e) => wrong.push(format!("{}: the backend cannot run it: {e}", case.name)),
                Outcome::Refused(e) if listed(REFUSED, family, opset, &e) => {
                    refused.insert((family.operator, opset), e);
                }
                Outcome::Refused(e) if WITHOUT_RULE.contains(&family.operator) => {
                    let words = [
                        format!("no gradient rule for operator {}", family.operator),
                        "(node \"node ".into(),
                    ];
                    if !words.iter().all(|w| e.contains(w)) {
                        wrong.push(format!("{}: refused without naming operator and node: {e}", case.name));
                    }
                    without.insert(family.operator);
                }
                Outcome::Refused(e) => wrong.push(format!("{}: {e}", case.name)),
            }
        }
    }
    for ((op, opset), e) in &limited {
        println!("not run by this backend: {op}-{opset}: {e}");
    }
    println!("{group}: {cases} cases, largest relative error {:.1e} ({})", worst.0, worst.1);
    // A rule whose cases are all refused or not run is not tested.
    for family in families.iter().copied().flatten() {
        let op = family.operator;
        if gradient::operators().any(|o| o == op)
            && !right.contains(op)
            && !limited.keys().any(|(l, _)| *l == op)
        {
            wrong.push(format!("{op} has a rule, but no case came to a gradient"));
        }
    }
    // Lists of what does not work must not outlive their reasons.
    let here = |op: &str| families.iter().copied().flatten().any(|f| f.operator == op);
    for (list, seen) in [(known.limits, &limited), (REFUSED, &refused)] {
        for (op, opsets, words) in list.iter().filter(|(op, ..)| here(op)) {
            for opset in opsets.iter().filter(|o| !seen.contains_key(&(*op, **o))) {
                wrong.push(format!("{op}-{opset} is listed with \"{words}\", but no case ends so"));
            }
        }
    }
    for op in WITHOUT_RULE.iter().filter(|op| here(op) && !without.contains(**op)) {
        if !limited.keys().any(|(limit, _)| limit == op) {
            wrong.push(format!("{op} is listed as without a rule, but no case was refused"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), digest(&wrong));
}

fn listed(entries: &[Entry], family: &Family, opset: i64, message: &str) -> bool {
    entries.iter().any(|(op, opsets, words)| {
        *op == family.operator && opsets.contains(&opset) && message.contains(words)
    })
}

/// The first of each operator and operator set: one broken rule breaks all of its cases.
fn digest(wrong: &[String]) -> String {
    let mut seen = BTreeMap::new();
    for line in wrong {
        let key = line.split(' ').next().unwrap_or("");
        seen.entry(key).or_insert((line, 0)).1 += 1;
    }
    seen.values().map(|(line, count)| format!("{count} like: {line}\n")).collect()
}

/// Every operator with a rule has a family of cases about it.
pub fn coverage() {
    let families: BTreeSet<&str> = all().map(|f| f.operator).collect();
    let missing: Vec<&str> = gradient::operators().filter(|op| !families.contains(op)).collect();
    assert!(missing.is_empty(), "operators with a rule and no family of cases: {missing:?}");
}

/// A test for each group of cases, so that they run side by side.
macro_rules! groups {
    ($check:ident: $($group:ident),+) => {
        $(#[test]
        fn $group() {
            $check(stringify!($group));
        })+
    };
}
pub(crate) use groups;
