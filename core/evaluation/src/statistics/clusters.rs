//! Rows that belong together.

use std::collections::{BTreeMap, BTreeSet};

/// Which cluster (patient) each row (image) belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clusters {
    of: Vec<usize>,
    members: Vec<Vec<usize>>,
}

impl Clusters {
    /// Rows with equal keys belong together. Clusters are numbered in the order of their keys, so that the order of the rows
    /// does not decide which cluster is drawn.
    pub fn by<K: Ord>(keys: &[K]) -> Self {
        let distinct: BTreeSet<&K> = keys.iter().collect();
        let number: BTreeMap<&K, usize> = distinct.into_iter().enumerate().map(|(i, k)| (k, i)).collect();
        Self::numbered(keys.iter().map(|k| number[k]).collect(), number.len())
    }

    /// Every one of `n` rows on its own.
    pub fn alone(n: usize) -> Self {
        Self::numbered((0..n).collect(), n)
    }

    fn numbered(of: Vec<usize>, n: usize) -> Self {
        let mut members = vec![Vec::new(); n];
        of.iter().enumerate().for_each(|(row, cluster)| members[*cluster].push(row));
        Self { of, members }
    }

    /// Number of clusters.
    pub fn len(&self) -> usize {
        self.members.len()
    }
    /// True without a row.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.of.len()
    }
    /// The rows of a cluster.
    pub fn members(&self, cluster: usize) -> &[usize] {
        &self.members[cluster]
    }
    /// The clusters of some of the rows: row i of the answer is `rows[i]`. Clusters without a row are gone, the others keep
    /// their order.
    pub fn of_rows(&self, rows: &[usize]) -> Self {
        Self::by(&rows.iter().map(|r| self.of[*r]).collect::<Vec<_>>())
    }
    /// Sum of the values in each cluster.
    pub(crate) fn sums(&self, values: &[f64]) -> Vec<f64> {
        self.members.iter().map(|m| m.iter().map(|i| values[*i]).sum()).collect()
    }
    /// Mean of the values in each cluster.
    pub(crate) fn means(&self, values: &[f64]) -> Vec<f64> {
        self.sums(values).into_iter().zip(&self.members).map(|(s, m)| s / m.len() as f64).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_grouped_by_key() {
        let c = Clusters::by(&["b", "a", "b", "c"]);
        assert_eq!((c.len(), c.rows(), c.members(1)), (3, 4, &[0, 2][..]));
        assert_eq!(c.sums(&[1.0, 2.0, 3.0, 4.0]), [2.0, 4.0, 4.0]);
        assert_eq!(c.means(&[1.0, 2.0, 3.0, 4.0]), [2.0, 2.0, 4.0]);
        let some = c.of_rows(&[3, 2, 0]);
        assert_eq!((some.len(), some.members(0), some.members(1)), (2, &[1, 2][..], &[0][..]));
        assert_eq!(Clusters::alone(2), Clusters::by(&[1, 2]));
        assert!(Clusters::alone(0).is_empty());
    }
}
