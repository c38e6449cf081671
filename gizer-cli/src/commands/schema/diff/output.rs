//! What `gizer schema diff` prints.

use clap::builder::styling::{AnsiColor, Style};
use gizer_schema::diff::{
    ColumnChange, ColumnShape, PathChange, PathChangeKind, PathShape, SchemaDiff, TableChange, TableShape,
};
use serde_json::{Value, json};

use super::super::names::{padded, printable, width};
use super::{Compared, DiffOutcome, dialect};
use crate::ui::report::{self, counted};

/// What a line tells of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Added,
    Removed,
    Changed,
}

impl Sign {
    fn text(self) -> char {
        match self {
            Sign::Added => '+',
            Sign::Removed => '-',
            Sign::Changed => '~',
        }
    }

    fn style(self) -> Style {
        let colour = match self {
            Sign::Added => AnsiColor::Green,
            Sign::Removed => AnsiColor::Red,
            Sign::Changed => AnsiColor::Yellow,
        };
        colour.on_default()
    }
}

/// A line: how far in it stands, what it is of, and what is said of it.
struct DiffLine(usize, Sign, String, String);

/// Names wider than this do not push what is said of others to the right.
const MAX_NAME_WIDTH: usize = 40;

pub(super) fn as_text(all: &[Compared], live: bool, colours: bool) -> String {
    let mut text = String::new();
    for each in all {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&one(each, live, colours));
    }
    text
}

fn one(compared: &Compared, live: bool, colours: bool) -> String {
    let name = printable(&compared.collection);
    let title = if colours { styled(&name, Style::new().bold()) } else { name.clone() };
    if !compared.differs() {
        let what = if live { "the tables are up to date with the schema file" } else { "nothing differs" };
        let note = match compared.outcome {
            DiffOutcome::Live { loaded: false, .. } => {
                "; gizer did not load them: run `gizer load` before `gizer sync`"
            }
            _ => "",
        };
        return format!("{title}: {what}{note}\n");
    }
    let mut text = format!("{title}{}\n", headline(compared));
    if let DiffOutcome::Files(diff) | DiffOutcome::Grown(diff) = &compared.outcome {
        section("paths", diff.paths.iter().map(path_line).collect(), colours, &mut text);
    }
    section("tables", compared.tables().iter().flat_map(table_lines).collect(), colours, &mut text);
    text.push_str(&format!("\n  {}\n", meaning(compared, live)));
    text
}

fn headline(compared: &Compared) -> String {
    match &compared.outcome {
        DiffOutcome::Added(_) => ": has a schema file now".to_owned(),
        DiffOutcome::Removed(_) => ": has no schema file any more".to_owned(),
        DiffOutcome::Live { .. } => ": from the tables that are there to those of the schema file".to_owned(),
        DiffOutcome::Files(diff) | DiffOutcome::Grown(diff) => {
            let collection = diff.collection.as_ref().map(|(from, _)| format!(", was {}", printable(from)));
            let dialects = diff.dialect.map(|(from, to)| format!(": dialect {} → {}", dialect(from), dialect(to)));
            format!("{}{}", collection.unwrap_or_default(), dialects.unwrap_or_default())
        }
    }
}

fn section(title: &str, lines: Vec<DiffLine>, colours: bool, text: &mut String) {
    if lines.is_empty() {
        return;
    }
    let place = |line: &DiffLine| 2 * line.0 + width(&line.2);
    let column = lines.iter().map(place).filter(|width| *width <= MAX_NAME_WIDTH).max().unwrap_or_default();
    text.push_str(&format!("\n  {title}\n"));
    for DiffLine(depth, sign, name, said) in lines {
        let name = padded(&name, column.saturating_sub(2 * depth));
        let line = format!("{}{} {name}  {said}", "  ".repeat(depth), sign.text());
        let line = line.trim_end();
        let line = if colours { styled(line, sign.style()) } else { line.to_owned() };
        text.push_str(&format!("    {line}\n"));
    }
}

fn styled(text: &str, style: Style) -> String {
    format!("{}{text}{}", style.render(), style.render_reset())
}

