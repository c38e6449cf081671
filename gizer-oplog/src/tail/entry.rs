//! The few fields of an oplog entry that are needed before decoding.

use gizer_flatten::change::ClusterTime;
use gizer_schema::raw::{Malformed, RawDoc, Value};

use crate::position::OplogPosition;

/// A raw oplog entry with the fields that decide where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawEntry<'b> {
    position: OplogPosition,
    operation: &'b [u8],
    namespace: Option<&'b [u8]>,
    document: RawDoc<'b>,
}

impl<'b> RawEntry<'b> {
    /// Reads `ts`, `t`, `op` and `ns`; skips all others.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are not BSON, or there is no `ts`.
    pub fn read(document: RawDoc<'b>) -> Result<RawEntry<'b>, Malformed> {
        let (mut time, mut term, mut operation, mut namespace) = (None, None, &b""[..], None);
        for element in document.elements() {
            let element = element?;
            match (element.name, element.value()?) {
                (b"ts", Value::Timestamp { seconds, increment }) => time = Some(ClusterTime { seconds, increment }),
                (b"t", Value::Int64(number)) => term = Some(number),
                (b"op", Value::String(text)) => operation = text,
                (b"ns", Value::String(text)) => namespace = Some(text),
                _ => {}
            }
        }
        let time = time.ok_or(Malformed { what: "an oplog entry with ts", at: 0 })?;
        // Entries from before protocol version 1 have no term.
        let position = OplogPosition { time, term: term.unwrap_or(-1) };
        Ok(RawEntry { position, operation, namespace, document })
    }

    /// Its position.
    pub fn position(&self) -> OplogPosition {
        self.position
    }

    /// The kind of operation, `op`: `i`, `u`, `d`, `c`, `n` or a later one; empty if missing.
    pub fn operation(&self) -> &'b [u8] {
        self.operation
    }

    /// The full name of the collection, `ns`, if there is one.
    pub fn namespace(&self) -> Option<&'b [u8]> {
        self.namespace
    }

    /// The raw document.
    pub fn document(&self) -> RawDoc<'b> {
        self.document
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Timestamp, doc};

    #[test]
    fn the_fields_are_found_wherever_they_stand() {
        let ts = Timestamp { time: 7, increment: 2 };
        let bytes =
            doc! { "o": { "ts": 1, "op": "x" }, "ns": "a.b", "ts": ts, "op": "i", "t": 3_i64 }.to_vec().unwrap();
        let entry = RawEntry::read(RawDoc::new(&bytes).unwrap()).unwrap();
        let time = ClusterTime { seconds: 7, increment: 2 };
        assert_eq!(entry.position(), OplogPosition { time, term: 3 });
        assert_eq!((entry.operation(), entry.namespace()), (&b"i"[..], Some(&b"a.b"[..])));
        assert_eq!(entry.document().as_bytes(), bytes);
    }

    #[test]
    fn an_entry_without_a_term_has_term_minus_one_and_one_without_a_time_is_none() {
        let bytes = doc! { "ts": Timestamp { time: 7, increment: 2 } }.to_vec().unwrap();
        assert_eq!(RawEntry::read(RawDoc::new(&bytes).unwrap()).unwrap().position().term, -1);
        let bytes = doc! { "t": 1_i64, "ts": 7 }.to_vec().unwrap();
        assert!(RawEntry::read(RawDoc::new(&bytes).unwrap()).is_err());
    }
}
