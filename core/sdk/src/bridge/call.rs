//! The caller's side of one call: room for answers, errors, checks.

use shiftlens_abi::{Buffer, Text, status};
use shiftlens_api::{Error, Result};
use std::ffi::{CString, c_void};

/// Whom a proxy calls: the first argument, and the name for messages (`plugin shiftlens.phantom 0.1.0`, `host`).
///
/// `owner` is whatever must live as long as the context.
#[derive(Debug)]
pub struct Peer<O> {
    context: *mut c_void,
    who: String,
    /// Dropped with the peer.
    pub owner: O,
}

// SAFETY: `Peer::new` demands that the context may be used from any thread, one call at a time.
unsafe impl<O: Send> Send for Peer<O> {}

impl<O> Peer<O> {
    /// # Safety
    /// Until `owner` is dropped, `context` must be a valid first argument of the functions that the peer is used
    /// with, from any thread, one call at a time.
    pub unsafe fn new(context: *mut c_void, who: impl Into<String>, owner: O) -> Self {
        Self { context, who: who.into(), owner }
    }
    /// The first argument.
    pub fn context(&mut self) -> *mut c_void {
        self.context
    }
    /// The name for messages.
    pub fn who(&self) -> &str {
        &self.who
    }
    /// An error of `function` that is the peer's fault.
    pub fn fault(&self, function: &str, message: impl std::fmt::Display) -> Error {
        Error::component(&self.who, format!("{function}: {message}"))
    }
    /// An array of the wrong shape.
    pub fn shape_fault(
        &self,
        function: &str,
        what: &str,
        expected: impl Into<String>,
        found: &[usize],
    ) -> Error {
        Error::Shape {
            what: format!("{}: {function}: {what}", self.who),
            expected: expected.into(),
            found: found.to_vec(),
        }
    }
    /// A function of a table, or the error that it is missing.
    pub fn function<F>(&self, function: &str, f: Option<F>) -> Result<F> {
        f.ok_or_else(|| self.fault(function, "the plugin's table of functions has a null here"))
    }
}

/// Bytes of room for an error's text.
const ERROR_ROOM: usize = 4096;
/// Bytes of room for a first JSON answer.
const JSON_ROOM: usize = 16 * 1024;
/// No JSON answer is larger.
const JSON_LIMIT: u64 = 64 << 20;

fn written(room: &[u8], length: u64) -> &[u8] {
    &room[..usize::try_from(length).map_or(room.len(), |n| n.min(room.len()))]
}

/// Calls a function that writes an error's text, and turns its status into a result. Statuses in `also` are success.
///
/// # Errors
/// What the function says, with `who` and `function` before it.
pub fn checked(who: &str, function: &str, also: &[i32], f: impl FnOnce(*mut Text) -> i32) -> Result<i32> {
    let mut room = vec![0u8; ERROR_ROOM];
    let mut error = Text::over(&mut room);
    let code = f(&raw mut error);
    let length = error.length;
    if code == status::OK || also.contains(&code) {
        return Ok(code);
    }
    let text = String::from_utf8_lossy(written(&room, length));
    let text = match text.trim_end_matches(['\0', '\u{fffd}']) {
        "" => format!("failed with status {code} and no message"),
        text => text.to_owned(),
    };
    Err(match code {
        status::CANCELLED => Error::Cancelled,
        status::INVALID => Error::Invalid(format!("{who}: {function}: {text}")),
        status::UNSUPPORTED => Error::Unsupported(format!("{who}: {function}: {text}")),
        _ => Error::component(who, format!("{function}: {text}")),
    })
}

/// Calls a function that writes JSON, with more room if it needs more, and decodes the answer.
///
/// # Errors
/// What the function says, or what is wrong with its JSON.
pub fn json<T: serde::de::DeserializeOwned>(
    who: &str,
    function: &str,
    mut f: impl FnMut(*mut Text, *mut Text) -> i32,
) -> Result<T> {
    let mut room = vec![0u8; JSON_ROOM];
    loop {
        let mut text = Text::over(&mut room);
        let code = checked(who, function, &[status::TOO_SMALL], |error| f(&raw mut text, error))?;
        let length = text.length;
        if code == status::OK && length <= room.len() as u64 {
            return serde_json::from_slice(written(&room, length)).map_err(|e| {
                let text = String::from_utf8_lossy(written(&room, length.min(200))).into_owned();
                Error::component(
                    who,
                    format!("{function}: answered JSON that is not what is expected: {e}: {text}"),
                )
            });
        }
        if length <= room.len() as u64 || length > JSON_LIMIT {
            return Err(Error::component(
                who,
                format!("{function}: asked for {length} bytes of text after being given {}", room.len()),
            ));
        }
        room.resize(length as usize, 0);
    }
}

/// Calls a function that writes `names.len()` arrays: asks for the shapes, lets `check` judge them (by index), makes
/// room, fetches the values, and checks that they are finite. A value that the function leaves unwritten counts as
/// NaN.
///
/// # Errors
/// What the function says; what `check` says; [`Error::Shape`] if the shapes change between the calls;
/// [`Error::NotFinite`].
pub fn arrays<O>(
    peer: &Peer<O>,
    function: &str,
    names: &[&str],
    check: impl Fn(usize, &[usize]) -> Result<()>,
    mut f: impl FnMut(&mut [Buffer], *mut Text) -> i32,
) -> Result<Vec<(Vec<usize>, Vec<f32>)>> {
    let who = peer.who();
    let mut asked: Vec<Buffer> = names.iter().map(|_| Buffer::ask()).collect();
    checked(who, function, &[], |error| f(&mut asked, error))?;
    let mut arrays = Vec::with_capacity(names.len());
    for (i, (buffer, name)) in asked.iter().zip(names).enumerate() {
        let dims =
            buffer.dims().ok_or_else(|| peer.fault(function, format!("{name} of rank {}", buffer.rank)))?;
        let shape: Vec<usize> = dims.iter().map(|d| usize::try_from(*d).unwrap_or(usize::MAX)).collect();
        check(i, &shape)?;
        let mut data = Vec::new();
        let room = shiftlens_abi::wire::count(dims).filter(|n| data.try_reserve_exact(*n).is_ok());
        let n = room
            .ok_or_else(|| peer.fault(function, format!("{name} of shape {shape:?} do not fit in memory")))?;
        data.resize(n, f32::NAN);
        arrays.push((shape, data));
    }
    // An empty slice's pointer is dangling, not null, so this never asks for the shape again.
    let mut buffers: Vec<Buffer> = arrays.iter_mut().map(|(_, data)| Buffer::over(data)).collect();
    checked(who, function, &[], |error| f(&mut buffers, error))?;
    for ((buffer, (shape, data)), name) in buffers.iter().zip(&arrays).zip(names) {
        if !buffer.dims().is_some_and(|d| d.iter().map(|d| *d as usize).eq(shape.iter().copied())) {
            let found: Vec<usize> = buffer.dims().unwrap_or_default().iter().map(|d| *d as usize).collect();
            return Err(peer.shape_fault(
                function,
                name,
                format!("{shape:?}, as answered when asked before"),
                &found,
            ));
        }
        if let Some(index) = data.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite {
                what: format!("{who}: {function}: {name}"),
                index,
                value: data[index],
            });
        }
    }
    Ok(arrays)
}

/// A C string of `text`.
///
/// # Errors
/// [`Error::Invalid`] if it contains NUL.
pub fn c_string(what: &str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::Invalid(format!("{what}: contains a NUL character: {text:?}")))
}
