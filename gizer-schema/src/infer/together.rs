//! What was seen at one path, or at several that are taken as one: the values of a map.
//!
//! Nothing is copied or added up but the counts of one level, so that the work is linear in what was seen, however deep it is.

use std::collections::BTreeMap;

use super::maps::Folded;
use super::names::{DistinctNames, FormCounts, NameForm};
use super::types_seen::TypesSeen;
use super::{DocumentSeen, MAX_FIELDS, ValueSeen};

/// Values that are taken as one.
#[derive(Default)]
pub(super) struct Values<'s> {
    pub(super) types: TypesSeen,
    /// The documents among them.
    pub(super) documents: Vec<&'s DocumentSeen>,
    /// The elements of the arrays among them.
    elements: Vec<&'s ValueSeen>,
}

impl<'s> Values<'s> {
    pub(super) fn of<'v>(values: impl IntoIterator<Item = &'v &'s ValueSeen>) -> Values<'s>
    where
        's: 'v,
    {
        let mut together = Values::default();
        for value in values {
            #[cfg(test)]
            tests::LOOKS.set(tests::LOOKS.get() + 1);
            together.types.merge(&value.types);
            together.documents.extend(value.document.as_deref());
            together.elements.extend(value.elements.as_deref());
        }
        together
    }

    /// The elements of the arrays; `None` if there was none.
    pub(super) fn elements(&self) -> Option<Values<'s>> {
        (!self.elements.is_empty()).then(|| Values::of(&self.elements))
    }

    /// The most bytes of one of the documents in a row, with the documents in it; and those of its own fields alone.
    pub(super) fn row_bytes(&self) -> (usize, usize) {
        let bytes = |of: fn(&DocumentSeen) -> usize| self.documents.iter().map(|document| of(document)).max();
        (bytes(|of| of.row_bytes).unwrap_or_default(), bytes(|of| of.own_bytes).unwrap_or_default())
    }
}

/// The fields of documents that are taken as one.
#[derive(Default)]
pub(super) struct Names<'s> {
    /// What is known by its name.
    pub(super) known: BTreeMap<&'s str, Vec<&'s ValueSeen>>,
    /// What is not.
    folded: Vec<&'s Folded>,
    /// Documents with at least one field.
    pub(super) filled: u64,
    /// Values under names that came after too many others.
    pub(super) beyond_limit: u64,
    /// Values under names that are not UTF-8, which a schema cannot have.
    pub(super) not_utf8: u64,
}

impl<'s> Names<'s> {
    pub(super) fn of(documents: &[&'s DocumentSeen]) -> Names<'s> {
        let mut names = Names::default();
        for document in documents {
            names.filled += document.filled;
            names.beyond_limit += document.beyond_limit;
            names.not_utf8 += document.not_utf8;
            names.folded.extend(document.folded.as_deref());
            for (name, value) in document.names.names().zip(&document.values) {
                // Nothing but UTF-8 is let in while documents are observed.
                names.known.entry(std::str::from_utf8(name).unwrap_or_default()).or_default().push(value);
            }
        }
        names
    }

    /// How many names there are; an estimate where they are not known one by one.
    pub(super) fn count(&self) -> u64 {
        if self.folded.is_empty() {
            return self.known.len() as u64;
        }
        let mut names = DistinctNames::default();
        self.known.keys().for_each(|name| names.add(name.as_bytes()));
        self.folded.iter().for_each(|folded| names.merge(&folded.names));
        names.estimate()
    }

    /// Whether there are more names than can be fields.
    pub(super) fn are_without_end(&self) -> bool {
        !self.folded.is_empty() || self.known.len() > MAX_FIELDS
    }

    /// Values under all of the names.
    pub(super) fn entries(&self) -> u64 {
        self.known_entries() + self.folded_entries()
    }

    /// Values under names that are known.
    pub(super) fn known_entries(&self) -> u64 {
        self.known.values().flatten().map(|value| value.types.all()).sum()
    }

    /// Values under names that are not.
    pub(super) fn folded_entries(&self) -> u64 {
        self.folded.iter().map(|folded| folded.values.types.all()).sum()
    }

    pub(super) fn forms(&self) -> FormCounts {
        let mut forms = FormCounts::default();
        for (name, values) in &self.known {
            let form = NameForm::of(name);
            values.iter().for_each(|value| forms.add(form, value.types.all()));
        }
        self.folded.iter().for_each(|folded| forms.merge(folded.forms));
        forms
    }

    /// The values under all of the names, as one.
    pub(super) fn values(&self) -> Values<'s> {
        let folded: Vec<&'s ValueSeen> = self.folded.iter().map(|folded| &folded.values).collect();
        Values::of(self.known.values().flatten().chain(&folded))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bson::{Document, doc};

    use super::super::Inference;
    use crate::model::{Field, Node};
    use crate::raw::RawDoc;

    thread_local! {
        /// How often a value was looked at.
        pub(super) static LOOKS: Cell<u64> = const { Cell::new(0) };
    }

    /// Documents in which ids have documents of ids, so many levels deep, and how often each value is looked at.
    fn looks(documents: u64, levels: u64) -> u64 {
        let mut inference = Inference::default();
        for i in 0..documents {
            let id = |level: u64| format!("{:024x}", (i * levels + level).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let inside = (0..levels).fold(doc! {"n": 1}, |inside, level| doc! {id(level): inside});
            let document: Document = doc! {"_id": i as i64, "m": inside};
            inference.observe(RawDoc::new(&document.to_vec().unwrap()).unwrap()).unwrap();
        }
        LOOKS.set(0);
        let (schema, _) = inference.schema("c");
        let mut levels_of_maps = 0;
        let mut field: &Field = &schema.fields["m"];
        while let Node::Map(inside) = &field.node {
            (field, levels_of_maps) = (inside, levels_of_maps + 1);
        }
        assert!(levels_of_maps > 0);
        LOOKS.get() / (documents * levels)
    }

    /// MongoDB allows 100 levels. Each value is looked at when its map is judged, when the map around it is, and so on: a few times.
    #[test]
    fn how_often_a_value_is_looked_at_does_not_grow_with_the_depth() {
        let (shallow, deep) = (looks(2_000, 5), looks(100, 98));
        assert!(shallow > 0 && deep <= shallow, "{shallow} {deep}");
    }
}
