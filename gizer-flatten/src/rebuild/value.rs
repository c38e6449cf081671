//! Values to encode as BSON.

use gizer_schema::raw::{Kind, RawDoc};

/// A value to encode as BSON; scalars and values kept whole are encoded already.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum BuiltValue {
    Raw(Kind, Vec<u8>),
    Document(BuiltFields),
    Array(Vec<BuiltValue>),
}

/// Fields of a document, without duplicates unless kept whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct BuiltFields(pub(crate) Vec<(String, BuiltValue)>);

impl BuiltFields {
    pub(crate) fn insert(&mut self, name: String, value: BuiltValue) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, place)) => *place = value,
            None => self.0.push((name, value)),
        }
    }

    /// The document of this name, created if missing; `None` if something else has the name.
    pub(crate) fn document(&mut self, name: String) -> Option<&mut BuiltFields> {
        let at = match self.0.iter().position(|(known, _)| *known == name) {
            Some(at) => at,
            None => {
                self.0.push((name, BuiltValue::Document(BuiltFields::default())));
                self.0.len() - 1
            }
        };
        match &mut self.0[at].1 {
            BuiltValue::Document(fields) => Some(fields),
            _ => None,
        }
    }
}

impl BuiltValue {
    pub(crate) const NULL: BuiltValue = BuiltValue::Raw(Kind::Null, Vec::new());

    pub(crate) fn raw(kind: Kind, bytes: impl AsRef<[u8]>) -> BuiltValue {
        BuiltValue::Raw(kind, bytes.as_ref().to_vec())
    }

    /// A string, or another type that is written like one; `None` if it is too long for BSON.
    pub(crate) fn text(kind: Kind, text: &str) -> Option<BuiltValue> {
        Some(BuiltValue::Raw(kind, text_bytes(text)?))
    }

    /// Binary; bytes of the old subtype (2) start with their own length.
    pub(crate) fn binary(subtype: u8, bytes: &[u8]) -> Option<BuiltValue> {
        let length = i32::try_from(bytes.len()).ok()?.to_le_bytes();
        Some(BuiltValue::Raw(Kind::Binary, [&length[..], &[subtype], bytes].concat()))
    }

    /// The only field of this document: a value kept whole.
    pub(crate) fn only_field_of(document: &[u8]) -> Option<BuiltValue> {
        let element = RawDoc::new(document).ok()?.elements().next()?.ok()?;
        Some(BuiltValue::raw(element.kind, element.bytes))
    }

    /// Type and bytes of an element; `None` if it does not fit BSON, as a document of 2 GiB.
    pub(crate) fn encode(&self) -> Option<(Kind, Vec<u8>)> {
        match self {
            BuiltValue::Raw(kind, bytes) => Some((*kind, bytes.clone())),
            BuiltValue::Document(fields) => {
                let elements = fields.0.iter().map(|(name, value)| (name.as_str(), value));
                Some((Kind::Document, encode_document(elements)?))
            }
            BuiltValue::Array(values) => {
                let names: Vec<String> = (0..values.len()).map(|i| i.to_string()).collect();
                let elements = names.iter().map(String::as_str).zip(values);
                Some((Kind::Array, encode_document(elements)?))
            }
        }
    }
}

/// Length, text, 0.
pub(crate) fn text_bytes(text: &str) -> Option<Vec<u8>> {
    let length = i32::try_from(text.len() + 1).ok()?.to_le_bytes();
    Some([&length, text.as_bytes(), &[0]].concat())
}

fn encode_document<'v>(elements: impl Iterator<Item = (&'v str, &'v BuiltValue)>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 4];
    for (name, value) in elements {
        let (kind, value) = value.encode()?;
        bytes.push(kind as u8);
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&value);
    }
    bytes.push(0);
    let length = i32::try_from(bytes.len()).ok()?.to_le_bytes();
    bytes[..4].copy_from_slice(&length);
    Some(bytes)
}
