//! What is measured on one case.

use crate::manifest::EvaluationSpec;
use shiftlens_api::record::EvaluationRecord;
use shiftlens_api::{Error, Result, Tensor};
use shiftlens_evaluation::Metric;
use std::time::Instant;

/// A metric, and which of several variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The metric.
    pub metric: Metric,
    /// Its variant: the name of a baseline.
    pub variant: Option<&'static str>,
}

impl Key {
    /// A metric without variants.
    pub const fn of(metric: Metric) -> Self {
        Self { metric, variant: None }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.metric.key())?;
        self.variant.map_or(Ok(()), |v| write!(f, ".{v}"))
    }
}

/// A case's values, as they come in.
pub struct Sheet<'a> {
    /// What is asked for.
    pub spec: &'a EvaluationSpec,
    /// The values.
    pub values: Vec<EvaluationRecord>,
    /// What could not be measured.
    pub remarks: Vec<String>,
    /// Arrays that the study's figures need.
    pub arrays: Vec<(String, Tensor)>,
}

impl<'a> Sheet<'a> {
    /// An empty one.
    pub fn new(spec: &'a EvaluationSpec) -> Self {
        Self { spec, values: Vec::new(), remarks: Vec::new(), arrays: Vec::new() }
    }

    /// Measures what `keys` name, if any of them is asked for: `measure` answers a value, or none, for each. What fails
    /// has no values and is a remark.
    ///
    /// # Errors
    /// [`Error::Cancelled`] alone.
    pub fn measure<const N: usize>(
        &mut self,
        method: &str,
        keys: [Key; N],
        measure: impl FnOnce() -> Result<[Option<f64>; N]>,
    ) -> Result<()> {
        if !keys.iter().any(|k| self.spec.wants(k.metric)) {
            return Ok(());
        }
        let started = Instant::now();
        let mut found = match measure() {
            Ok(found) => found,
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(e) => {
                self.fail(method, &keys, &e.to_string());
                [None; N]
            }
        };
        let seconds = started.elapsed().as_secs_f64() / N as f64;
        for (key, value) in keys.iter().zip(&mut found).filter(|(k, _)| self.spec.wants(k.metric)) {
            if let Some(odd) = value.filter(|v| !v.is_finite()) {
                *value = None;
                self.remarks.push(format!("{key} of {method}: {odd}, which is no number"));
            }
            let (method, metric) = (method.to_owned(), key.to_string());
            self.values.push(EvaluationRecord { method, metric, value: *value, seconds });
        }
        Ok(())
    }

    /// A value that is known already.
    pub fn put(&mut self, method: &str, metric: Metric, value: Option<f64>) -> Result<()> {
        self.measure(method, [Key::of(metric)], || Ok([value]))
    }

    fn fail(&mut self, method: &str, keys: &[Key], why: &str) {
        let wanted = keys.iter().filter(|k| self.spec.wants(k.metric)).map(ToString::to_string);
        self.remarks.push(format!("{} of {method}: {why}", wanted.collect::<Vec<_>>().join(", ")));
    }
}
