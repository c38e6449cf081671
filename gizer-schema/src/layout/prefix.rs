//! A layout for a copy: the same tables under other names.

use super::{Layout, LayoutError};
use crate::names::MAX_IDENTIFIER_BYTES;

/// Stands between the prefix and the name of the collection. MongoDB allows no `$` in the name of a collection
/// ("Naming Restrictions"), so that no collection is ever taken for the copy of another.
const SEPARATOR: char = '$';

pub(super) fn prefixed(layout: &Layout, prefix: &str) -> Result<Layout, LayoutError> {
    if prefix.is_empty() || prefix.contains('\0') {
        return Err(LayoutError::UnusablePrefix { prefix: prefix.to_owned() });
    }
    let mut copy = layout.clone();
    copy.collection = format!("{prefix}{SEPARATOR}{}", layout.collection);
    for table in &mut copy.tables {
        // Names that differ still differ behind one prefix, but only if none of them is cut.
        table.name.insert_str(0, prefix);
        if table.name.len() > MAX_IDENTIFIER_BYTES {
            return Err(LayoutError::PrefixTooLong { table: table.name.clone(), bytes: table.name.len() });
        }
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    fn posts() -> Layout {
        let schema = r#"{"_id": "INT", "comments": [{"n": "INT", "words": ["STRING"]}]}"#;
        Layout::new(&file::parse("posts", schema).unwrap()).unwrap()
    }

    #[test]
    fn tables_get_the_prefix_and_nothing_else_changes() {
        let (posts, copy) = (posts(), posts().prefixed("New-").unwrap());
        let names: Vec<&str> = copy.tables.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["New-posts", "New-post_comments", "New-post_comment_words"]);
        assert_eq!(copy.collection, "New-$posts");
        let columns = |layout: &Layout| layout.tables.iter().map(|table| table.columns.clone()).collect::<Vec<_>>();
        assert_eq!(columns(&copy), columns(&posts), "columns keep their names, the root's key in children too");
        assert_eq!((copy.document, copy.paths), (posts.document, posts.paths));
    }

    #[test]
    fn two_prefixes_never_give_two_collections_one_name() {
        let schema = |collection| Layout::new(&file::parse(collection, r#"{"_id": "INT"}"#).unwrap()).unwrap();
        let (one, other) = (schema("c").prefixed("a.b").unwrap(), schema("b.c").prefixed("a.").unwrap());
        assert_ne!(one.collection, other.collection);
        assert_ne!(one.collection, schema("a.bc").collection, "nor that of a collection that is followed");
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        let longest = "x".repeat(63 - "post_comment_words".len());
        posts().prefixed(&longest).unwrap();
        let error = posts().prefixed(&format!("{longest}x")).unwrap_err();
        let LayoutError::PrefixTooLong { table, bytes: 64 } = &error else { panic!("{error:?}") };
        assert!(table.ends_with("xpost_comment_words"), "{error}");
        assert!(error.to_string().contains("at most 63"), "{error}");
        // Bytes count, not letters.
        assert!(matches!(posts().prefixed(&"ü".repeat(23)), Err(LayoutError::PrefixTooLong { bytes: 64, .. })));
        for unusable in ["", "a\0"] {
            assert!(matches!(posts().prefixed(unusable), Err(LayoutError::UnusablePrefix { .. })), "{unusable:?}");
        }
    }
}
