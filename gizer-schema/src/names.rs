//! Names of tables and columns: the classic mapping, and what to do where it gives no usable name.
//!
//! PostgreSQL takes identifiers of up to 63 bytes (`NAMEDATALEN` − 1; longer ones are cut in silence) and none that
//! are empty. A name that is too long, empty, or taken gets a stable short hash of the path it stands for.

use std::borrow::Cow;
use std::collections::HashSet;

use sha2::{Digest, Sha256};

/// Longest identifier that PostgreSQL keeps whole, in bytes.
pub const MAX_IDENTIFIER_BYTES: usize = 63;

/// Digits of the hash that distinguishes two names.
const HASH_DIGITS: usize = 8;

/// A field's name as part of a table's or column's name: it loses one leading `_`, unless nothing would be left.
pub fn part(field: &str) -> &str {
    match field.strip_prefix('_') {
        Some("") | None => field,
        Some(rest) => rest,
    }
}

/// The name of an array that is not the last of a path: lower-cased, without one trailing `s`.
pub fn singular(name: &str) -> String {
    let lower = name.to_lowercase();
    match lower.strip_suffix('s') {
        Some(stem) => stem.to_owned(),
        None => lower,
    }
}

/// Joins names by `_`.
pub fn join<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    parts.into_iter().collect::<Vec<_>>().join("_")
}

/// The first eight hex digits of the SHA-256 of `path`: the same on every machine and in every version.
pub fn short_hash(path: &str) -> String {
    hex::encode(&Sha256::digest(path.as_bytes())[..HASH_DIGITS / 2])
}

/// `name`, cut so that `_` and the hash of `path` fit behind it.
pub fn hashed(name: &str, path: &str) -> String {
    let mut end = name.len().min(MAX_IDENTIFIER_BYTES - HASH_DIGITS - 1);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}_{}", &name[..end], short_hash(path))
}

/// Most bytes of a name that a message shows whole: those of a collection in MongoDB, with its database. Names of fields may have
/// megabytes.
const MAX_WHOLE: usize = 255;

/// Characters of longer ones.
const MAX_SHOWN: usize = 100;

/// A name as a message shows it: the beginning of a long one, with its length.
pub fn shortened(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) if name.len() > MAX_WHOLE => format!("{}… ({} bytes)", &name[..end], name.len()).into(),
        _ => name.into(),
    }
}

/// Names already given away, in one table or in one schema.
#[derive(Debug, Default, Clone)]
pub struct Taken(HashSet<String>);

/// Columns that every PostgreSQL table has by itself ("System Columns").
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

impl Taken {
    /// For the columns of a table: the system's own are taken.
    pub fn with_system_columns() -> Taken {
        Taken(SYSTEM_COLUMNS.iter().map(|name| (*name).to_owned()).collect())
    }

    /// Gives `name` away if it can stand as it is, else a hashed form of it; `path` distinguishes what has one name.
    pub fn take(&mut self, name: &str, path: &str) -> String {
        let usable = !name.is_empty() && name.len() <= MAX_IDENTIFIER_BYTES && !name.contains('\0');
        if usable && self.0.insert(name.to_owned()) {
            return name.to_owned();
        }
        let clean = name.replace('\0', "");
        let mut salted = path.to_owned();
        loop {
            let candidate = hashed(&clean, &salted);
            if self.0.insert(candidate.clone()) {
                return candidate;
            }
            // Two paths with one hash, or a field that is named like a hash: the path is salted until it differs.
            salted.push('\0');
        }
    }

    /// Whether this name is given away.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lose_one_underscore() {
        assert_eq!(part("_id"), "id");
        assert_eq!(part("__x"), "_x");
        assert_eq!(part("x_"), "x_");
        assert_eq!(part("_"), "_");
        assert_eq!(part(""), "");
    }

    #[test]
    fn singular_is_lower_case_and_loses_one_s() {
        assert_eq!(singular("Comments"), "comment");
        assert_eq!(singular("address"), "addres");
        assert_eq!(singular("fish"), "fish");
    }

    #[test]
    fn messages_show_the_beginning_of_long_names() {
        assert_eq!(shortened("größe"), "größe");
        assert_eq!(shortened(&"é".repeat(127)), "é".repeat(127));
        assert_eq!(shortened(&"é".repeat(5_000)), format!("{}… (10000 bytes)", "é".repeat(100)));
    }

    #[test]
    fn a_taken_name_gets_a_stable_hash() {
        let mut taken = Taken::default();
        assert_eq!(taken.take("a_b", "a.b"), "a_b");
        let second = taken.take("a_b", "a_b");
        assert_eq!(second, format!("a_b_{}", short_hash("a_b")));
        assert_eq!(short_hash("a_b"), "648fa9b3", "the hash must never change: names in databases depend on it");
    }

    #[test]
    fn long_empty_and_multibyte_names_fit() {
        let mut taken = Taken::default();
        for name in ["x".repeat(64), String::new(), "ü".repeat(60), "a\0b".to_owned()] {
            let given = taken.take(&name, &name);
            assert!(given.len() <= MAX_IDENTIFIER_BYTES && !given.is_empty() && !given.contains('\0'), "{given}");
        }
        let long = "x".repeat(63);
        assert_eq!(taken.take(&long, "p"), long);
        assert_ne!(taken.take(&long, "p"), taken.take(&long, "p"), "the same path twice still gives two names");
    }
}
