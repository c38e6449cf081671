//! A document becomes rows, with this crate alone: no server, no tokio.
//!
//! ```console
//! $ cargo run -p gizer-flatten --example rows
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use bson::doc;
use gizer_flatten::{Flattener, Row, RowSink};
use gizer_schema::Layout;
use gizer_schema::infer::Inference;
use gizer_schema::raw::RawDoc;

/// Prints rows as they come.
struct Print<'l>(&'l Layout);

impl RowSink for Print<'_> {
    fn begin_document(&mut self) {}

    fn row(&mut self, row: Row<'_>) {
        let table = self.0.table(row.table);
        let cells = table.columns.iter().zip(row.cells).map(|(column, cell)| format!("{} = {cell:?}", column.name));
        let mut extra = Vec::new();
        if !row.extra.is_empty() {
            row.extra.write_to(&mut extra);
        }
        let cells: Vec<String> = cells.collect();
        println!("{}: {} {}", table.name, cells.join(", "), String::from_utf8_lossy(&extra));
    }

    fn discard_document(&mut self) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let document = doc! {
        "_id": 1, "title": "Hello", "author": { "name": "Ann" },
        "comments": [{ "body": "first!", "tags": ["x", "y"] }, { "body": "second", "tags": [] }],
    };
    let bytes = document.to_vec()?;
    let document = RawDoc::new(&bytes)?;

    let mut inference = Inference::default();
    inference.observe(document)?;
    let (schema, _) = inference.schema("posts");
    let layout = Layout::new(&schema)?;

    let mut flattener = Flattener::new(&layout);
    flattener.flatten([document], &mut Print(&layout), |_, rejection| println!("rejected: {}", rejection.reason));
    let tally = flattener.take_tally();
    println!("{} document read, {} rejected", tally.read, tally.rejected);
    Ok(())
}