fn path_line(change: &PathChange) -> DiffLine {
    let (sign, said) = match &change.kind {
        PathChangeKind::Added(said) => (Sign::Added, said.to_string()),
        PathChangeKind::Removed(said) => (Sign::Removed, said.to_string()),
        PathChangeKind::Changed(from, to) => (Sign::Changed, format!("{from} → {to}")),
        PathChangeKind::Named(from, to) => {
            let name = |name: &Option<String>| name.as_deref().map_or("by its path".to_owned(), printable);
            (Sign::Changed, format!("named {} → {}", name(from), name(to)))
        }
    };
    DiffLine(0, sign, printable(&change.path.to_string()), said)
}

fn table_lines(change: &TableChange) -> Vec<DiffLine> {
    match change {
        TableChange::Made(table) => {
            let of = table.path.as_deref().filter(|path| !path.is_empty());
            let of = of.map(|path| format!(", for {}", printable(path))).unwrap_or_default();
            let head = DiffLine(0, Sign::Added, printable(&table.name), format!("is made{of}"));
            let columns = table.columns.iter().map(|column| column_line(1, Sign::Added, column));
            std::iter::once(head).chain(columns).collect()
        }
        TableChange::Dropped(table) => {
            let columns = u64::try_from(table.columns.len()).unwrap_or_default();
            let said = format!("is dropped, with its {}", counted(columns, "column", "columns"));
            vec![DiffLine(0, Sign::Removed, printable(&table.name), said)]
        }
        TableChange::Changed { old, new, columns, key } => {
            let mut lines = vec![DiffLine(0, Sign::Changed, printable(&new.name), changed(old, new, *key))];
            lines.extend(columns.iter().map(|column| match column {
                ColumnChange::Added(column) => column_line(1, Sign::Added, column),
                ColumnChange::Removed(column) => column_line(1, Sign::Removed, column),
                ColumnChange::Changed(old, new) => {
                    DiffLine(1, Sign::Changed, printable(&new.name), changed_column(old, new))
                }
            }));
            lines
        }
    }
}

fn column_line(depth: usize, sign: Sign, column: &ColumnShape) -> DiffLine {
    DiffLine(depth, sign, printable(&column.name), column.sql_type.clone())
}

fn changed(old: &TableShape, new: &TableShape, key: bool) -> String {
    let mut said = Vec::new();
    if old.name != new.name {
        said.push(format!("was {}", printable(&old.name)));
    }
    if let (Some(from), Some(to)) = (&old.path, &new.path)
        && from != to
    {
        let named = |path: &str| if path.is_empty() { "the documents".to_owned() } else { printable(path) };
        said.push(format!("of {}, was of {}", named(to), named(from)));
    }
    if key {
        said.push(match new.key.as_slice() {
            [] => "no primary key any more".to_owned(),
            columns => format!("primary key ({})", printable(&columns.join(", "))),
        });
    }
    said.join("; ")
}

fn changed_column(old: &ColumnShape, new: &ColumnShape) -> String {
    let mut said = Vec::new();
    if old.name != new.name {
        said.push(format!("was {}", printable(&old.name)));
    }
    if old.sql_type != new.sql_type {
        said.push(format!("{} → {}", old.sql_type, new.sql_type));
    } else if let (Some(from), Some(to)) = (&old.schema_type, &new.schema_type)
        && from != to
    {
        said.push(format!("{}, holds {to}, was {from}", new.sql_type));
    }
    if let (Some(from), Some(to)) = (&old.holds, &new.holds)
        && from != to
    {
        said.push(format!("of {}, was of {}", printable(to), printable(from)));
    }
    said.join("; ")
}

