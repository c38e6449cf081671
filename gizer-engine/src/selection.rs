//! Which collections of the database may be copied.

use glob::Pattern;

/// Which collections may be copied, by patterns of their names.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Those that may; none: all.
    pub include: Vec<Pattern>,
    /// Those that may not, also of those that are included.
    pub exclude: Vec<Pattern>,
}

impl Selection {
    /// Whether a collection of this name is left alone.
    pub fn excludes(&self, collection: &str) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(collection));
        any(&self.exclude) || (!self.include.is_empty() && !any(&self.include))
    }
}
