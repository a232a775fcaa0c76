//! The primitive fields of a pickle.

use std::borrow::Cow;

type Step<T> = Result<T, String>;

/// Bytes that are read from the front; nothing is taken that is not there.
#[derive(Debug, Clone)]
pub struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
    /// Bytes that were taken.
    pub fn offset(&self) -> usize {
        self.at
    }
    /// The next `length` bytes, which stay.
    pub fn peek(&self, length: u64) -> Step<&'a [u8]> {
        let left = self.bytes.len() - self.at;
        match usize::try_from(length) {
            Ok(n) if n <= left => Ok(&self.bytes[self.at..self.at + n]),
            _ => Err(format!("cut short: {length} bytes expected, {left} left")),
        }
    }
    pub fn take(&mut self, length: u64) -> Step<&'a [u8]> {
        let bytes = self.peek(length)?;
        self.at += bytes.len();
        Ok(bytes)
    }
    pub fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64)?);
        Ok(out)
    }
    pub fn byte(&mut self) -> Step<u8> {
        Ok(self.array::<1>()?[0])
    }
    pub fn u32(&mut self) -> Step<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    pub fn u64(&mut self) -> Step<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    /// A length that is written with a sign.
    pub fn length_i32(&mut self) -> Step<u64> {
        let n = i32::from_le_bytes(self.array()?);
        u64::try_from(n).map_err(|_| format!("length {n} is negative"))
    }
    /// Up to the next line break, which is taken and not returned.
    pub fn line(&mut self) -> Step<&'a [u8]> {
        let left = &self.bytes[self.at..];
        let n = left.iter().position(|b| *b == b'\n').ok_or("cut short: a line without an end")?;
        self.at += n + 1;
        Ok(&left[..n])
    }
    pub fn utf8_line(&mut self) -> Step<&'a str> {
        std::str::from_utf8(self.line()?).map_err(|e| e.to_string())
    }
    /// A key of the memo in decimal digits.
    pub fn number_line(&mut self) -> Step<u64> {
        let line = self.utf8_line()?;
        line.parse().map_err(|_| format!("\"{line}\" is no memo key"))
    }
    /// A line in Python's `raw-unicode-escape`: Latin-1 with `\uXXXX` and `\UXXXXXXXX`.
    pub fn escaped_line(&mut self) -> Step<Cow<'a, str>> {
        let line = self.line()?;
        if line.is_ascii() && !line.contains(&b'\\') {
            return std::str::from_utf8(line).map(Cow::Borrowed).map_err(|e| e.to_string());
        }
        let mut text = String::with_capacity(line.len());
        let mut at = 0;
        while at < line.len() {
            let digits = match &line[at..] {
                [b'\\', b'u', ..] => 4,
                [b'\\', b'U', ..] => 8,
                _ => 0,
            };
            if digits == 0 {
                text.push(char::from(line[at]));
                at += 1;
                continue;
            }
            let code = hex(line.get(at + 2..at + 2 + digits))?;
            text.push(char::from_u32(code).ok_or_else(|| format!("U+{code:04X} is no character"))?);
            at += 2 + digits;
        }
        Ok(Cow::Owned(text))
    }
    /// A line with a bytes literal in quotes, as Python 2 wrote `str`.
    pub fn quoted_line(&mut self) -> Step<Cow<'a, [u8]>> {
        let line = self.line()?;
        let inner = match line {
            [q @ (b'\'' | b'"'), inner @ .., r] if q == r => inner,
            _ => return Err("a string without quotes around it".into()),
        };
        if !inner.contains(&b'\\') {
            return Ok(Cow::Borrowed(inner));
        }
        let mut bytes = Vec::with_capacity(inner.len());
        let mut rest = inner.iter();
        while let Some(b) = rest.next() {
            if *b != b'\\' {
                bytes.push(*b);
                continue;
            }
            bytes.push(match rest.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'x') => {
                    let code = hex(rest.as_slice().get(..2))?;
                    rest = rest.as_slice()[2..].iter();
                    code as u8
                }
                Some(c @ (b'\\' | b'\'' | b'"')) => *c,
                other => return Err(format!("escape {other:?} in a string")),
            });
        }
        Ok(Cow::Owned(bytes))
    }
}

fn hex(digits: Option<&[u8]>) -> Step<u32> {
    let digits = digits.ok_or("an escape that is cut short")?;
    let text = std::str::from_utf8(digits).map_err(|e| e.to_string())?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(format!("\"{text}\" are no hexadecimal digits"));
    }
    u32::from_str_radix(text, 16).map_err(|e| e.to_string())
}