/// What follows.
fn meaning(compared: &Compared, live: bool) -> String {
    let count = |wanted: fn(&TableChange) -> bool| -> u64 {
        compared.tables().iter().filter(|change| wanted(change)).count().try_into().unwrap_or_default()
    };
    let counts = [
        (count(|change| matches!(change, TableChange::Made(_))), "made"),
        (count(|change| matches!(change, TableChange::Dropped(_))), "dropped"),
        (count(|change| matches!(change, TableChange::Changed { .. })), "changed"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let mut said: Vec<String> =
        counts.map(|(count, what)| format!("{} {what}", counted(*count, "table", "tables"))).collect();
    if said.is_empty() {
        said.push(same_tables(&compared.outcome).to_owned());
    }
    let load = if compared.load_due() {
        let ago = if live { "" } else { " where the old one is loaded" };
        format!("a load is due{ago}: {}", report::command("load", [&compared.collection], &[]))
    } else if matches!(compared.outcome, DiffOutcome::Grown(_)) {
        "no load is due: the tables have grown in place".to_owned()
    } else if matches!(compared.outcome, DiffOutcome::Removed(_)) {
        "gizer leaves its tables alone".to_owned()
    } else {
        "no load is due: the rows stay as they are".to_owned()
    };
    format!("{}; {load}", said.join(", "))
}

fn same_tables(outcome: &DiffOutcome) -> &'static str {
    match outcome {
        DiffOutcome::Live { .. } => "the tables have these columns, but were loaded by another schema",
        DiffOutcome::Files(diff) if diff.load_due() => "the same tables, with other values in them",
        _ => "the same tables",
    }
}

pub(super) fn as_json(all: &[Compared]) -> Value {
    let differs = all.iter().any(Compared::differs);
    let load_due = all.iter().any(Compared::load_due);
    json!({"differs": differs, "load_due": load_due, "collections": all.iter().map(one_json).collect::<Vec<Value>>()})
}

fn one_json(compared: &Compared) -> Value {
    let change = match &compared.outcome {
        DiffOutcome::Added(_) => "added",
        DiffOutcome::Removed(_) => "removed",
        _ if compared.differs() => "changed",
        _ => "none",
    };
    let mut value = json!({
        "name": compared.collection,
        "change": change,
        "load_due": compared.load_due(),
        "tables": compared.tables().iter().map(table_json).collect::<Vec<Value>>(),
    });
    match &compared.outcome {
        DiffOutcome::Files(SchemaDiff { collection, dialect: dialects, paths, .. })
        | DiffOutcome::Grown(SchemaDiff { collection, dialect: dialects, paths, .. }) => {
            value["was"] = json!(collection.as_ref().map(|(from, _)| from));
            value["dialect"] = json!(dialects.map(|(from, to)| json!({"from": dialect(from), "to": dialect(to)})));
            value["paths"] = paths.iter().map(path_json).collect::<Vec<Value>>().into();
        }
        DiffOutcome::Live { loaded, by_another, .. } => {
            value["loaded"] = json!(loaded);
            value["loaded_by_another_schema"] = json!(by_another);
        }
        DiffOutcome::Added(_) | DiffOutcome::Removed(_) => {}
    }
    value
}

fn path_json(change: &PathChange) -> Value {
    let said =
        |said: &PathShape| json!({"policy": said.policy.name(), "type": said.scalar.map(|scalar| scalar.name())});
    let path = change.path.to_string();
    match &change.kind {
        PathChangeKind::Added(to) => json!({"path": path, "change": "added", "to": said(to)}),
        PathChangeKind::Removed(from) => json!({"path": path, "change": "removed", "from": said(from)}),
        PathChangeKind::Changed(from, to) => {
            let what = if from.policy == to.policy { "type" } else { "policy" };
            json!({"path": path, "change": what, "from": said(from), "to": said(to)})
        }
        PathChangeKind::Named(from, to) => json!({"path": path, "change": "name", "from": from, "to": to}),
    }
}

fn table_json(change: &TableChange) -> Value {
    match change {
        TableChange::Made(table) => json!({"change": "made", "to": shape_json(table)}),
        TableChange::Dropped(table) => json!({"change": "dropped", "from": shape_json(table)}),
        TableChange::Changed { old, new, columns, key } => json!({
            "change": "changed", "name": new.name, "was": old.name, "path": new.path,
            "primary_key": if *key { json!({"from": old.key, "to": new.key}) } else { Value::Null },
            "columns": columns.iter().map(column_change_json).collect::<Vec<Value>>(),
        }),
    }
}

fn shape_json(table: &TableShape) -> Value {
    let columns: Vec<Value> = table.columns.iter().map(column_json).collect();
    json!({"name": table.name, "path": table.path, "primary_key": table.key, "columns": columns})
}

fn column_change_json(change: &ColumnChange) -> Value {
    match change {
        ColumnChange::Added(to) => json!({"change": "added", "to": column_json(to)}),
        ColumnChange::Removed(from) => json!({"change": "removed", "from": column_json(from)}),
        ColumnChange::Changed(from, to) => {
            json!({"change": "changed", "from": column_json(from), "to": column_json(to)})
        }
    }
}

fn column_json(column: &ColumnShape) -> Value {
    json!({"name": column.name, "type": column.sql_type, "schema_type": column.schema_type, "holds": column.holds})
}
