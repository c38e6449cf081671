//! The diagram as a page of its own: no network, no other file, and nothing in it but what stands here.
//!
//! Every name is escaped, and a content security policy lets nothing run and nothing be fetched but the style and the
//! script of this page, by their hashes. Without the script the page is whole; with it, a field and its columns light up
//! together.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gizer_schema::{Column, ColumnId, ColumnSource, Dialect, TableId};
use sha2::{Digest, Sha256};

use super::tree::{Diagram, FieldRow, RowKind, sql_type};
use crate::ui::report::counted;

const STYLE: &str = include_str!("diagram.css");
const SCRIPT: &str = include_str!("diagram.js");

/// How many colours the style has for tables.
const COLOURS: usize = 8;

/// Draws all collections on one page.
pub(super) fn draw(diagrams: &[Diagram<'_>]) -> String {
    let names: Vec<String> = diagrams.iter().map(|diagram| escaped(&diagram.layout.collection)).collect();
    let title = match names.as_slice() {
        [one] => one.clone(),
        many => counted(many.len() as u64, "collection", "collections"),
    };
    let contents = if names.len() < 2 { String::new() } else { contents(&names) };
    // Of one collection the page has the name already.
    let named = names.len() != 1;
    let sections: String = diagrams.iter().enumerate().map(|(at, diagram)| section(at, diagram, named)).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src '{}'; script-src '{}'; \
         base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title} – documents and tables</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <header class=\"page\"><h1>{title}</h1><p>Documents in MongoDB, and the PostgreSQL tables that they become</p>\
         {contents}</header>\n<main>\n{sections}</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        hash(STYLE),
        hash(SCRIPT)
    )
}

fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

/// Text and values of attributes: nothing in it is markup. Characters that HTML does not allow are shown as such.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in super::super::names::printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

fn contents(names: &[String]) -> String {
    let link = |(at, name): (usize, &String)| format!("<a href=\"#c{at}\">{name}</a>");
    format!("<nav>{}</nav>", names.iter().enumerate().map(link).collect::<String>())
}

fn section(at: usize, diagram: &Diagram<'_>, named: bool) -> String {
    let layout = diagram.layout;
    let columns: usize = layout.tables.iter().map(|table| table.columns.len()).sum();
    let dialect = match layout.dialect {
        Dialect::Classic => "classic dialect",
        Dialect::Gizer { exact_types: false } => "gizer’s dialect",
        Dialect::Gizer { exact_types: true } => "gizer’s dialect, exact types",
    };
    let facts = [
        counted(layout.tables.len() as u64, "table", "tables"),
        counted(columns as u64, "column", "columns"),
        format!("key {}", layout.key.ty.schema_name()),
        dialect.to_owned(),
    ];
    let facts: String = facts.iter().map(|fact| format!("<li>{fact}</li>")).collect();
    let tables: String = (0..layout.tables.len()).map(|table| table_card(at, diagram, TableId(table))).collect();
    let name = if named { format!("<h2>{}</h2>", escaped(&layout.collection)) } else { String::new() };
    format!(
        "<section id=\"c{at}\">\n<div class=\"title\">{name}<ul>{facts}</ul></div>\n<div class=\"pair\">\n\
         <div class=\"tree\"><h3>Document</h3>\n{}</div>\n<div class=\"tables\"><h3>Tables</h3>\n{tables}</div>\n</div>\n\
         </section>\n",
        tree(at, diagram)
    )
}

fn colour(table: TableId) -> String {
    format!("k{}", table.0 % COLOURS)
}

fn field_id(collection: usize, row: usize) -> String {
    format!("c{collection}f{row}")
}

fn column_id(collection: usize, table: TableId, column: ColumnId) -> String {
    format!("c{collection}t{}k{}", table.0, column.0)
}

/// Everything that lights up with a field: its columns; with the root's key that of every table; with an array its table.
fn lit_with(at: usize, diagram: &Diagram<'_>, row: &FieldRow<'_>) -> Vec<String> {
    let own = row.columns.iter().map(|column| column_id(at, row.table, *column));
    let mut all: Vec<String> = own.collect();
    let root = diagram.layout.table(TableId(0));
    if row.table == TableId(0) && row.columns.contains(&root.key) {
        for (i, table) in diagram.layout.tables.iter().enumerate().skip(1) {
            all.push(column_id(at, TableId(i), table.key));
        }
    }
    if row.kind.has_table() {
        all.push(format!("c{at}t{}", row.table.0));
    }
    all
}

