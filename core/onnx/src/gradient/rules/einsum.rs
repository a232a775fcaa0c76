//! Einstein summation: the gradient of each operand is another Einstein summation.

use super::{Answer, Call};
use crate::gradient::emit::{Emitter, string};
use crate::gradient::size::{Shape, Size};
use shiftlens_api::Result;

/// An equation with all its parts written out: one letter per axis.
struct Equation {
    operands: Vec<Vec<char>>,
    result: Vec<char>,
}

impl Equation {
    /// Reads `ij,jk->ik`. An ellipsis becomes letters of its own, counted from the last of the `ranks` that it stands
    /// for; without an arrow the result has the letters that occur once, in alphabetic order.
    fn read(text: &str, ranks: &[usize]) -> Option<Self> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match text.split_once("->") {
            Some((l, r)) => (l.to_owned(), Some(r.to_owned())),
            None => (text, None),
        };
        let parts: Vec<&str> = left.split(',').collect();
        if parts.len() != ranks.len() {
            return None;
        }
        // Letters for the axes of an ellipsis, the last axis first; none of them can be written in an equation.
        let hidden = |k: usize| char::from_u32(0x3b1 + k as u32).unwrap_or('?');
        let mut widest = 0;
        let mut operands = Vec::new();
        for (part, rank) in parts.iter().zip(ranks) {
            let named = part.replace("...", "").chars().count();
            let letters: Vec<char> = match part.split_once("...") {
                Some((before, after)) => {
                    let extra = rank.checked_sub(named)?;
                    widest = widest.max(extra);
                    before.chars().chain((0..extra).rev().map(hidden)).chain(after.chars()).collect()
                }
                None => part.chars().collect(),
            };
            if letters.len() != *rank {
                return None;
            }
            operands.push(letters);
        }
        let ellipsis = (0..widest).rev().map(hidden);
        let result = match right {
            Some(r) => match r.split_once("...") {
                Some((before, after)) => before.chars().chain(ellipsis).chain(after.chars()).collect(),
                None => r.chars().collect(),
            },
            None => {
                let all: Vec<char> = operands.iter().flatten().copied().filter(char::is_ascii).collect();
                let mut once: Vec<char> =
                    all.iter().copied().filter(|c| all.iter().filter(|o| *o == c).count() == 1).collect();
                once.sort_unstable();
                ellipsis.chain(once).collect()
            }
        };
        Some(Self { operands, result })
    }

    /// An equation in letters that every runtime reads.
    fn write(&self, inputs: &[&[char]], output: &[char]) -> String {
        let mut all: Vec<char> = self.operands.iter().flatten().copied().collect();
        all.sort_unstable();
        all.dedup();
        let plain = |c: &char| {
            let place = all.iter().position(|o| o == c).unwrap_or(0) as u8;
            char::from(if place < 26 { b'a' + place } else { b'A' + (place - 26) })
        };
        let word = |letters: &[char]| letters.iter().map(plain).collect::<String>();
        let left: Vec<String> = inputs.iter().map(|i| word(i)).collect();
        format!("{}->{}", left.join(","), word(output))
    }
}

/// For operand A: the summation of `dy` and the other operands to A's axes. Axes that only A has are repeated.
pub fn einsum(e: &mut Emitter<'_>, c: &Call<'_>) -> Answer {
    let dy = c.dy(e)?;
    let shapes: Vec<&[Size]> = c.node.input.iter().map(|x| e.shape(x)).collect::<Result<_>>()?;
    let ranks: Vec<usize> = shapes.iter().map(|s| s.len()).collect();
    let text = c.node.string("equation").to_owned();
    let equation = Equation::read(&text, &ranks).ok_or_else(|| {
        e.unsupported(c.node, &format!("its equation \"{text}\" does not fit its operands"))
    })?;
    for (letters, shape) in equation.operands.iter().zip(&shapes) {
        let repeated = letters.iter().enumerate().any(|(i, l)| letters[..i].contains(l));
        let broadcast = letters.iter().zip(*shape).any(|(l, s)| {
            let sizes = equation.operands.iter().zip(&shapes);
            sizes.flat_map(|(o, os)| o.iter().zip(*os)).any(|(other, os)| other == l && os != s)
        });
        if repeated || broadcast {
            return Err(e.unsupported(c.node, &format!("\"{text}\" takes a diagonal or repeats an operand")));
        }
    }
    let mut out = vec![];
    for (i, own) in equation.operands.iter().enumerate() {
        if !c.wants(i) {
            continue;
        }
        let others: Vec<usize> = (0..equation.operands.len()).filter(|o| *o != i).collect();
        let elsewhere = |l: &char| {
            equation.result.contains(l) || others.iter().any(|o| equation.operands[*o].contains(l))
        };
        let kept: Vec<char> = own.iter().copied().filter(elsewhere).collect();
        let mut inputs: Vec<&[char]> = vec![&equation.result];
        let mut names: Vec<&str> = vec![&dy];
        for o in &others {
            inputs.push(&equation.operands[*o]);
            names.push(c.x(*o));
        }
        let attribute = vec![string("equation", &equation.write(&inputs, &kept))];
        let mut g = e.op("Einsum", &names, attribute);
        if kept.len() < own.len() {
            let one: Shape = own
                .iter()
                .zip(shapes[i])
                .map(|(l, s)| if elsewhere(l) { *s } else { Size::Fixed(1) })
                .collect();
            g = e.reshape(&g, &one)?;
            g = e.expand_like(&g, &one, c.x(i))?;
        }
        out.push((i, g));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, ranks: &[usize]) -> Option<String> {
        let e = Equation::read(text, ranks)?;
        let inputs: Vec<&[char]> = e.operands.iter().map(Vec::as_slice).collect();
        Some(e.write(&inputs, &e.result))
    }

    #[test]
    fn equations_are_written_out() {
        assert_eq!(words("ij, jk -> ik", &[2, 2]).unwrap(), "ab,bc->ac");
        assert_eq!(words("ij,jk", &[2, 2]).unwrap(), "ab,bc->ac");
        // Two hidden axes come after the letters of the equation, the last one first.
        assert_eq!(words("...ij,...jk->...ik", &[4, 3]).unwrap(), "edab,dbc->edac");
        assert!(words("ij,jk->ik", &[2]).is_none() && words("ij->i", &[3]).is_none());
    }
}
