//! `_extra`: everything of a row without a column or not fitting it.
//!
//! The column is a JSON object. Its keys are JSON Pointers (RFC 6901) relative to the row, `""` being the row's element
//! itself; its values are canonical Extended JSON (see [`RawJson`]).

use std::ops::Range;

use gizer_schema::raw::{Element, RawDoc};

use crate::extjson::{RawJson, write_bson_document, write_text};

/// A row's `_extra`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Extra<'r> {
    pointers: &'r str,
    entries: &'r [ExtraEntry<'r>],
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExtraEntry<'b> {
    pointer: Range<usize>,
    value: ExtraValue<'b>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ExtraValue<'b> {
    Element(Element<'b>),
    /// A value whose fields must keep their order, which `jsonb` loses.
    Ordered(Element<'b>),
    /// A whole document with a duplicate field, or a name that is not UTF-8.
    Whole(RawDoc<'b>),
}

impl Extra<'_> {
    /// Whether it is empty: the column is NULL.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends the column's JSON text; `{}` if empty.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (i, entry) in self.entries.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_text(&self.pointers[entry.pointer.clone()], out);
            out.push(b':');
            match entry.value {
                ExtraValue::Element(element) => RawJson::new(element).write_to(out),
                ExtraValue::Ordered(element) => RawJson::new(element).write_bson(out),
                ExtraValue::Whole(document) => write_bson_document(document, out),
            }
        }
        out.push(b'}');
    }
}

/// Collects `_extra` of the current row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gathered<'b> {
    pointers: String,
    entries: Vec<ExtraEntry<'b>>,
}

impl<'b> Gathered<'b> {
    pub(crate) fn clear(&mut self) {
        self.pointers.clear();
        self.entries.clear();
    }

    pub(crate) fn extra(&self) -> Extra<'_> {
        Extra { pointers: &self.pointers, entries: &self.entries }
    }

    /// Keeps a value under its pointer.
    pub(crate) fn keep(&mut self, pointer: &str, value: ExtraValue<'b>) {
        let start = self.pointers.len();
        self.pointers.push_str(pointer);
        self.push(start, value);
    }

    /// Keeps a value of an unknown field of the document at `prefix`.
    pub(crate) fn keep_unknown(&mut self, prefix: &str, name: &str, element: Element<'b>) {
        let start = self.pointers.len();
        self.pointers.push_str(prefix);
        push_escaped(&mut self.pointers, name);
        self.push(start, ExtraValue::Element(element));
    }

    fn push(&mut self, start: usize, value: ExtraValue<'b>) {
        self.entries.push(ExtraEntry { pointer: start..self.pointers.len(), value });
    }
}

/// The JSON Pointer of a field, by its names relative to the row; `""` is the row's element itself.
pub fn pointer(names: &[String]) -> String {
    let mut pointer = String::new();
    names.iter().for_each(|name| push_escaped(&mut pointer, name));
    pointer
}

/// Appends `/name`, escaped as RFC 6901 says.
pub(crate) fn push_escaped(pointer: &mut String, name: &str) {
    pointer.push('/');
    for c in name.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
}