fn tree(at: usize, diagram: &Diagram<'_>) -> String {
    let mut html = String::from("<ul class=\"fields\">\n");
    let mut level = 1;
    for (i, row) in diagram.fields.iter().enumerate() {
        while level > row.last.len() {
            html.push_str("</ul></li>\n");
            level -= 1;
        }
        html.push_str(&format!("<li class=\"{}\">{}", colour(row.table), field(at, diagram, i, row)));
        let below = diagram.fields.get(i + 1).is_some_and(|next| next.last.len() > row.last.len());
        if below {
            html.push_str("<ul>\n");
            level += 1;
        } else {
            html.push_str("</li>\n");
        }
    }
    while level > 1 {
        html.push_str("</ul></li>\n");
        level -= 1;
    }
    html.push_str("</ul>\n");
    html
}

fn field(at: usize, diagram: &Diagram<'_>, i: usize, row: &FieldRow<'_>) -> String {
    let lit = lit_with(at, diagram, row);
    let says = escaped(&diagram.says(row));
    let (class, badge) = match row.kind {
        RowKind::Value => ("value", format!("<span class=\"type\">{says}</span>")),
        RowKind::Document => ("document", "<span class=\"mark\">{ }</span>".to_owned()),
        RowKind::Ignored => ("ignored", "<span class=\"badge\">not copied</span>".to_owned()),
        RowKind::Array | RowKind::Map => {
            let mark = if row.kind == RowKind::Map { "{ * }" } else { "[ ]" };
            let mark = format!("<span class=\"mark\">{mark}</span>");
            let says = format!("<span class=\"type\">{says}</span>");
            let badge = match (row.name == row.kind.mark(), row.columns.is_empty()) {
                (_, true) => mark,
                (true, false) => says,
                (false, false) => mark + &says,
            };
            ("array", badge)
        }
    };
    // An array leads to its table, a value to its column.
    let leads_to = match row.kind {
        RowKind::Array | RowKind::Map => lit.last(),
        _ => lit.first(),
    };
    let target = leads_to.map(|id| format!(" href=\"#{id}\"")).unwrap_or_default();
    let lit = if lit.is_empty() { String::new() } else { format!(" data-lit=\"{}\"", lit.join(" ")) };
    format!(
        "<a id=\"{}\" class=\"field {class}\"{target}{lit} title=\"{}\"><span class=\"name\">{}</span>{badge}</a>",
        field_id(at, i),
        escaped(&row.path),
        escaped(row.shown()),
    )
}

fn table_card(at: usize, diagram: &Diagram<'_>, id: TableId) -> String {
    let table = diagram.layout.table(id);
    let of = match &diagram.shapes[id.0].path {
        Some(path) if !path.is_empty() => {
            format!("<span class=\"of\">one row per element of <code>{}</code></span>", escaped(path))
        }
        _ => "<span class=\"of\">one row per document</span>".to_owned(),
    };
    let rows: String = table.columns.iter().enumerate().map(|(i, c)| column(at, diagram, id, ColumnId(i), c)).collect();
    format!(
        "<table id=\"c{at}t{}\" class=\"{}\"><caption><span class=\"name\">{}</span>{of}</caption>\n<tbody>\n{rows}\
         </tbody></table>\n",
        id.0,
        colour(id),
        escaped(&table.name)
    )
}

fn column(at: usize, diagram: &Diagram<'_>, table: TableId, id: ColumnId, column: &Column) -> String {
    let holds = escaped(diagram.holds(table, id));
    let row = diagram.fields.iter().position(|row| {
        let own = row.table == table && row.columns.contains(&id);
        let root = row.table == TableId(0) && row.columns.contains(&diagram.layout.tables[0].key);
        own || (root && column.source == ColumnSource::RootKey)
    });
    let (class, holds) = match column.source {
        ColumnSource::Field(_) => ("", format!("<code>{holds}</code>")),
        ColumnSource::RootKey => ("own", format!("<code>{holds}</code> of the document")),
        ColumnSource::Position(_) => {
            let path = holds.strip_prefix("position in ").unwrap_or(&holds);
            ("own", format!("position in <code>{path}</code>, from 1"))
        }
        ColumnSource::Extra => ("own", "what has no column, or does not fit it".to_owned()),
    };
    let key = if diagram.is_key(table, id) { "<span class=\"badge key\" title=\"of the key\">key</span>" } else { "" };
    let holds = match row {
        Some(row) => format!("<a href=\"#{}\">{holds}</a>", field_id(at, row)),
        None => holds,
    };
    let lit = row.map(|row| format!(" data-lit=\"{}\"", field_id(at, row))).unwrap_or_default();
    format!(
        "<tr id=\"{}\" class=\"{class}\"{lit}><th scope=\"row\">{}</th><td class=\"type\">{}</td><td>{key}</td><td \
         class=\"holds\">{holds}</td></tr>\n",
        column_id(at, table, id),
        escaped(&column.name),
        sql_type(column.ty),
    )
}
