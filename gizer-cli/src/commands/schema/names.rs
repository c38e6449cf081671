//! Names of fields, tables and columns as people are shown them: they may hold anything.

use unicode_width::UnicodeWidthStr;

pub(super) use crate::ui::report::printable;

/// How many columns of a terminal it takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// With blanks behind it, up to this width.
pub(super) fn padded(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_on_their_line() {
        assert_eq!(printable("größe 名"), "größe 名");
        assert_eq!(printable("a\u{1b}[31m\nb\u{202e}c"), "a\\u{1b}[31m\\nb\\u{202e}c");
        assert_eq!((width("名"), padded("名", 4).as_str()), (2, "名  "));
    }
}
