//! Reading raw BSON in place.
//!
//! A hot path must never build a `bson::Document`, and it must be able to look at what the `bson` crate
//! refuses: text and field names that are not UTF-8, and duplicate names. This reader walks the bytes as the
//! BSON specification 1.1 (bsonspec.org) lays them out, borrows everything, allocates nothing, and never
//! panics: whatever is wrong ends in [`Malformed`].

use strum::{IntoStaticStr, VariantArray};
use thiserror::Error;

/// Bytes that are not a well-formed BSON document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("malformed BSON: {what} at byte {at}")]
pub struct Malformed {
    /// What was expected and not found.
    pub what: &'static str,
    /// Offset in bytes from the start of the enclosing document.
    pub at: usize,
}

/// The BSON element types, named as in MongoDB's documentation ("BSON Types").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "UPPERCASE")]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    Double = 0x01,
    String = 0x02,
    Document = 0x03,
    Array = 0x04,
    Binary = 0x05,
    Undefined = 0x06,
    ObjectId = 0x07,
    Boolean = 0x08,
    #[strum(serialize = "TIMESTAMP")]
    DateTime = 0x09,
    Null = 0x0A,
    Regex = 0x0B,
    DbPointer = 0x0C,
    JavaScript = 0x0D,
    Symbol = 0x0E,
    #[strum(serialize = "JAVASCRIPT_WITH_SCOPE")]
    CodeWithScope = 0x0F,
    #[strum(serialize = "INT")]
    Int32 = 0x10,
    #[strum(serialize = "BSON_TIMESTAMP")]
    Timestamp = 0x11,
    #[strum(serialize = "BIGINT")]
    Int64 = 0x12,
    #[strum(serialize = "DECIMAL")]
    Decimal128 = 0x13,
    MaxKey = 0x7F,
    MinKey = 0xFF,
}

impl Kind {
    /// All kinds, in the order of their type numbers, `MinKey` last.
    pub const ALL: &'static [Kind] = Kind::VARIANTS;

    /// The kind with this type byte.
    pub fn from_tag(tag: u8) -> Option<Kind> {
        match tag {
            0x01..=0x13 => Some(Kind::ALL[usize::from(tag) - 1]),
            0x7F => Some(Kind::MaxKey),
            0xFF => Some(Kind::MinKey),
            _ => None,
        }
    }

    /// Place in [`Kind::ALL`], for tables of counts.
    pub fn index(self) -> usize {
        match self {
            Kind::MaxKey => 19,
            Kind::MinKey => 20,
            other => other as usize - 1,
        }
    }

    /// The name that reports use; where the classic tool had a name for it, that one.
    pub fn report_name(self) -> &'static str {
        self.into()
    }
}

/// A document (or array) whose outer length and terminator have been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawDoc<'a> {
    bytes: &'a [u8],
}

