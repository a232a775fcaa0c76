//! The interpreter's array: float64 values with the kind of number that they stand for.

pub type R<T> = Result<T, String>;

/// What a tensor's values are. All floats are computed in float64; integers up to 2^53 are exact in it. Bytes are told
/// from wider integers because quantisation saturates at their ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Float,
    Int,
    Int8,
    Uint8,
    Bool,
}

/// A row-major array.
#[derive(Clone, PartialEq, Debug)]
pub struct Tensor {
    pub kind: Kind,
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

impl Tensor {
    pub fn new(kind: Kind, shape: &[usize], data: Vec<f64>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "shape {shape:?}");
        Self { kind, shape: shape.to_vec(), data }
    }

    pub fn floats(shape: &[usize], data: Vec<f64>) -> Self {
        Self::new(Kind::Float, shape, data)
    }

    pub fn ints(data: impl IntoIterator<Item = i64>) -> Self {
        let data: Vec<f64> = data.into_iter().map(|v| v as f64).collect();
        Self::new(Kind::Int, &[data.len()], data)
    }

    /// One value per index.
    pub fn fill(kind: Kind, shape: &[usize], mut f: impl FnMut(&[usize]) -> f64) -> Self {
        let mut data = Vec::with_capacity(shape.iter().product());
        each(shape, |i| data.push(f(i)));
        Self::new(kind, shape, data)
    }

    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    pub fn at(&self, index: &[usize]) -> f64 {
        self.data[offset(&self.shape, index)]
    }

    /// The value at an index of a shape that this tensor is broadcast to (NumPy's rule).
    pub fn broadcast_at(&self, index: &[usize]) -> f64 {
        let skip = index.len() - self.rank();
        let place = self.shape.iter().zip(&index[skip..]);
        self.data[place.fold(0, |o, (d, i)| o * d + if *d == 1 { 0 } else { *i })]
    }

    /// The values as integers; one beyond the range of `i64` becomes its end.
    pub fn to_ints(&self) -> Vec<i64> {
        self.data.iter().map(|v| *v as i64).collect()
    }

    pub fn reshaped(&self, shape: &[usize]) -> R<Self> {
        if shape.iter().product::<usize>() != self.data.len() {
            return Err(format!("{:?} cannot be reshaped to {shape:?}", self.shape));
        }
        Ok(Self { kind: self.kind, shape: shape.to_vec(), data: self.data.clone() })
    }

    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { kind: self.kind, shape: self.shape.clone(), data: self.data.iter().map(|v| f(*v)).collect() }
    }

    pub fn transposed(&self, perm: &[usize]) -> Self {
        let shape: Vec<usize> = perm.iter().map(|p| self.shape[*p]).collect();
        let mut from = vec![0; perm.len()];
        Self::fill(self.kind, &shape, |i| {
            perm.iter().zip(i).for_each(|(p, i)| from[*p] = *i);
            self.at(&from)
        })
    }

    /// Expanded to `shape`, which it must be broadcastable to.
    pub fn expanded(&self, shape: &[usize]) -> Self {
        Self::fill(self.kind, shape, |i| self.broadcast_at(i))
    }
}

/// Place of an index in a row-major array.
pub fn offset(shape: &[usize], index: &[usize]) -> usize {
    debug_assert!(index.iter().zip(shape).all(|(i, d)| i < d), "{index:?} of {shape:?}");
    shape.iter().zip(index).fold(0, |o, (d, i)| o * d + i)
}

/// Calls `f` with every index of a shape, in row-major order.
pub fn each(shape: &[usize], mut f: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        f(&index);
        let Some(axis) = (0..shape.len()).rev().find(|a| index[*a] + 1 < shape[*a]) else { return };
        index[axis] += 1;
        index[axis + 1..].fill(0);
    }
}

/// NumPy's rule for the shape of two tensors taken together.
pub fn broadcast(a: &[usize], b: &[usize]) -> R<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |s: &[usize], i: usize| if i + s.len() < rank { 1 } else { s[i + s.len() - rank] };
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            _ => Err(format!("{a:?} and {b:?} cannot be broadcast")),
        })
        .collect()
}

/// An axis that may be counted from the end.
pub fn axis(a: i64, rank: usize) -> R<usize> {
    let n = if a < 0 { a + rank as i64 } else { a };
    usize::try_from(n).ok().filter(|n| *n < rank).ok_or_else(|| format!("axis {a} of rank {rank}"))
}

/// A possibly negative index into `n` entries.
pub fn wrap(i: i64, n: usize) -> R<usize> {
    axis(i, n).map_err(|_| format!("index {i} into {n} entries"))
}
