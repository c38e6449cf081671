//! Names of entries in maps.

use crate::random::Random;

/// Names that an update's path can have.
const STEPPING: [&str; 16] = [
    "5f2c000000000000000000a1",
    "5f2c000000000000000000a2",
    "5f2c000000000000000000a3",
    "5f2c000000000000000000a4",
    "5f2c000000000000000000b5",
    "5f2c000000000000000000b6",
    "5f2c000000000000000000b7",
    "5f2c000000000000000000b8",
    "0",
    "3",
    "key",
    "idx",
    "O'Brien \"q\"",
    "back\\slash~/",
    "tab\tline\n",
    "ü 😀",
];

/// Names that no path has as one step.
const ODD: [&str; 6] = ["", ".", "a.b", ".a", "b.", "5f2c.0"];

/// Names that need room: one that fits into an index next to a short `_id`, and one that fits nowhere.
const LENGTHS: [usize; 2] = [2_000, 3_000];

/// Any name but one with a dollar, which 4.4 does not store.
pub(super) fn key(random: &mut Random) -> String {
    if random.percent(15) { odd_key(random) } else { stepping_key(random) }
}

/// A name that is one step of a path.
pub(super) fn stepping_key(random: &mut Random) -> String {
    match random.below(30) {
        0 => "k".repeat(random.pick(&LENGTHS)),
        _ => random.pick_skewed(&STEPPING).to_owned(),
    }
}

/// A name that a path cannot have.
pub(super) fn odd_key(random: &mut Random) -> String {
    random.pick(&ODD).to_owned()
}