impl<'a> RawDoc<'a> {
    /// Takes exactly the bytes of one document.
    ///
    /// # Errors
    /// [`Malformed`] if the length prefix is not the length of `bytes`, or the last byte is not 0. What is
    /// inside is checked only as it is walked.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        match read_len(bytes, 0) {
            Some(len) if len == bytes.len() && len >= 5 && bytes[len - 1] == 0 => Ok(RawDoc { bytes }),
            Some(_) => Err(Malformed { what: "a document as long as its length prefix, ended by 0", at: 0 }),
            None => Err(Malformed { what: "a length prefix of four bytes", at: 0 }),
        }
    }

    /// Takes the document at the start of `bytes`, whatever follows it.
    ///
    /// # Errors
    /// As [`RawDoc::new`].
    pub fn first_in(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let len = read_len(bytes, 0).ok_or(Malformed { what: "a length prefix of four bytes", at: 0 })?;
        let slice = bytes.get(..len).ok_or(Malformed { what: "as many bytes as the length prefix says", at: 0 })?;
        RawDoc::new(slice)
    }

    /// The bytes, length prefix and terminator included.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Walks the elements in their order.
    pub fn elements(self) -> Elements<'a> {
        Elements { bytes: self.bytes, at: 4 }
    }

    /// The first element with this name.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes before it cannot be walked.
    pub fn get(self, name: &[u8]) -> Result<Option<Element<'a>>, Malformed> {
        for element in self.elements() {
            let element = element?;
            if element.name == name {
                return Ok(Some(element));
            }
        }
        Ok(None)
    }

    /// Looks at every value, however deep: what has passed here gives no [`Malformed`] when it is read.
    ///
    /// # Errors
    /// [`Malformed`], the first that there is.
    pub fn check(self) -> Result<(), Malformed> {
        let mut open = vec![self.elements()];
        while let Some(elements) = open.last_mut() {
            let Some(element) = elements.next() else {
                open.pop();
                continue;
            };
            match element?.value()? {
                Value::Document(nested) | Value::Array(nested) | Value::CodeWithScope { scope: nested, .. } => {
                    open.push(nested.elements());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether there is no element.
    pub fn is_empty(self) -> bool {
        self.bytes.len() == 5
    }
}

/// One element: its name, its kind and the bytes of its value, not yet decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// The field's name without its terminator; for an array its position in decimal. Not necessarily UTF-8.
    pub name: &'a [u8],
    /// The value's type.
    pub kind: Kind,
    /// The value as it is stored.
    pub bytes: &'a [u8],
}

/// A decoded scalar or a nested document; text is bytes, because it need not be UTF-8.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum Value<'a> {
    Double(f64),
    String(&'a [u8]),
    Document(RawDoc<'a>),
    Array(RawDoc<'a>),
    Binary {
        subtype: u8,
        bytes: &'a [u8],
    },
    Undefined,
    ObjectId([u8; 12]),
    Boolean(bool),
    /// Milliseconds since 1970-01-01 UTC.
    DateTime(i64),
    Null,
    Regex {
        pattern: &'a [u8],
        options: &'a [u8],
    },
    DbPointer {
        namespace: &'a [u8],
        id: [u8; 12],
    },
    JavaScript(&'a [u8]),
    Symbol(&'a [u8]),
    CodeWithScope {
        code: &'a [u8],
        scope: RawDoc<'a>,
    },
    Int32(i32),
    Timestamp {
        seconds: u32,
        increment: u32,
    },
    Int64(i64),
    /// IEEE 754-2008 decimal128, binary integer encoding, little-endian.
    Decimal128([u8; 16]),
    MaxKey,
    MinKey,
}

impl<'a> Element<'a> {
    /// The text of a string; `None` of anything else, and of a string that is malformed.
    #[inline]
    pub fn string(&self) -> Option<&'a [u8]> {
        if self.kind == Kind::String { text(self.bytes).ok() } else { None }
    }

    /// Decodes the value.
    ///
    /// # Errors
    /// [`Malformed`] if a length inside the value does not fit, or a boolean is neither 0 nor 1.
    pub fn value(&self) -> Result<Value<'a>, Malformed> {
        let bytes = self.bytes;
        let bad = |what| Malformed { what, at: 0 };
        Ok(match self.kind {
            Kind::Double => Value::Double(f64::from_le_bytes(fixed(bytes)?)),
            Kind::String => Value::String(text(bytes)?),
            Kind::Document => Value::Document(RawDoc::new(bytes)?),
            Kind::Array => Value::Array(RawDoc::new(bytes)?),
            Kind::Binary => {
                Value::Binary { subtype: *bytes.get(4).ok_or(bad("a binary subtype"))?, bytes: &bytes[5..] }
            }
            Kind::Undefined => Value::Undefined,
            Kind::ObjectId => Value::ObjectId(fixed(bytes)?),
            Kind::Boolean => match bytes {
                [0] => Value::Boolean(false),
                [1] => Value::Boolean(true),
                _ => return Err(bad("a boolean of 0 or 1")),
            },
            Kind::DateTime => Value::DateTime(i64::from_le_bytes(fixed(bytes)?)),
            Kind::Null => Value::Null,
            Kind::Regex => {
                let split = bytes.iter().position(|b| *b == 0).ok_or(bad("a pattern ended by 0"))?;
                let options = &bytes[split + 1..];
                Value::Regex { pattern: &bytes[..split], options: options.strip_suffix(&[0]).unwrap_or(options) }
            }
            Kind::DbPointer => {
                let (namespace, id) = bytes.split_at_checked(bytes.len().wrapping_sub(12)).ok_or(bad("a DBPointer"))?;
                Value::DbPointer { namespace: text(namespace)?, id: fixed(id)? }
            }
            Kind::JavaScript => Value::JavaScript(text(bytes)?),
            Kind::Symbol => Value::Symbol(text(bytes)?),
            Kind::CodeWithScope => {
                let rest = bytes.get(4..).ok_or(bad("code with scope"))?;
                let code_len = read_len(rest, 0).ok_or(bad("a length of code"))?;
                let (code, scope) = rest.split_at_checked(code_len + 4).ok_or(bad("code as long as it says"))?;
                Value::CodeWithScope { code: text(code)?, scope: RawDoc::new(scope)? }
            }
            Kind::Int32 => Value::Int32(i32::from_le_bytes(fixed(bytes)?)),
            Kind::Timestamp => {
                let both = u64::from_le_bytes(fixed(bytes)?);
                Value::Timestamp { seconds: (both >> 32) as u32, increment: both as u32 }
            }
            Kind::Int64 => Value::Int64(i64::from_le_bytes(fixed(bytes)?)),
            Kind::Decimal128 => Value::Decimal128(fixed(bytes)?),
            Kind::MaxKey => Value::MaxKey,
            Kind::MinKey => Value::MinKey,
        })
    }
}

/// Iterator over the elements of a document; after an error it ends.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Elements<'a> {
    // Always: a returned element is written to memory in parts and read as a whole, which stalls for each. Not where nothing is
    // optimised: there the frames of recursive callers grow until a diff of 200 levels outgrows a thread's stack.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn step(&mut self) -> Result<Option<Element<'a>>, Malformed> {
        let bytes = self.bytes;
        let start = self.at;
        let tag = bytes[start];
        if tag == 0 {
            return if start + 1 == bytes.len() {
                Ok(None)
            } else {
                Err(Malformed { what: "the end of the document after its terminator", at: start })
            };
        }
        let kind = Kind::from_tag(tag).ok_or(Malformed { what: "a known element type", at: start })?;
        let name_start = start + 1;
        let name_len =
            first_zero(&bytes[name_start..]).ok_or(Malformed { what: "a field name ended by 0", at: name_start })?;
        let value_start = name_start + name_len + 1;
        let len = value_len(kind, bytes, value_start)
            .ok_or(Malformed { what: "a value with a possible length", at: value_start })?;
        // The terminator of the document itself must still follow the value.
        let end = value_start
            .checked_add(len)
            .filter(|end| *end < bytes.len())
            .ok_or(Malformed { what: "a value that ends inside its document", at: value_start })?;
        self.at = end;
        Ok(Some(Element { name: &bytes[name_start..name_start + name_len], kind, bytes: &bytes[value_start..end] }))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, Malformed>;

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        match self.step() {
            Ok(Some(element)) => Some(Ok(element)),
            Ok(None) => {
                self.at = self.bytes.len();
                None
            }
            Err(error) => {
                self.at = self.bytes.len();
                Some(Err(error))
            }
        }
    }
}

/// Where the first byte of 0 is, eight bytes at a time.
#[inline]
fn first_zero(bytes: &[u8]) -> Option<usize> {
    const LOW_BITS: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    let mut at = 0;
    while let Some(eight) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        // Of the marked bytes the first is 0; one behind it may be marked by a borrow.
        let marked = word.wrapping_sub(LOW_BITS) & !word & HIGH_BITS;
        if marked != 0 {
            return Some(at + marked.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes[at..].iter().position(|byte| *byte == 0).map(|rest| at + rest)
}

/// Length in bytes of the value of `kind` that starts at `at`.
#[inline]
fn value_len(kind: Kind, bytes: &[u8], at: usize) -> Option<usize> {
    Some(match kind {
        Kind::Null | Kind::Undefined | Kind::MinKey | Kind::MaxKey => 0,
        Kind::Boolean => 1,
        Kind::Int32 => 4,
        Kind::Double | Kind::Int64 | Kind::DateTime | Kind::Timestamp => 8,
        Kind::ObjectId => 12,
        Kind::Decimal128 => 16,
        Kind::String | Kind::JavaScript | Kind::Symbol => read_len(bytes, at)?.checked_add(4)?,
        Kind::Binary => read_len(bytes, at)?.checked_add(5)?,
        Kind::DbPointer => read_len(bytes, at)?.checked_add(16)?,
        Kind::Document | Kind::Array | Kind::CodeWithScope => read_len(bytes, at).filter(|len| *len >= 5)?,
        Kind::Regex => {
            let rest = bytes.get(at..)?;
            let pattern = rest.iter().position(|b| *b == 0)?;
            let options = rest[pattern + 1..].iter().position(|b| *b == 0)?;
            pattern + options + 2
        }
    })
}

/// A non-negative little-endian 32-bit length at `at`.
fn read_len(bytes: &[u8], at: usize) -> Option<usize> {
    let four: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    usize::try_from(i32::from_le_bytes(four)).ok()
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    bytes.try_into().map_err(|_| Malformed { what: "a value of the length of its type", at: 0 })
}

/// The text in `bytes` of the form length, text, 0; the text itself may hold further zeros.
#[inline]
fn text(bytes: &[u8]) -> Result<&[u8], Malformed> {
    match bytes {
        [_, _, _, _, text @ .., 0] if read_len(bytes, 0) == Some(text.len() + 1) => Ok(text),
        _ => Err(Malformed { what: "text as long as it says, ended by 0", at: 0 }),
    }
}

#[cfg(test)]
#[path = "raw_tests.rs"]
mod tests;
