//! Which fields get a place, and which schema follows.

use std::collections::BTreeSet;
use std::sync::Arc;

use gizer_pg::PgError;
use gizer_pg::growth;
use gizer_pg::load::retyping_statements;
use gizer_schema::infer::{Adopted, Evolution, EvolveRules, InferenceRules, LeftInExtra, Widened, evolve};
use gizer_schema::{Growth, Layout, Node, ScalarType, Schema, TableId, rename_taken_tables};

use super::evidence::Evidence;
use crate::env::Env;
use crate::failure::Failure;
use crate::layouts::{Layouts, relation_names, unusable_schema};

/// What a version of a schema may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VersionKind {
    /// It gives places to what has none: in place.
    Adopts,
    /// It gives columns wider types: by a swap.
    Widens,
}

/// The next version of a schema.
pub(super) struct Decision {
    pub(super) schema: Schema,
    pub(super) after: Arc<Layout>,
    pub(super) growth: Growth,
    pub(super) adopted: Vec<Adopted>,
    pub(super) widened: Vec<Widened>,
    pub(super) left: Vec<LeftInExtra>,
    pub(super) unreadable: u64,
}

impl Decision {
    /// The key takes any `_id`; that of so many documents does not fit it now.
    ///
    /// # Errors
    /// [`Failure`] if no tables follow.
    pub(super) fn any_key(schema: &Schema, before: &Layout, documents: u64) -> Result<Decision, Failure> {
        let from = match schema.fields.get(ID).map(|field| &field.node) {
            Some(Node::Scalar(from)) => *from,
            _ => ScalarType::Key,
        };
        let (schema, after) = with_any_key(schema.clone())?;
        let growth = Growth::between(before, &after)
            .map_err(|error| Failure::failed(format!("{}: {error}", schema.collection)))?;
        let widened = vec![Widened { path: ID.to_owned(), from, to: ScalarType::Key, documents }];
        let (adopted, left, after) = (Vec::new(), Vec::new(), Arc::new(after));
        Ok(Decision { schema, after, growth, adopted, widened, left, unreadable: 0 })
    }

    /// The statements that make room for what it adds.
    pub(super) fn statements(&self, schema: &str) -> Result<Vec<String>, PgError> {
        growth::statements(schema, &self.after, &self.growth)
    }

    /// The statements that make and swap tables with wider columns.
    pub(super) fn swap_statements(&self, schema: &str) -> Result<Vec<String>, PgError> {
        retyping_statements(schema, &self.after, &self.growth)
    }

    /// The tables whose rows are rewritten.
    pub(super) fn tables(&self) -> Vec<String> {
        self.growth.by_table().keys().map(|table| self.after.table(*table).name.clone()).collect()
    }
}

const ID: &str = "_id";

/// A schema, and its layout, whose key takes any `_id`.
///
/// # Errors
/// [`Failure`] if no tables follow.
pub(crate) fn with_any_key(mut schema: Schema) -> Result<(Schema, Layout), Failure> {
    if let Some(id) = schema.fields.get_mut(ID) {
        id.node = Node::Scalar(ScalarType::Key);
    }
    let layout = Layout::new(&schema).map_err(|error| unusable_schema(&error))?;
    Ok((schema, layout))
}

/// What follows from the evidence by the rules of inference.
///
/// # Errors
/// [`Failure`] if other schema files cannot be read, or no names are left for new tables.
pub(super) fn decide(
    env: &Env,
    schema: &Schema,
    before: &Layout,
    seen: &Evidence,
    kind: VersionKind,
) -> Result<Decision, Failure> {
    let (adopts, widens) = (kind == VersionKind::Adopts, kind == VersionKind::Widens);
    let rules = EvolveRules { inference: InferenceRules::default(), threshold: seen.threshold, adopts, widens };
    let mut evolution = evolve(schema, &seen.unplaced, &rules).map_err(|error| unusable_schema(&error))?;
    if !evolution.adopted.is_empty() {
        let taken = names_of_others(env, &schema.collection)?;
        let own: BTreeSet<&str> = before.tables.iter().map(|table| table.name.as_str()).collect();
        let is_taken = |layout: &Layout, id: TableId| {
            let name = &layout.table(id).name;
            taken.contains(name) && !own.contains(name.as_str())
        };
        rename_taken_tables(&mut evolution.schema, is_taken).map_err(|error| unusable_schema(&error))?;
    }
    let after = Layout::new(&evolution.schema).map_err(|error| unusable_schema(&error))?;
    let growth =
        Growth::between(before, &after).map_err(|error| Failure::failed(format!("{}: {error}", schema.collection)))?;
    let Evolution { schema, adopted, widened, left } = evolution;
    Ok(Decision { schema, after: Arc::new(after), growth, adopted, widened, left, unreadable: seen.unreadable })
}

/// Names of tables and keys that other collections have.
fn names_of_others(env: &Env, collection: &str) -> Result<BTreeSet<String>, Failure> {
    let others = Layouts::read(env, &[])?.usable;
    let others = others.iter().filter(|layout| layout.collection != collection);
    Ok(others.flat_map(relation_names).collect())
}
