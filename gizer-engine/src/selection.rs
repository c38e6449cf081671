//! Which collections may be copied.

use glob::Pattern;

/// Patterns of collections that may be copied.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Included collections; empty for all.
    pub include: Vec<Pattern>,
    /// Excluded collections, even if included.
    pub exclude: Vec<Pattern>,
}

impl Selection {
    /// Whether a collection is excluded.
    pub fn excludes(&self, collection: &str) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(collection));
        any(&self.exclude) || (!self.include.is_empty() && !any(&self.include))
    }
}
