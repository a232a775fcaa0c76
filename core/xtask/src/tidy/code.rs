//! Rules for Rust code: where `unsafe` may stand, and where candle and CUDA may be named.

use super::{File, Finding};

/// Folders whose code may be `unsafe`: the C ABI, its two sides, and the vectorised kernels.
const UNSAFE: [&str; 4] =
    ["core/abi/", "core/sdk/", "core/engine/src/plugin/", "core/stylegan2/src/kernels/"];

/// Checks one file.
pub fn check(file: &File) -> Vec<Finding> {
    if !file.path.ends_with(".rs") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (i, line) in code_of(&file.text).lines().enumerate() {
        for word in line.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
            let message = if word == "unsafe" && !UNSAFE.iter().any(|p| file.path.starts_with(p)) {
                format!("`unsafe` outside {}", UNSAFE.join(", "))
            } else if (word.contains("candle") || word.contains("cuda"))
                && !file.path.starts_with("core/stylegan2/")
            {
                format!("`{word}` outside core/stylegan2")
            } else {
                continue;
            };
            findings.push(Finding::new(format!("{}:{}", file.path, i + 1), message));
        }
    }
    findings
}

/// The text with comments, strings and characters blanked; lines stay where they are.
fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let end = opaque_end(&chars, i);
        match end {
            Some(end) => {
                out.extend(chars[i..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
                i = end;
            }
            None => {
                out.push(chars[i]);
                i += 1;
            }
        }
    }
    out
}

/// Where the comment, string or character that starts at `i` ends; `None` if none starts there.
fn opaque_end(chars: &[char], i: usize) -> Option<usize> {
    let at = |k: usize| chars.get(k).copied().unwrap_or('\0');
    let find = |from: usize, what: &[char]| {
        (from..chars.len()).find(|k| chars[*k..].starts_with(what)).map_or(chars.len(), |k| k + what.len())
    };
    match (at(i), at(i + 1)) {
        ('/', '/') => Some((i..chars.len()).find(|k| chars[*k] == '\n').unwrap_or(chars.len())),
        ('/', '*') => {
            let mut depth = 1;
            let mut k = i + 2;
            while k < chars.len() && depth > 0 {
                match (at(k), at(k + 1)) {
                    ('/', '*') => (depth, k) = (depth + 1, k + 2),
                    ('*', '/') => (depth, k) = (depth - 1, k + 2),
                    _ => k += 1,
                }
            }
            Some(k)
        }
        ('"', _) => {
            let mut k = i + 1;
            while k < chars.len() && chars[k] != '"' {
                k += if chars[k] == '\\' { 2 } else { 1 };
            }
            Some((k + 1).min(chars.len()))
        }
        ('r', '"' | '#')
            if i == 0 || !(chars[i - 1].is_alphanumeric() && chars[i - 1] != 'b' || chars[i - 1] == '_') =>
        {
            let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
            // `r#name` is a raw identifier, not a string.
            (at(i + 1 + hashes) == '"').then(|| {
                let mut close = vec!['"'];
                close.extend(std::iter::repeat_n('#', hashes));
                find(i + 2 + hashes, &close)
            })
        }
        // 'x' and '\n' are characters, 'a without a closing quote is a lifetime.
        ('\'', '\\') => Some(find(i + 3, &['\''])),
        ('\'', _) if at(i + 2) == '\'' => Some(i + 3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELSEWHERE: &str = "core/engine/src/run/mod.rs";

    fn places(path: &str, text: &str) -> Vec<String> {
        check(&File::new(path, text)).into_iter().map(|f| f.place).collect()
    }

    #[test]
    fn unsafe_is_found_where_it_may_not_be() {
        let text = "fn a() {\n    unsafe { b() }\n}\n";
        assert_eq!(places(ELSEWHERE, text), [format!("{ELSEWHERE}:2")]);
        assert_eq!(places("core/stylegan2/src/net/layers.rs", text).len(), 1);
        for folder in UNSAFE {
            assert_eq!(places(&format!("{folder}x.rs"), text), [""; 0]);
        }
    }

    #[test]
    fn the_tensor_library_is_found_outside_its_crate() {
        let text = "use candle_core::Tensor;\nfn to_cuda() {}\n";
        assert_eq!(places(ELSEWHERE, text).len(), 2);
        assert_eq!(places("core/stylegan2/src/lib.rs", text), [""; 0]);
    }

    #[test]
    fn words_in_comments_and_strings_do_not_count() {
        let text = r####"
// unsafe
/* unsafe /* nested */ unsafe */
const A: &str = "unsafe \" unsafe";
const B: &str = r#"unsafe " unsafe"#;
const C: char = '"'; const D: char = '\''; const E: &[u8] = br"unsafe";
#[cfg(feature = "cuda")]
fn f<'a>(x: &'a str) -> &'a str { x } // 'unsafe'
"####;
        assert_eq!(places(ELSEWHERE, text), [""; 0]);
        let after = format!("{text}unsafe fn g() {{}}\n");
        assert_eq!(places(ELSEWHERE, &after), [format!("{ELSEWHERE}:{}", text.lines().count() + 1)]);
    }
}
