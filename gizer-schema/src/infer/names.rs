//! What the names of an object's fields look like: whether they are data.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};

/// The forms that identifiers have. A name has the first of them that it fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameForm {
    /// 24 hexadecimal digits.
    ObjectId,
    /// 8-4-4-4-12 hexadecimal digits.
    Uuid,
    /// Decimal digits, with a sign or without.
    Number,
    /// `2026-01`, `2026-01-31`, with `/`, `.` or `_` in the place of `-`, and with a time behind it.
    Date,
    /// Eight hexadecimal digits or more, with a decimal one among them.
    Hexadecimal,
    /// `x@y.z`.
    Email,
    /// Anything else: most likely a word.
    Other,
}

/// How many there are.
const FORMS: usize = 7;

impl NameForm {
    pub(crate) fn of(name: &str) -> NameForm {
        let bytes = name.as_bytes();
        let all = |is: fn(&u8) -> bool| !bytes.is_empty() && bytes.iter().all(is);
        if all(u8::is_ascii_hexdigit) && bytes.len() == 24 {
            NameForm::ObjectId
        } else if is_uuid(bytes) {
            NameForm::Uuid
        } else if is_number(bytes) {
            NameForm::Number
        } else if is_date(bytes) {
            NameForm::Date
        } else if all(u8::is_ascii_hexdigit) && bytes.len() >= 8 && bytes.iter().any(u8::is_ascii_digit) {
            NameForm::Hexadecimal
        } else if is_email(name) {
            NameForm::Email
        } else {
            NameForm::Other
        }
    }
}

fn is_uuid(name: &[u8]) -> bool {
    name.len() == 36
        && name.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn is_number(name: &[u8]) -> bool {
    let digits = name.strip_prefix(b"-").unwrap_or(name);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

fn is_date(name: &[u8]) -> bool {
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    let Some((_, rest)) = name.split_at_checked(4).filter(|(year, _)| digits(year)) else { return false };
    let Some((separator, rest)) = rest.split_first().filter(|(byte, _)| b"-/._".contains(byte)) else { return false };
    let Some((_, rest)) = rest.split_at_checked(2).filter(|(month, _)| digits(month)) else { return false };
    match rest.split_first() {
        None => true,
        Some((byte, rest)) => {
            let day = rest.split_at_checked(2).filter(|(day, _)| digits(day));
            byte == separator && day.is_some_and(|(_, time)| time.first().is_none_or(|byte| !byte.is_ascii_digit()))
        }
    }
}

fn is_email(name: &str) -> bool {
    name.split_once('@').is_some_and(|(local, host)| {
        !local.is_empty() && host.contains('.') && !host.starts_with('.') && !host.ends_with('.')
    })
}

/// How many entries have a name of each form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FormCounts([u64; FORMS]);

impl FormCounts {
    pub(crate) fn add(&mut self, form: NameForm, entries: u64) {
        self.0[form as usize] += entries;
    }

    pub(crate) fn merge(&mut self, other: FormCounts) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// Whether 99 % of the entries have names of one form that identifiers have.
    pub(crate) fn are_identifiers(&self) -> bool {
        let all: u64 = self.0.iter().sum();
        let most = self.0[..NameForm::Other as usize].iter().max().copied().unwrap_or_default();
        most > 0 && u128::from(most) * 100 >= u128::from(all) * 99
    }
}

/// An estimate of how many different names there are: the smallest of their hashes (k minimum values). It can be merged, and is
/// the same whatever came first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DistinctNames(BTreeSet<u64>);

/// Hashes that are kept: the estimate is within some 3 %, one time out of three beyond that.
const HASHES: usize = 1_024;

impl DistinctNames {
    pub(crate) fn add(&mut self, name: &[u8]) {
        let mut hasher = DefaultHasher::new();
        hasher.write(name);
        self.insert(hasher.finish());
    }

    fn insert(&mut self, hash: u64) {
        let is_full = self.0.len() == HASHES;
        if is_full && self.0.last().is_some_and(|largest| hash >= *largest) {
            return;
        }
        if self.0.insert(hash) && is_full {
            self.0.pop_last();
        }
    }

    pub(crate) fn merge(&mut self, other: &DistinctNames) {
        other.0.iter().for_each(|hash| self.insert(*hash));
    }

    /// How many names there are; exact as long as there are few.
    pub(crate) fn estimate(&self) -> u64 {
        match self.0.last() {
            Some(largest) if self.0.len() == HASHES => {
                ((HASHES - 1) as f64 * (u64::MAX as f64) / (*largest as f64)).round() as u64
            }
            _ => self.0.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_form_of_identifiers_or_of_words() {
        for (name, form) in [
            ("5f2c0a1b2c3d4e5f60718293", NameForm::ObjectId),
            ("123456789012345678901234", NameForm::ObjectId),
            ("0df078f33aa74a2e9696e0520c1a828a", NameForm::Hexadecimal),
            ("deadbeef", NameForm::Other),
            ("dead8eef", NameForm::Hexadecimal),
            ("550e8400-e29b-41d4-a716-446655440000", NameForm::Uuid),
            ("0", NameForm::Number),
            ("-13", NameForm::Number),
            ("-", NameForm::Other),
            ("20260131", NameForm::Number),
            ("2026-01", NameForm::Date),
            ("2026-01-31", NameForm::Date),
            ("2026/01/31", NameForm::Date),
            ("2026-01-31T12:00:00Z", NameForm::Date),
            ("2026-01-311", NameForm::Other),
            ("2026-01/31", NameForm::Other),
            ("a@example.com", NameForm::Email),
            ("@example.com", NameForm::Other),
            ("line2", NameForm::Other),
            ("street", NameForm::Other),
            ("", NameForm::Other),
            ("ü", NameForm::Other),
        ] {
            assert_eq!(NameForm::of(name), form, "{name}");
        }
    }

    #[test]
    fn different_names_are_counted_exactly_and_then_estimated() {
        let mut names = DistinctNames::default();
        for i in 0..1_000 {
            names.add(format!("name {i}").as_bytes());
            names.add(format!("name {i}").as_bytes());
        }
        assert_eq!(names.estimate(), 1_000);
        let (mut all, mut parts) = (DistinctNames::default(), [DistinctNames::default(), DistinctNames::default()]);
        for i in 0..100_000 {
            let name = format!("name {i}");
            all.add(name.as_bytes());
            parts[i % 2].add(name.as_bytes());
        }
        let [mut merged, other] = parts;
        merged.merge(&other);
        assert_eq!(merged, all);
        assert!((85_000..115_000).contains(&all.estimate()), "{}", all.estimate());
    }
}
