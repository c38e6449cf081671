//! The diagram for terminals: the tree to the left, the tables in each other to the right.

use gizer_schema::{ColumnId, ColumnSource, TableId};

use super::super::names::{padded, printable, width};
use super::tree::{Diagram, FieldRow, RowKind, columns_of, sql_type};

/// Fields and columns wider than this do not push the others to the right.
const MAX_NAME_WIDTH: usize = 44;

/// A line: a piece of the tree, and what is next to it.
struct DiagramLine {
    left: String,
    /// Whether the field of this line leads to what is next to it.
    leads: bool,
    /// Bars of the tables around, and the name of a column or table.
    right: String,
    /// The column's type, and what else there is to say of it.
    ty: String,
    notes: String,
}

/// Draws collections, one below the other.
pub(super) fn draw(diagrams: &[Diagram<'_>]) -> String {
    diagrams.iter().map(one).collect::<Vec<String>>().join("\n")
}

fn one(diagram: &Diagram<'_>) -> String {
    let mut drawing = Drawing { diagram, lines: Vec::new(), open: Vec::new() };
    drawing.tables();
    let fitting =
        |widths: Vec<usize>| widths.into_iter().filter(|width| *width <= MAX_NAME_WIDTH).max().unwrap_or_default();
    let left = fitting(drawing.lines.iter().map(|line| width(&line.left)).collect());
    let with_type = drawing.lines.iter().filter(|line| !line.ty.is_empty());
    let right = fitting(with_type.clone().map(|line| width(&line.right)).collect());
    let types = with_type.filter(|line| !line.notes.is_empty()).map(|line| width(&line.ty)).max().unwrap_or_default();
    let mut text = String::new();
    for line in &drawing.lines {
        let gap = (left + 4).saturating_sub(width(&line.left) + 1).max(3);
        let lead = if line.leads { format!("{}▸", "┄".repeat(gap - 2)) } else { " ".repeat(gap - 1) };
        let right = if line.ty.is_empty() { line.right.clone() } else { padded(&line.right, right) };
        let ty = if line.notes.is_empty() { line.ty.clone() } else { padded(&line.ty, types) };
        let full = format!("{} {lead} {right}  {ty}  {}", line.left, line.notes);
        text.push_str(full.trim_end());
        text.push('\n');
    }
    text
}

struct Drawing<'d, 'l> {
    diagram: &'d Diagram<'l>,
    lines: Vec<DiagramLine>,
    /// Tables whose rows are being drawn, with the level of their array in the tree.
    open: Vec<(TableId, usize)>,
}

impl Drawing<'_, '_> {
    fn tables(&mut self) {
        let layout = self.diagram.layout;
        self.open_table(printable(&layout.collection), TableId(0), 0);
        for (at, row) in self.diagram.fields.iter().enumerate() {
            self.close_tables(row.last.len(), &row.last);
            self.field(row);
            let below = self.diagram.fields.get(at + 1).is_some_and(|next| next.last.len() > row.last.len());
            if row.kind.has_table() {
                let tree = tree(&row.last, below);
                self.own_columns(&tree, row.table);
                for column in &row.columns {
                    self.column(tree.clone(), false, row.table, *column);
                }
            }
        }
        self.close_tables(1, &[]);
        self.close_table(String::new());
    }

    fn field(&mut self, row: &FieldRow<'_>) {
        let (own, above) = row.last.split_last().unwrap_or((&true, &[]));
        let branch = if *own { "└─ " } else { "├─ " };
        let mark = row.kind.mark();
        let marks = if mark.is_empty() || row.name == mark { String::new() } else { format!(" {mark}") };
        let says = self.diagram.says(row);
        let name = format!("{}{branch}{}{marks}", tree(above, false), printable(row.shown()));
        let name = if says.is_empty() { name } else { format!("{name}  {says}") };
        match row.kind {
            RowKind::Array | RowKind::Map => self.open_table(name, row.table, row.last.len()),
            RowKind::Value => {
                for (i, column) in row.columns.iter().enumerate() {
                    let left = if i == 0 { name.clone() } else { tree(&row.last, false) };
                    self.column(left, i == 0, row.table, *column);
                }
            }
            RowKind::Document | RowKind::Ignored => {
                let right = self.bars();
                self.line(name, false, right, String::new(), String::new());
            }
        }
    }

    fn open_table(&mut self, left: String, table: TableId, level: usize) {
        let right = format!("{}┌ {}", self.bars(), printable(&self.diagram.layout.table(table).name));
        self.line(left, true, right, String::new(), String::new());
        self.open.push((table, level));
    }

    /// What identifies the row of a child table.
    fn own_columns(&mut self, tree: &str, table: TableId) {
        let own = |source: &ColumnSource| matches!(source, ColumnSource::RootKey | ColumnSource::Position(_));
        let columns: Vec<ColumnId> = columns_of(self.diagram.layout, table, own).map(|(id, _)| id).collect();
        for column in columns {
            self.column(tree.to_owned(), false, table, column);
        }
    }

    fn column(&mut self, left: String, leads: bool, table: TableId, id: ColumnId) {
        let column = &self.diagram.layout.table(table).columns[id.0];
        let mut notes = Vec::new();
        if self.diagram.is_key(table, id) {
            notes.push("key".to_owned());
        }
        match column.source {
            ColumnSource::Position(_) | ColumnSource::RootKey => notes.push(printable(self.diagram.holds(table, id))),
            ColumnSource::Extra | ColumnSource::Field(_) => {}
        }
        let right = format!("{}{}", self.bars(), printable(&column.name));
        self.line(left, leads, right, sql_type(column.ty), notes.join(", "));
    }

    /// Ends the tables of arrays at this level of the tree or further in: the next field is of none of them.
    fn close_tables(&mut self, level: usize, next: &[bool]) {
        while self.open.last().is_some_and(|(_, of)| *of >= level) {
            let left = tree(next.split_last().map_or(&[][..], |(_, above)| above), !next.is_empty());
            self.close_table(left);
        }
    }

    fn close_table(&mut self, left: String) {
        let Some((table, _)) = self.open.last().copied() else { return };
        let extra = columns_of(self.diagram.layout, table, |source| *source == ColumnSource::Extra).next();
        if let Some((id, _)) = extra {
            self.column(left, false, table, id);
            self.open.pop();
            let bars = self.bars();
            if let Some(line) = self.lines.last_mut() {
                line.right.replace_range(bars.len()..bars.len() + '│'.len_utf8(), "└");
            }
        } else {
            self.open.pop();
            let right = format!("{}└", self.bars());
            self.line(left, false, right, String::new(), String::new());
        }
    }

    fn bars(&self) -> String {
        "│ ".repeat(self.open.len())
    }

    fn line(&mut self, left: String, leads: bool, right: String, ty: String, notes: String) {
        self.lines.push(DiagramLine { left, leads, right, ty, notes });
    }
}

/// The tree's own lines at these levels; `below`: something comes further in.
fn tree(levels: &[bool], below: bool) -> String {
    let mut tree: String = levels.iter().map(|last| if *last { "   " } else { "│  " }).collect();
    if below {
        tree.push('│');
    }
    tree
}
