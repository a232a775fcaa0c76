//! The allocator in a training.

use libmimalloc_sys as _;
use std::ffi::{c_int, c_long};

/// `mi_option_purge_delay` of mimalloc's versions 2 and 3: milliseconds until freed memory goes back to the system, -1 for
/// never.
const PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
    #[cfg(test)]
    fn mi_option_get(option: c_int) -> c_long;
}

/// Lets mimalloc keep what is freed, where it is the program's allocator; elsewhere nothing changes.
///
/// A training step asks for the same large arrays as the one before. Given back in between, they come as new pages, which
/// the system must clear: a quarter of a step's time and more. Resident memory stays at the largest that a step needs.
pub fn keep_memory() {
    // SAFETY: sets a number that mimalloc reads atomically; any value of `long` is allowed.
    unsafe { mi_option_set(PURGE_DELAY, -1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of the option is not part of mimalloc's interface: its value comes from the environment here.
    #[test]
    fn the_option_is_the_purge_delay() {
        // SAFETY: reads a number.
        let delay = || unsafe { mi_option_get(PURGE_DELAY) };
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_some() {
            assert_eq!(delay(), 1234);
            keep_memory();
            assert_eq!(delay(), -1);
            return;
        }
        assert!(delay() >= 0);
        let (_, module) = module_path!().split_once("::").unwrap();
        let name = format!("{module}::the_option_is_the_purge_delay");
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let output = again.args(["--exact", &name]).env("MIMALLOC_PURGE_DELAY", "1234").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
}
