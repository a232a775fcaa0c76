//! Lists of seeds on the command line.

/// Most seeds of one range.
const MOST: u64 = 10_000_000;

/// `0-99`, or `3,7,20-29`.
#[derive(Debug, Clone, PartialEq)]
pub struct Seeds(pub Vec<u64>);

/// Reads a list of numbers and ranges, both ends included.
pub fn parse(text: &str) -> Result<Seeds, String> {
    let number = |s: &str| {
        s.trim().parse::<u64>().map_err(|_| format!("\"{s}\" is no seed; expected as in 0-99 or 3,7"))
    };
    let mut all = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => all.push(number(part)?),
            Some((from, to)) => {
                let (from, to) = (number(from)?, number(to)?);
                if to < from || to - from >= MOST {
                    return Err(format!(
                        "\"{part}\": expected a range upwards, of at most ten million seeds"
                    ));
                }
                all.extend(from..=to);
            }
        }
    }
    Ok(Seeds(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_numbers_ranges_and_lists() {
        assert_eq!(parse("3,7, 20-22").unwrap(), Seeds(vec![3, 7, 20, 21, 22]));
        assert_eq!(parse("18446744073709551614-18446744073709551615").unwrap().0.len(), 2);
        for bad in ["5-3", "x", "", "1,,2", "-4", "0-10000000", "1.5", "18446744073709551616"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
