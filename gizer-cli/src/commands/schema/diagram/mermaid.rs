//! The diagram for Mermaid: an `erDiagram` of the tables.
//!
//! Mermaid's grammar (`erDiagram.jison`) takes hardly more than letters and digits in names. So tables go by names of their
//! own, `t1`, with the real one as their label, and columns by what Mermaid takes of their names; a name of which
//! something was left out is in the comment next to it.

use std::collections::HashSet;

use gizer_schema::{ColumnId, ColumnSource, TableId};

use super::tree::{Diagram, sql_type};
use crate::ui::report::is_obeyed;

/// Draws all collections in one diagram.
pub(super) fn draw(diagrams: &[Diagram<'_>]) -> String {
    let mut text = String::from("erDiagram\n");
    let mut first = 0;
    for diagram in diagrams {
        for at in 0..diagram.layout.tables.len() {
            text.push_str(&entity(diagram, TableId(at), first));
        }
        for (at, table) in diagram.layout.tables.iter().enumerate() {
            let Some(parent) = table.parent else { continue };
            let path = diagram.shapes[at].path.as_deref().unwrap_or_default();
            text.push_str(&format!("    t{} ||--o{{ t{} : \"{}\"\n", first + parent.0, first + at, label(path)));
        }
        first += diagram.layout.tables.len();
    }
    text
}

fn entity(diagram: &Diagram<'_>, id: TableId, first: usize) -> String {
    let table = diagram.layout.table(id);
    let mut text = format!("    t{}[\"{}\"] {{\n", first + id.0, label(&table.name));
    let mut taken = HashSet::new();
    for (at, column) in table.columns.iter().enumerate() {
        let keys = match (diagram.is_key(id, ColumnId(at)), &column.source) {
            (true, ColumnSource::RootKey) => " PK, FK",
            (true, _) => " PK",
            _ => "",
        };
        let mut word = word(&column.name);
        while !taken.insert(word.clone()) {
            word.push('_');
        }
        let mut comment = diagram.holds(id, ColumnId(at)).to_owned();
        if word != column.name {
            comment = format!("{}: {comment}", column.name);
        }
        let ty = sql_type(column.ty);
        text.push_str(&format!("        {ty} {word}{keys} \"{}\"\n", label(&comment)));
    }
    text.push_str("    }\n");
    text
}

/// What an attribute of Mermaid can be called.
fn word(name: &str) -> String {
    let mut word: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if !word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        word.insert(0, '_');
    }
    word
}

/// Text between quotes. It leaves out what ends it, what Mermaid does not take or reads as a character's code (`#…;`),
/// and what a page might read as HTML.
fn label(text: &str) -> String {
    let taken = |c: char| !matches!(c, '"' | '%' | '\\' | '#' | ';' | '<' | '>' | '&' | '`') && !is_obeyed(c);
    let label: String = text.chars().map(|c| if taken(c) { c } else { '_' }).collect();
    if label.is_empty() { "_".to_owned() } else { label }
}
