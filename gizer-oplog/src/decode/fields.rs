//! The outer fields of an entry, or of an operation within `applyOps`, which has no time.

use gizer_flatten::change::ClusterTime;
use gizer_schema::raw::{Element, Malformed, RawDoc, Value};

use super::error::DecodeError;
use crate::position::OplogPosition;

/// Fields of an entry besides its position; `o` and `o2` are not decoded.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct EntryFields<'b> {
    /// `op`; empty if there is none.
    pub(super) operation: &'b [u8],
    /// `ns`; empty if there is none.
    pub(super) namespace: &'b [u8],
    /// `ui`.
    pub(super) uuid: Option<[u8; 16]>,
    pub(super) from_migrate: bool,
    /// `o`.
    pub(super) object: Option<RawDoc<'b>>,
    /// `o2`.
    pub(super) criteria: Option<RawDoc<'b>>,
    /// `lsid`.
    pub(super) session: Option<RawDoc<'b>>,
    /// `txnNumber`.
    pub(super) number: Option<i64>,
    /// `prevOpTime`.
    pub(super) previous: Option<RawDoc<'b>>,
    /// `multiOpType`, of MongoDB 8.0; 0 if there is none.
    pub(super) multi: i64,
}

impl<'b> EntryFields<'b> {
    pub(super) fn read(document: RawDoc<'b>) -> Result<EntryFields<'b>, Malformed> {
        let mut fields = EntryFields::default();
        for element in document.elements() {
            let element = element?;
            match element.name {
                b"op" => fields.operation = element.string().unwrap_or_default(),
                b"ns" => fields.namespace = element.string().unwrap_or_default(),
                b"ui" => fields.uuid = Some(expect(uuid(&element)?, "a UUID of 16 bytes in ui")?),
                b"fromMigrate" => fields.from_migrate = element.value()? == Value::Boolean(true),
                b"o" => fields.object = nested(&element)?,
                b"o2" => fields.criteria = nested(&element)?,
                // A malformed id must not make a transaction look standalone.
                b"lsid" => fields.session = Some(expect(nested(&element)?, "a document in lsid")?),
                b"txnNumber" => fields.number = Some(expect(number(&element)?, "a whole number in txnNumber")?),
                b"prevOpTime" => fields.previous = Some(expect(nested(&element)?, "a document in prevOpTime")?),
                b"multiOpType" => fields.multi = number(&element)?.unwrap_or_default(),
                _ => {}
            }
        }
        Ok(fields)
    }
}

fn expect<T>(part: Option<T>, what: &'static str) -> Result<T, Malformed> {
    part.ok_or(Malformed { what, at: 0 })
}

/// The element as a UUID; `None` if it is something else.
pub(super) fn uuid(element: &Element<'_>) -> Result<Option<[u8; 16]>, Malformed> {
    Ok(match element.value()? {
        Value::Binary { bytes, .. } => bytes.try_into().ok(),
        _ => None,
    })
}

/// The element as a document; `None` if it is something else.
pub(super) fn nested<'b>(element: &Element<'b>) -> Result<Option<RawDoc<'b>>, Malformed> {
    Ok(match element.value()? {
        Value::Document(document) => Some(document),
        _ => None,
    })
}

/// The element as a whole number; `None` if it is none.
pub(super) fn number(element: &Element<'_>) -> Result<Option<i64>, Malformed> {
    Ok(match element.value()? {
        Value::Int32(number) => Some(number.into()),
        Value::Int64(number) => Some(number),
        Value::Double(number) if number.fract() == 0.0 => Some(number as i64),
        _ => None,
    })
}

pub(super) fn find<'b>(document: RawDoc<'b>, name: &[u8]) -> Result<Option<Element<'b>>, Malformed> {
    for element in document.elements() {
        let element = element?;
        if element.name == name {
            return Ok(Some(element));
        }
    }
    Ok(None)
}

/// The position in `prevOpTime`; `None` for the null position, `{ts: Timestamp(0, 0), t: -1}`.
pub(super) fn position(document: RawDoc<'_>) -> Result<Option<OplogPosition>, DecodeError> {
    let (mut time, mut term) = (None, -1);
    for element in document.elements() {
        match element.map(|element| (element.name, element.value()))? {
            (b"ts", Ok(Value::Timestamp { seconds, increment })) => time = Some(ClusterTime { seconds, increment }),
            (b"t", Ok(Value::Int64(number))) => term = number,
            (_, value) => drop(value?),
        }
    }
    let time = time.ok_or(DecodeError::Missing { expected: "a time in prevOpTime" })?;
    Ok((time != ClusterTime::default()).then_some(OplogPosition { time, term }))
}
