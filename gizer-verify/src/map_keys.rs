//! Keys of maps as numbers, so that positions of rows are numbers everywhere, and arrays pay nothing for maps.
//!
//! The stored keys of a table are ranked by their bytes: the first is 1, the second 3. A key that is not stored has the even number
//! between its neighbours, so that it is in the order of the others and equal to none.

use std::collections::HashMap;

use gizer_schema::{ColumnType, Table};

/// The keys that a table holds.
#[derive(Debug)]
pub(crate) struct MapKeys {
    /// Which positions of a row are keys.
    are_keys: Vec<bool>,
    /// In the order in which they came, until they are ranked.
    numbers: HashMap<Box<[u8]>, i64>,
    /// In the order of their bytes.
    ranked: Vec<Box<[u8]>>,
}

impl MapKeys {
    pub(crate) fn of(table: &Table) -> MapKeys {
        let are_keys = table.position_columns().iter().map(|column| column.ty == ColumnType::Text).collect();
        MapKeys { are_keys, numbers: HashMap::new(), ranked: Vec::new() }
    }

    /// Whether a position is a key.
    pub(crate) fn are_at(&self, position: usize) -> bool {
        self.are_keys[position]
    }

    /// What stands for a stored key until all have come.
    pub(crate) fn number_of(&mut self, key: &[u8]) -> i64 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let number = self.numbers.len() as i64;
        self.numbers.insert(key.into(), number);
        number
    }

    /// All stored keys have come: replaces their numbers in the positions of rows, `depth` each, by their ranks.
    pub(crate) fn rank(&mut self, positions: &mut [i64], depth: usize) {
        let mut keys: Vec<(Box<[u8]>, i64)> = self.numbers.drain().collect();
        keys.sort_unstable();
        let mut ranks = vec![0; keys.len()];
        for (rank, (_, number)) in keys.iter().enumerate() {
            ranks[*number as usize] = rank as i64 * 2 + 1;
        }
        self.ranked = keys.into_iter().map(|(key, _)| key).collect();
        for row in positions.chunks_exact_mut(depth) {
            for (position, _) in row.iter_mut().zip(&self.are_keys).filter(|(_, is_key)| **is_key) {
                *position = ranks[*position as usize];
            }
        }
    }

    /// The rank of any key.
    pub(crate) fn rank_of(&self, key: &[u8]) -> i64 {
        match self.ranked.binary_search_by(|known| (**known).cmp(key)) {
            Ok(rank) => rank as i64 * 2 + 1,
            Err(rank) => rank as i64 * 2,
        }
    }

    /// The stored key of a rank.
    pub(crate) fn at_rank(&self, rank: i64) -> &[u8] {
        let key = usize::try_from(rank / 2).ok().and_then(|rank| self.ranked.get(rank));
        key.map(|key| &**key).unwrap_or_default()
    }
}
