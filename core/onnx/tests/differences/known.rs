//! What does not work, and why. A test fails as soon as an entry has lost its reason.

/// Cases that end otherwise than in a gradient: operator, operator sets, and words of the message.
pub type Entry = (&'static str, &'static [i64], &'static str);

/// What a backend is known not to do.
pub struct Known {
    /// Cases whose model, or whose gradient model, it cannot run, or runs to other values than the specification's.
    pub limits: &'static [Entry],
}

/// Operators without a gradient rule.
pub const WITHOUT_RULE: &[&str] = &["Mod"];

/// Forms of operators that their rules refuse.
pub const REFUSED: &[Entry] = &[
    ("GatherElements", &[11, 13], "it needs a scattered sum (operator set 16)"),
    ("GatherND", &[12, 13], "it needs a scattered sum (operator set 16)"),
    ("GatherND", &[18], "batch_dims is set"),
    ("Resize", &[18, 19], "antialias is set"),
    ("ScatterElements", &[16, 18], "reduction \"m"),
    ("ScatterND", &[16, 18], "reduction \"m"),
];
