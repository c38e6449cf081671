//! Field names by index, found by prediction first.
//!
//! Documents of a collection mostly have their fields in the same order. The index remembers which field followed
//! which, so that a name is usually found by one comparison; a hash table answers otherwise.

use std::collections::HashMap;

/// Distinct names, each with an index in the order in which they were added.
#[derive(Debug, Clone)]
pub struct FieldIndex {
    names: Vec<Box<[u8]>>,
    by_name: HashMap<Box<[u8]>, usize>,
    /// `[0]`: the field found first last time; `[i + 1]`: the field that followed field `i`.
    successor: Vec<usize>,
}

/// Where in the fields of one document a walk is; starts at [`Walk::default`].
#[derive(Debug, Default, Clone, Copy)]
pub struct Walk {
    last: usize,
}

impl Default for FieldIndex {
    fn default() -> Self {
        FieldIndex { names: Vec::new(), by_name: HashMap::new(), successor: vec![0] }
    }
}

impl FieldIndex {
    /// The index of this name.
    pub fn find(&mut self, walk: &mut Walk, name: &[u8]) -> Option<usize> {
        let predicted = self.successor[walk.last];
        if self.names.get(predicted).is_some_and(|known| **known == *name) {
            walk.last = predicted + 1;
            return Some(predicted);
        }
        let found = *self.by_name.get(name)?;
        self.successor[walk.last] = found;
        walk.last = found + 1;
        Some(found)
    }

    /// Adds a name and returns its index; a name that is there keeps its index.
    pub fn add(&mut self, name: &[u8]) -> usize {
        if let Some(&found) = self.by_name.get(name) {
            return found;
        }
        let index = self.names.len();
        self.names.push(name.into());
        self.by_name.insert(name.into(), index);
        // Until something else is seen: the field that is added next.
        self.successor.push(index + 1);
        index
    }

    /// The names in the order of their indexes.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.names.iter().map(|name| &**name)
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

impl<'n> FromIterator<&'n [u8]> for FieldIndex {
    fn from_iter<I: IntoIterator<Item = &'n [u8]>>(names: I) -> Self {
        let mut index = FieldIndex::default();
        for name in names {
            index.add(name);
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_order_and_gaps_are_learned() {
        let names: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];
        let mut index: FieldIndex = names.into_iter().collect();
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [0, 2, 1, 3], [3, 2, 1, 0], [0, 0, 3, 3]] {
            let mut walk = Walk::default();
            for i in order {
                assert_eq!(index.find(&mut walk, names[i]), Some(i));
                assert_eq!(index.find(&mut walk, b"unknown"), None);
            }
        }
    }
}
