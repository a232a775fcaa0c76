//! Sizes of axes, some of which follow the batch.

/// One axis of a tensor as far as it is known before the batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Size {
    /// Always the same.
    Fixed(usize),
    /// So many entries per image: `k N` for a batch of N.
    Batch(usize),
    /// Anything else; only operators that need no size can be differentiated there.
    Unknown,
}

/// The sizes of all axes.
pub type Shape = Vec<Size>;

impl Size {
    /// The size, where it does not follow the batch.
    pub fn fixed(self) -> Option<usize> {
        match self {
            Self::Fixed(n) => Some(n),
            _ => None,
        }
    }
    /// The size of an axis that is `a` long for a batch of `n` and `b` long for a batch of `m`.
    pub fn of(a: usize, n: usize, b: usize, m: usize) -> Self {
        if a == b {
            Self::Fixed(a)
        } else if a.is_multiple_of(n) && b.is_multiple_of(m) && a / n == b / m {
            Self::Batch(a / n)
        } else {
            Self::Unknown
        }
    }
    /// The size for a batch of `n`.
    pub fn at(self, n: usize) -> Option<usize> {
        match self {
            Self::Fixed(k) => Some(k),
            Self::Batch(k) => Some(k * n),
            Self::Unknown => None,
        }
    }
}

/// A size for display: `64`, `N`, `2N`, `?`.
impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Batch(1) => write!(f, "N"),
            Self::Batch(k) => write!(f, "{k}N"),
            Self::Unknown => write!(f, "?"),
        }
    }
}

/// A shape for display: `[N, 64, 7, 7]`.
pub fn show(shape: &[Size]) -> String {
    let parts: Vec<String> = shape.iter().map(Size::to_string).collect();
    format!("[{}]", parts.join(", "))
}

/// Sizes that do not follow the batch.
pub fn fixed(sizes: &[usize]) -> Shape {
    sizes.iter().map(|n| Size::Fixed(*n)).collect()
}

/// The number of entries of some axes together.
pub fn product(shape: &[Size]) -> Size {
    shape.iter().fold(Size::Fixed(1), |a, b| match (a, *b) {
        (Size::Fixed(a), Size::Fixed(b)) => Size::Fixed(a * b),
        (Size::Fixed(a), Size::Batch(b)) | (Size::Batch(a), Size::Fixed(b)) => Size::Batch(a * b),
        _ => Size::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_batches_tell_what_an_axis_follows() {
        assert_eq!(Size::of(64, 2, 64, 3), Size::Fixed(64));
        assert_eq!(Size::of(2, 2, 3, 3), Size::Batch(1));
        assert_eq!(Size::of(98, 2, 147, 3), Size::Batch(49));
        assert_eq!(Size::of(3, 2, 4, 3), Size::Unknown);
    }

    #[test]
    fn products_keep_one_batch() {
        assert_eq!(product(&[Size::Batch(2), Size::Fixed(3), Size::Fixed(5)]), Size::Batch(30));
        assert_eq!(product(&[Size::Batch(1), Size::Batch(1)]), Size::Unknown);
        assert_eq!(show(&[Size::Batch(1), Size::Fixed(3), Size::Unknown, Size::Batch(4)]), "[N, 3, ?, 4N]");
    }
}
