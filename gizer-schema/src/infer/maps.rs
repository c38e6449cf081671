//! Which objects are maps: their field names are data, and all their values are of one kind.
//!
//! Decided from counts alone, so that the order of the documents does not matter. An object is a map when
//!
//! * its names look like data: they are identifiers ([`NameForm`](super::names::NameForm)), at least [`MapRules::identifiers`] of them;
//!   or there are at least [`MapRules::names`], each of which is in few of the objects ([`MapRules::share`]);
//! * and its values hold together, taken as if they all stood under one name: one family of types has at least 99 % of them, and
//!   documents share most of their fields, or have names that look like data themselves.

use super::names::{DistinctNames, FormCounts, NameForm};
use super::together::{Names, Values};
use super::{DocumentRow, ValueSeen};
use crate::raw::{Element, Malformed};

/// When an object is taken for a map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MapRules {
    /// Different names from which on an object may be one, where names are words.
    pub names: u64,
    /// In which part of the objects a name is at most, on average, where names are words.
    pub share: f64,
    /// Different names from which on an object may be one, where names are identifiers.
    pub identifiers: u64,
}

impl Default for MapRules {
    fn default() -> MapRules {
        MapRules { names: 24, share: 0.2, identifiers: 8 }
    }
}

/// What was seen of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapSeen {
    /// Different names; an estimate where there are more than are kept one by one.
    pub names: u64,
    /// Objects that have entries.
    pub objects: u64,
    /// Entries, of all objects.
    pub entries: u64,
}

/// The values of an object with too many names to know each, as if all stood under one.
#[derive(Debug, Clone, Default)]
pub(super) struct Folded {
    pub(super) values: ValueSeen,
    pub(super) names: DistinctNames,
    pub(super) forms: FormCounts,
}

impl Folded {
    pub(super) fn observe(
        &mut self,
        name: &str,
        element: &Element<'_>,
        depth: usize,
        row: &mut DocumentRow,
    ) -> Result<(), Malformed> {
        self.names.add(name.as_bytes());
        self.forms.add(NameForm::of(name), 1);
        self.values.observe(element, depth, row)
    }

    /// Adds what was seen under a name.
    pub(super) fn add(&mut self, name: &str, value: ValueSeen) {
        self.names.add(name.as_bytes());
        self.forms.add(NameForm::of(name), value.types.all());
        self.values.merge(value);
    }

    pub(super) fn merge(&mut self, other: Folded) {
        self.names.merge(&other.names);
        self.forms.merge(other.forms);
        self.values.merge(other.values);
    }
}

/// What was seen of a map, and its values as one; `None` if the object is no map.
pub(super) fn map_of<'s>(names: &Names<'s>, rules: &MapRules) -> Option<(MapSeen, Values<'s>)> {
    // Cheap, and false for nearly all objects: only then are their values put together.
    let seen = data_of(names, rules)?;
    let values = names.values();
    hold_together(&values, rules).then_some((seen, values))
}

/// What was seen of an object whose names look like data.
fn data_of(names: &Names<'_>, rules: &MapRules) -> Option<MapSeen> {
    let seen = MapSeen { names: names.count(), objects: names.filled, entries: names.entries() };
    let is_sparse = seen.entries as f64 <= rules.share * seen.names as f64 * seen.objects as f64;
    let are_words = seen.names >= rules.names && is_sparse;
    (are_words || (seen.names >= rules.identifiers && names.forms().are_identifiers())).then_some(seen)
}

/// Whether values are of one kind.
fn hold_together(values: &Values<'_>, rules: &MapRules) -> bool {
    if !values.types.is_of_one_family() {
        return false;
    }
    if !values.types.is_mostly_documents() {
        return true;
    }
    let names = Names::of(&values.documents);
    // Documents without a field are of any kind.
    let share_most = !names.are_without_end()
        && u128::from(names.entries()) * 2 >= u128::from(names.count()) * u128::from(names.filled);
    share_most || data_of(&names, rules).is_some()
}
