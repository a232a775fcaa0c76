//! Numbers as people read them: few digits, a true minus sign, no false 0 or 1.

/// A probability with two digits. Near 0.5 a third keeps the side visible; what would round to 0 or 1 without being
/// it is shown as `<0.01` or `>0.99`.
pub(crate) fn score(v: f32) -> String {
    let rounded = (v * 100.0).round();
    match v {
        _ if !(0.0..=1.0).contains(&v) => significant(f64::from(v)),
        _ if rounded == 0.0 && v > 0.0 => "<0.01".into(),
        _ if rounded == 100.0 && v < 1.0 => ">0.99".into(),
        _ if rounded == 50.0 && v < 0.5 => {
            let text = format!("{v:.3}");
            if text == "0.500" { "<0.5".into() } else { text }
        }
        _ => format!("{v:.2}"),
    }
}

/// λ with its sign and at most two digits after the point: `+1.5`, `0`, `−3`.
pub(crate) fn lambda(v: f32) -> String {
    let text = format!("{:.2}", v.abs());
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text {
        "0" => "0".into(),
        _ if v < 0.0 => format!("−{text}"),
        _ => format!("+{text}"),
    }
}

/// Three significant digits, scientific where a plain number would be unreadable.
pub(crate) fn significant(v: f64) -> String {
    let a = v.abs();
    let text = if a == 0.0 {
        "0".to_owned()
    } else if (1e-3..1e5).contains(&a) {
        let digits = (2 - a.log10().floor() as i32).max(0) as usize;
        format!("{a:.digits$}")
    } else {
        format!("{a:.2e}").replace("e-", "e−")
    };
    if v < 0.0 { format!("−{text}") } else { text }
}

/// `fixed` digits after the point, with a true minus sign.
pub(crate) fn fixed(v: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", v.abs());
    if v < 0.0 && text.bytes().any(|b| (b'1'..=b'9').contains(&b)) { format!("−{text}") } else { text }
}

/// Seconds, minutes or hours, as fits.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.0095 => format!("{:.1} ms", s * 1e3),
        s if s < 0.995 => format!("{:.0} ms", s * 1e3),
        s if s < 59.95 => format!("{s:.1} s"),
        s if s < 3599.5 => format!("{:.0} min {:02.0} s", (s.round() / 60.0).floor(), s.round() % 60.0),
        s => format!("{:.0} h {:02.0} min", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor()),
    }
}

/// A number with thin spaces between groups of three digits.
pub(crate) fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(d);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_never_claim_certainty_or_hide_their_side() {
        let text: Vec<String> =
            [0.0, 0.001, 0.034, 0.496, 0.49999, 0.5, 0.83, 0.996, 1.0, 1.7].map(score).into();
        assert_eq!(text, ["0.00", "<0.01", "0.03", "0.496", "<0.5", "0.50", "0.83", ">0.99", "1.00", "1.70"]);
    }

    #[test]
    fn lambdas_carry_a_sign_but_zero() {
        assert_eq!([0.0, -0.0, 1.5, -3.0, 2.666_7].map(lambda), ["0", "0", "+1.5", "−3", "+2.67"]);
    }

    #[test]
    fn other_numbers() {
        let text = [0.0, 1234.5, 0.012_34, -0.5, 1.234e-7, 2e9].map(significant);
        assert_eq!(text, ["0", "1234", "0.0123", "−0.500", "1.23e−7", "2.00e9"]);
        assert_eq!([fixed(-0.004, 2), fixed(-0.25, 3), fixed(0.9, 2)], ["0.00", "−0.250", "0.90"]);
        let text = [0.002, 0.12, 3.25, 75.0, 7300.0].map(duration);
        assert_eq!(text, ["2.0 ms", "120 ms", "3.2 s", "1 min 15 s", "2 h 01 min"]);
        assert_eq!(
            [count(7), count(20_000), count(1_234_567)],
            ["7", "20\u{202f}000", "1\u{202f}234\u{202f}567"]
        );
    }
}
