//! Maps: documents whose field names are data. Each entry is a row.
//!
//! The rows come in the order of their keys' bytes, as everything that compares them expects: whoever has no maps pays nothing for
//! that. What cannot be a key keeps its entry out of the table: the whole map (a name twice, a name that is not UTF-8), or
//! the entry (a key with which the row's, or that of a row in an array below, would outgrow an index) goes into `_extra` of the
//! row that the map is in.

use gizer_schema::PathId;
use gizer_schema::raw::{Element, Malformed, Value};

use super::{FlattenPass, Keeping, RowShape};
use crate::extra::ExtraValue;
use crate::program::{MapAction, ValueOrigin};
use crate::root_key::fits_index;
use crate::row::{Cell, RowSink};
use crate::tally::Unfit;
use crate::text::Text;

impl<'b, S: RowSink> FlattenPass<'_, 'b, S> {
    /// The rows of a map's table.
    pub(super) fn map(
        &mut self,
        parent: usize,
        map: MapAction,
        path: PathId,
        origin: ValueOrigin,
        element: &Element<'b>,
    ) -> Result<(), Malformed> {
        let MapAction { table, entries: entry_path, value } = map;
        let document = match element.value()? {
            Value::Document(document) if !document.is_empty() => document,
            // An element's row says by itself that there is a document.
            Value::Document(_) if matches!(origin, ValueOrigin::Element) => return Ok(()),
            Value::Document(_) | Value::Null => {
                self.keep(parent, origin, element);
                return Ok(());
            }
            _ => {
                self.stray(parent, origin, path, Unfit::Kind(element.kind), element);
                return Ok(());
            }
        };
        let mut entries = document.elements().collect::<Result<Vec<_>, _>>()?;
        // Of a name that comes twice the first one stays the first.
        entries.sort_by(|a, b| a.name.cmp(b.name));
        self.enter(parent, table);
        let mut keep_whole = false;
        for (i, entry) in entries.iter().enumerate() {
            let key = match Text::new(entry.name) {
                Ok(_) if i > 0 && entries[i - 1].name == entry.name => Err(Unfit::Duplicate),
                Ok(key) => Ok(key),
                Err(_) => Err(Unfit::KeyNotUtf8),
            };
            let Ok(key) = key.map_err(|unfit| self.counts.count(path, unfit)) else {
                keep_whole = true;
                continue;
            };
            if !self.begin_entry(table, key) {
                self.counts.count(path, Unfit::KeyTooLong);
                if self.keeping != Keeping::Nothing {
                    let pointer = self.program.pointer_of(origin);
                    self.extras[parent].keep_unknown(pointer, key.as_str(), *entry);
                }
                continue;
            }
            self.place(table, value, entry_path, ValueOrigin::Element, entry)?;
            self.emit(table);
        }
        if keep_whole && self.keeping != Keeping::Nothing {
            let pointer = self.program.pointer_of(origin);
            self.extras[parent].keep(pointer, ExtraValue::Whole(document));
        }
        Ok(())
    }
    /// Begins the row of an entry; whether its key, and those of rows in arrays below, fit into an index.
    fn begin_entry(&mut self, table: usize, key: Text<'b>) -> bool {
        self.begin_row(table);
        if let Some(own) = self.rows[table].last_mut() {
            *own = Cell::Text(key);
        }
        let RowShape { columns, positions, arrays_below, .. } = self.tables[table];
        fits_index(&self.key, &self.rows[table][columns - positions..], arrays_below)
    }
}
