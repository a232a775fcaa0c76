//! Questions to whoever sits at the terminal; where nobody does, the flags that answer them.

use crate::failure::Failure;
use std::io::{BufRead, Write};

/// Asks, or notes what it would have asked.
pub struct Asker<'a> {
    input: Option<&'a mut dyn BufRead>,
    output: &'a mut dyn Write,
    missing: Vec<String>,
}

impl<'a> Asker<'a> {
    /// Asks on `output` and reads answers, line by line, from `input`; without one nobody is there to answer.
    pub fn new(input: Option<&'a mut dyn BufRead>, output: &'a mut dyn Write) -> Self {
        Self { input, output, missing: Vec::new() }
    }

    /// One line; `None` at the end of the input.
    fn line(&mut self, question: &str) -> Result<Option<String>, Failure> {
        let failed = |e: std::io::Error| Failure::Usage(format!("cannot ask: {e}"));
        let Some(input) = &mut self.input else { return Ok(None) };
        write!(self.output, "{question}\n> ").and_then(|()| self.output.flush()).map_err(failed)?;
        let mut line = String::new();
        let read = input.read_line(&mut line).map_err(failed)?;
        Ok((read > 0).then(|| line.trim().to_owned()))
    }

    fn complain(&mut self, what: &str) -> Result<(), Failure> {
        writeln!(self.output, "{what}").map_err(|e| Failure::Usage(format!("cannot ask: {e}")))
    }

    /// What must be known. Asked until the answer is one; with nobody to ask, `flag` is noted as missing.
    ///
    /// # Errors
    /// At the end of the input.
    pub fn need<T>(
        &mut self,
        flag: &str,
        question: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        if self.input.is_none() {
            self.missing.push(format!("  {flag}: {question}"));
            return Ok(None);
        }
        loop {
            let Some(answer) = self.line(question)? else {
                return Err(Failure::Usage(format!("no answer to: {question} (or give {flag})")));
            };
            match parse(&answer) {
                Ok(value) => return Ok(Some(value)),
                Err(e) => self.complain(&e)?,
            }
        }
    }

    /// What may be left out: an empty line, the end of the input, and nobody to ask leave it out.
    ///
    /// # Errors
    /// If the terminal fails.
    pub fn offer<T>(
        &mut self,
        question: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        loop {
            let answer = self.line(question)?.filter(|a| !a.is_empty());
            let Some(answer) = answer else { return Ok(None) };
            match parse(&answer) {
                Ok(value) => return Ok(Some(value)),
                Err(e) => self.complain(&e)?,
            }
        }
    }

    /// Ends here if something is missing.
    ///
    /// # Errors
    /// The flags that were not given, and what each is for.
    pub fn complete(&self) -> Result<(), Failure> {
        if self.missing.is_empty() {
            return Ok(());
        }
        Err(Failure::Usage(format!("nobody is there to be asked; add\n{}", self.missing.join("\n"))))
    }
}

/// Names between commas.
pub fn names(text: &str) -> Vec<String> {
    text.split(',').map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Result<u32, String> {
        text.parse().map_err(|_| format!("`{text}` is no number"))
    }

    #[test]
    fn questions_are_asked_until_the_answer_is_one() {
        let (mut input, mut output) = (&b"\nmany\n 7 \n\nx\n8"[..], Vec::new());
        let mut asker = Asker::new(Some(&mut input), &mut output);
        assert_eq!(asker.need("--n", "How many?", number).ok().flatten(), Some(7));
        assert_eq!(asker.offer("More?", number).ok().flatten(), None);
        assert_eq!(asker.offer("And more?", number).ok().flatten(), Some(8));
        assert_eq!(asker.offer("And then?", number).ok().flatten(), None);
        let failure = asker.need("--n", "How many?", number).unwrap_err();
        assert!(matches!(&failure, Failure::Usage(m) if m.contains("--n")), "{failure:?}");
        assert!(asker.complete().is_ok());
        let shown = String::from_utf8(output).unwrap();
        assert!(
            shown.starts_with("How many?\n> `` is no number\nHow many?\n> `many` is no number\n"),
            "{shown}"
        );
    }

    #[test]
    fn with_nobody_to_ask_every_missing_flag_is_named() {
        let mut output = Vec::new();
        let mut asker = Asker::new(None, &mut output);
        assert_eq!(asker.need("--n", "How many?", number).ok().flatten(), None);
        assert_eq!(asker.offer("More?", number).ok().flatten(), None);
        assert_eq!(asker.need("--m", "And of those?", number).ok().flatten(), None);
        let Err(Failure::Usage(message)) = asker.complete() else { panic!("complete") };
        assert!(message.ends_with("add\n  --n: How many?\n  --m: And of those?"), "{message}");
        assert!(output.is_empty());
    }

    #[test]
    fn names_stand_between_commas() {
        assert_eq!(names(" well, sick,,a b "), ["well", "sick", "a b"]);
        assert!(names(" ").is_empty());
    }
}
