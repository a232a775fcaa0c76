//! Environment variables in the paths of manifests: `${NAME}`, and `${NAME:-default}` where NAME may be missing.
//!
//! As in a shell a variable that is empty counts as one that is not set. Nothing else is replaced: a `$` without a brace
//! stays as it is.

/// A variable that has no value, or what looks like one and is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct VariableError {
    /// The variable as it is written, from `${` on.
    pub written: String,
    /// What is wrong with it.
    pub why: String,
    /// What to do about it.
    pub help: String,
}

/// Puts values in the place of variables; `lookup` knows them by name.
///
/// # Errors
/// [`VariableError`] for the first variable without a value or a default, and for braces that hold no variable.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, VariableError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let variable = &rest[start..];
        let fail = |written: &str, why: String, help: String| VariableError {
            written: written.to_owned(),
            why,
            help,
        };
        let Some(end) = variable.find('}') else {
            return Err(fail(variable, "`${` without `}`".into(), "write it as ${NAME}".into()));
        };
        let (written, inner) = (&variable[..=end], &variable[2..end]);
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        if !is_name(name) || default.is_some_and(|d| d.contains("${")) {
            let help = "write it as ${NAME} or ${NAME:-default}, NAME of letters, digits and _".into();
            return Err(fail(written, format!("`{written}` is no variable"), help));
        }
        match (lookup(name).filter(|v| !v.is_empty()), default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => {
                let why = format!("the environment variable `{name}` is not set, or is empty");
                return Err(fail(written, why, format!("set it, or write ${{{name}:-default}}")));
            }
        }
        rest = &variable[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// [`expand`] with the variables of this process; one that is no UTF-8 counts as not set.
///
/// # Errors
/// As [`expand`].
pub fn expand_from_environment(text: &str) -> Result<String, VariableError> {
    expand(text, |name| std::env::var(name).ok())
}

/// A name as POSIX has it: letters, digits and `_`, no digit first.
fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<String, VariableError> {
        expand(text, |name| match name {
            "DATA" => Some("/data/knees".into()),
            "YEAR_2" => Some("2020".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn variables_and_defaults() {
        for (text, expected) in [
            ("images", "images"),
            ("", ""),
            ("${DATA}/val", "/data/knees/val"),
            ("a/${YEAR_2}-${YEAR_2}.csv", "a/2020-2020.csv"),
            ("${DATA:-other}/x", "/data/knees/x"),
            ("${NONE:-../shared/a b}/x", "../shared/a b/x"),
            ("${EMPTY:-d}${NONE:-}", "d"),
            ("$DATA/{x}$", "$DATA/{x}$"),
            // What a variable holds is not looked at again.
            ("é${DATA}é", "é/data/kneesé"),
        ] {
            assert_eq!(with(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(expand("${A}", |_| Some("${A}".into())).unwrap(), "${A}");
    }

    #[test]
    fn what_has_no_value_is_named() {
        for (text, written, why) in [
            ("x/${NONE}/y", "${NONE}", "`NONE` is not set"),
            ("${EMPTY}", "${EMPTY}", "`EMPTY` is not set, or is empty"),
            ("a${DATA", "${DATA", "without `}`"),
            ("${}", "${}", "`${}` is no variable"),
            ("${2A}", "${2A}", "is no variable"),
            ("${DATA:?no}", "${DATA:?no}", "is no variable"),
            ("${NONE:-${DATA}}", "${NONE:-${DATA}", "is no variable"),
        ] {
            let e = with(text).unwrap_err();
            assert_eq!(e.written, written, "{text}");
            assert!(e.to_string().contains(why) && e.help.contains("${"), "{text}: {e:?}");
        }
    }
}
