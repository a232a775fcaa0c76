//! One error type at the boundary between the parts.

/// `std::result::Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Every message says what, where, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An array whose shape is not what the receiver needs.
    #[error("{what}: expected shape {expected}, found {found:?}")]
    Shape {
        /// The array, and who asked for it.
        what: String,
        /// The shape that was needed, in words (`[N, 1, H, W]`).
        expected: String,
        /// The shape that came.
        found: Vec<usize>,
    },
    /// NaN or infinity where a finite number is needed.
    #[error("{what}: value {index} is {value}, expected finite numbers")]
    NotFinite {
        /// The array, and who made it.
        what: String,
        /// Flat index of the first bad value.
        index: usize,
        /// The bad value.
        value: f32,
    },
    /// A value outside its domain: a parameter, a class index, a file's content.
    #[error("{0}")]
    Invalid(String),
    /// Something that this component cannot do; the message names what works instead.
    #[error("{0}")]
    Unsupported(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Work failed inside a component (a runtime, a plugin, a device).
    #[error("{component}: {message}")]
    Component {
        /// Which component: `plugin gradcam`, `onnxruntime`, `stylegan2`.
        component: String,
        /// What it said.
        message: String,
    },
    /// The user, or the host, asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// An [`Error::Invalid`] from anything that prints.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// An [`Error::Io`] that names its path.
    pub fn io(path: impl AsRef<std::path::Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().display().to_string(), source }
    }

    /// An [`Error::Component`].
    pub fn component(component: impl Into<String>, message: impl std::fmt::Display) -> Self {
        Self::Component { component: component.into(), message: message.to_string() }
    }
}
