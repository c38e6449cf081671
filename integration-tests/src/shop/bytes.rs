//! Writing BSON straight into bytes: a document of many nested ones costs one buffer and no copies.

use bson::oid::ObjectId;

/// Appends a document with the fields that `fill` writes.
pub(super) fn document(bytes: &mut Vec<u8>, fill: impl FnOnce(&mut Fields<'_>)) {
    let start = bytes.len();
    bytes.extend([0; 4]);
    fill(&mut Fields(bytes));
    bytes.push(0);
    let length = i32::try_from(bytes.len() - start).expect("no document of a shop is near 2 GiB");
    bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// The fields of a document that is being written.
pub(super) struct Fields<'b>(&'b mut Vec<u8>);

impl Fields<'_> {
    fn name(&mut self, element_type: u8, name: &str) {
        debug_assert!(!name.contains('\0'), "a name ends at its first zero");
        self.0.push(element_type);
        self.0.extend(name.as_bytes());
        self.0.push(0);
    }

    pub(super) fn double(&mut self, name: &str, value: f64) {
        self.name(0x01, name);
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn string(&mut self, name: &str, value: &str) {
        self.name(0x02, name);
        let length = i32::try_from(value.len() + 1).expect("no text of a shop is near 2 GiB");
        self.0.extend(length.to_le_bytes());
        self.0.extend(value.as_bytes());
        self.0.push(0);
    }

    pub(super) fn document(&mut self, name: &str, fill: impl FnOnce(&mut Fields<'_>)) {
        self.name(0x03, name);
        document(self.0, fill);
    }

    pub(super) fn array(&mut self, name: &str, fill: impl FnOnce(&mut Elements<'_>)) {
        self.name(0x04, name);
        // An array is a document whose fields are named 0, 1, 2, …
        document(self.0, |fields| fill(&mut Elements { fields: Fields(fields.0), next: 0 }));
    }

    pub(super) fn object_id(&mut self, name: &str, value: ObjectId) {
        self.name(0x07, name);
        self.0.extend(value.bytes());
    }

    pub(super) fn boolean(&mut self, name: &str, value: bool) {
        self.name(0x08, name);
        self.0.push(value.into());
    }

    /// `millis` since 1970-01-01 UTC.
    pub(super) fn date(&mut self, name: &str, millis: i64) {
        self.name(0x09, name);
        self.0.extend(millis.to_le_bytes());
    }

    pub(super) fn null(&mut self, name: &str) {
        self.name(0x0A, name);
    }

    pub(super) fn int32(&mut self, name: &str, value: i32) {
        self.name(0x10, name);
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn int64(&mut self, name: &str, value: i64) {
        self.name(0x12, name);
        self.0.extend(value.to_le_bytes());
    }
}

/// The elements of an array that is being written.
pub(super) struct Elements<'b> {
    fields: Fields<'b>,
    next: usize,
}

impl Elements<'_> {
    pub(super) fn string(&mut self, value: &str) {
        self.element(|fields, name| fields.string(name, value));
    }

    pub(super) fn document(&mut self, fill: impl FnOnce(&mut Fields<'_>)) {
        self.element(|fields, name| fields.document(name, fill));
    }

    fn element(&mut self, write: impl FnOnce(&mut Fields<'_>, &str)) {
        const NAMES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
        match NAMES.get(self.next) {
            Some(name) => write(&mut self.fields, name),
            None => write(&mut self.fields, &self.next.to_string()),
        }
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use bson::{Bson, DateTime, Document, doc};

    use super::*;

    #[test]
    fn what_is_written_is_what_bson_reads() {
        let id = ObjectId::from_bytes([7; 12]);
        let mut bytes = vec![9];
        document(&mut bytes, |fields| {
            fields.object_id("_id", id);
            fields.string("s", "ü\0\n");
            fields.double("d", -0.5);
            fields.boolean("b", true);
            fields.date("t", -1);
            fields.null("n");
            fields.int32("i", i32::MIN);
            fields.int64("l", i64::MAX);
            fields.document("o", |fields| fields.document("p", |_| ()));
            fields.array("a", |elements| {
                for number in 0..11 {
                    elements.document(|fields| fields.int32("x", number));
                }
                elements.string("");
            });
        });
        let mut array: Vec<Bson> = (0..11).map(|number| doc! { "x": number }.into()).collect();
        array.push("".into());
        let expected = doc! {
            "_id": id, "s": "ü\0\n", "d": -0.5, "b": true, "t": DateTime::from_millis(-1), "n": Bson::Null,
            "i": i32::MIN, "l": i64::MAX, "o": { "p": {} }, "a": array,
        };
        assert_eq!(Document::from_reader(&bytes[1..]).unwrap(), expected);
        assert_eq!(bytes[1..], expected.to_vec().unwrap());
    }
}
