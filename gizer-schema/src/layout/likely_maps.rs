//! Objects of a schema that look like maps: what was made of data before there were maps, or by hand.

use std::mem::{Discriminant, discriminant};

use super::{ColumnType, DocumentPlan, Layout, PathId, Plan, TableId};
use crate::infer::names::{FormCounts, NameForm};
use crate::model::Dialect;

/// Tables or columns below one object, from which on it looks like a map.
const MANY: usize = 100;

/// An object with so many tables or columns that its names are likely to be data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikelyMap {
    /// Its path.
    pub path: PathId,
    /// Its names.
    pub names: usize,
    /// Tables below it.
    pub tables: usize,
    /// Columns below it, those of the tables left out.
    pub columns: usize,
}

impl Layout {
    /// The objects below which there are more than 100 tables, or more than 100 columns and names that are identifiers, with values of
    /// one kind under 90 % of their names. Of objects in each other the innermost. None in the classic dialect, which has no maps.
    pub fn likely_maps(&self) -> Vec<LikelyMap> {
        let mut found = Vec::new();
        if self.dialect != Dialect::Classic {
            self.fields_below(TableId(0), &self.document, &mut found);
        }
        found
    }

    fn fields_below(&self, table: TableId, document: &DocumentPlan, found: &mut Vec<LikelyMap>) -> Below {
        let below = document.fields.iter().map(|field| self.below(table, field.path, &field.plan, found));
        below.fold(Below::default(), |all, one| all.and(one))
    }

    fn below(&self, table: TableId, path: PathId, plan: &Plan, found: &mut Vec<LikelyMap>) -> Below {
        match plan {
            Plan::Ignored => Below::default(),
            Plan::Column(_) => Below { columns: 1, ..Below::default() },
            Plan::ObjectIdPair { .. } => Below { columns: 2, ..Below::default() },
            Plan::Table { table, element: inside } | Plan::Map { table, value: inside, .. } => {
                let inside = self.below(*table, path, inside, found);
                Below { tables: inside.tables + 1, columns: 0, is_found: inside.is_found }
            }
            Plan::Document(document) => {
                let below = self.fields_below(table, document, found);
                let is_one = !below.is_found
                    && (below.tables > MANY || (below.columns > MANY && are_identifiers(document)))
                    && self.is_of_one_kind(table, document);
                if is_one {
                    let (names, Below { tables, columns, .. }) = (document.fields.len(), below);
                    found.push(LikelyMap { path, names, tables, columns });
                }
                Below { is_found: below.is_found || is_one, ..below }
            }
        }
    }

    fn is_of_one_kind(&self, table: TableId, document: &DocumentPlan) -> bool {
        let mut kinds: Vec<(ValueKind, usize)> = Vec::new();
        for field in &document.fields {
            let ty = match &field.plan {
                Plan::Column(column) => Some(self.table(table).columns[column.0].ty),
                _ => None,
            };
            let kind = (discriminant(&field.plan), ty);
            match kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => kinds.push((kind, 1)),
            }
        }
        let most = kinds.iter().map(|(_, count)| *count).max().unwrap_or_default();
        most * 10 >= document.fields.len() * 9
    }
}

fn are_identifiers(document: &DocumentPlan) -> bool {
    let mut forms = FormCounts::default();
    document.fields.iter().for_each(|field| forms.add(NameForm::of(&field.name), 1));
    forms.are_identifiers()
}

type ValueKind = (Discriminant<Plan>, Option<ColumnType>);

/// What is below a place of the schema.
#[derive(Debug, Clone, Copy, Default)]
struct Below {
    tables: usize,
    columns: usize,
    /// Whether one of them has been found already.
    is_found: bool,
}

impl Below {
    fn and(self, other: Below) -> Below {
        Below {
            tables: self.tables + other.tables,
            columns: self.columns + other.columns,
            is_found: self.is_found || other.is_found,
        }
    }
}
