//! Linear operators along one axis of a picture, and their adjoints.

use super::wavelet::{BAND_TAPS, SYM6};
use candle_core::WithDType;

/// Each output is a weighted sum of `taps` inputs.
pub(super) struct Axis<T> {
    inputs: usize,
    taps: usize,
    /// `taps` indices of inputs for each output, and their weights.
    places: Vec<u32>,
    weights: Vec<T>,
}

/// The pixel of a row of `n` (at least 2) at a place of the row continued by reflection, ends not repeated.
pub(super) fn reflected(place: i64, n: usize) -> usize {
    let last = n as i64 - 1;
    let place = place.rem_euclid(2 * last);
    (if place > last { 2 * last - place } else { place }) as usize
}

impl<T: WithDType> Axis<T> {
    fn new(inputs: usize, outputs: usize, taps: usize, f: impl Fn(usize, usize) -> (usize, f64)) -> Self {
        let both = (0..outputs * taps).map(|i| f(i / taps, i % taps));
        let (places, weights) = both.map(|(p, w)| (p as u32, T::from_f64(w))).unzip();
        Self { inputs, taps, places, weights }
    }

    /// Places `from..from + outputs` of a row of `inputs` pixels, continued by reflection, doubled with sym6: place m is
    /// the sum over k of `x[k] h[m - 2k]`.
    pub fn doubling(inputs: usize, from: i64, outputs: usize) -> Self {
        Self::new(inputs, outputs, SYM6.len() / 2, |o, t| {
            let place = from + o as i64;
            let parity = place.rem_euclid(2);
            let tap = parity + 2 * t as i64;
            (reflected((place - tap) / 2, inputs), SYM6[tap as usize])
        })
    }

    /// A row of `2 outputs + 10` places halved to `outputs` with sym6: `y[k]` is the sum over j of `h[j] x[2k + j]`.
    pub fn halving(outputs: usize) -> Self {
        let taps = SYM6.len();
        Self::new(2 * outputs + taps - 2, outputs, taps, |o, t| (2 * o + t, SYM6[t]))
    }

    /// A filter that is symmetric about its middle, on rows of `n` pixels continued by reflection.
    pub fn filter(n: usize, filter: &[f64; BAND_TAPS]) -> Self {
        let middle = (BAND_TAPS / 2) as i64;
        Self::new(n, n, BAND_TAPS, |o, t| (reflected(o as i64 + t as i64 - middle, n), filter[t]))
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }
    pub fn outputs(&self) -> usize {
        self.places.len() / self.taps
    }

    fn each(&self) -> impl Iterator<Item = (&[u32], &[T])> {
        self.places.chunks_exact(self.taps).zip(self.weights.chunks_exact(self.taps))
    }

    /// Along the rows: `[h, inputs]` to `[h, outputs]`. Columns are added as whole rows, many pixels at once, which is
    /// worth turning the picture twice.
    pub fn rows(&self, x: &[T]) -> Vec<T> {
        let h = x.len() / self.inputs;
        transposed(&self.columns(&transposed(x, self.inputs), h), h)
    }

    /// The adjoint of [`Self::rows`].
    pub fn rows_adjoint(&self, y: &[T]) -> Vec<T> {
        let h = y.len() / self.outputs();
        transposed(&self.columns_adjoint(&transposed(y, self.outputs()), h), h)
    }

    /// Along the columns: `[inputs, w]` to `[outputs, w]`.
    pub fn columns(&self, x: &[T], w: usize) -> Vec<T> {
        let mut out = vec![T::zero(); self.outputs() * w];
        for (row, (places, weights)) in out.chunks_exact_mut(w).zip(self.each()) {
            for (place, weight) in places.iter().zip(weights) {
                add(row, *weight, &x[*place as usize * w..][..w]);
            }
        }
        out
    }

    /// The adjoint of [`Self::columns`].
    pub fn columns_adjoint(&self, y: &[T], w: usize) -> Vec<T> {
        let mut out = vec![T::zero(); self.inputs * w];
        for (row, (places, weights)) in y.chunks_exact(w).zip(self.each()) {
            for (place, weight) in places.iter().zip(weights) {
                add(&mut out[*place as usize * w..][..w], *weight, row);
            }
        }
        out
    }
}

/// `to += factor * from`
fn add<T: WithDType>(to: &mut [T], factor: T, from: &[T]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * *from);
}

/// A picture of `w` columns with rows and columns exchanged, in blocks that stay in the cache.
fn transposed<T: WithDType>(x: &[T], w: usize) -> Vec<T> {
    const BLOCK: usize = 16;
    let h = x.len() / w;
    let mut out = vec![T::zero(); x.len()];
    for top in (0..h).step_by(BLOCK) {
        for left in (0..w).step_by(BLOCK) {
            for j in left..(left + BLOCK).min(w) {
                let rows = top..(top + BLOCK).min(h);
                let to = &mut out[j * h + rows.start..j * h + rows.end];
                to.iter_mut().zip(rows).for_each(|(to, i)| *to = x[i * w + j]);
            }
        }
    }
    out
}
