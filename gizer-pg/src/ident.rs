//! Names and text inside SQL.
//!
//! Values are bound as parameters wherever PostgreSQL takes parameters; names never can be, and some statements
//! (`COMMENT`) take no parameters at all. What goes into the text of a statement goes through this module
//! (PostgreSQL documentation, "Lexical Structure": quoted identifiers and string constants).

use std::fmt;

use crate::error::PgError;

/// A name in double quotes, its own double quotes doubled.
///
/// The name is taken as it is, whatever its case and length; PostgreSQL cuts names at 63 bytes, and
/// [`gizer_schema::names`] never gives longer ones.
///
/// # Errors
/// [`PgError::UnusableName`] if the name is empty or holds a NUL, which no PostgreSQL name can.
pub fn quote_identifier(name: &str) -> Result<String, PgError> {
    if name.is_empty() || name.contains('\0') {
        return Err(PgError::UnusableName { name: name.replace('\0', "\\0") });
    }
    Ok(doubled(name, '"'))
}

/// Text as a string constant, right under any setting of `standard_conforming_strings`: with a backslash inside it
/// becomes an escape string (`E'…'`).
///
/// # Errors
/// [`PgError::UnusableName`] if the text holds a NUL, which PostgreSQL's text cannot.
pub fn quote_literal(text: &str) -> Result<String, PgError> {
    if text.contains('\0') {
        return Err(PgError::UnusableName { name: text.replace('\0', "\\0") });
    }
    let quoted = doubled(text, '\'');
    Ok(if text.contains('\\') { format!("E{}", quoted.replace('\\', "\\\\")) } else { quoted })
}

fn doubled(text: &str, quote: char) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for c in text.chars() {
        if c == quote {
            quoted.push(quote);
        }
        quoted.push(c);
    }
    quoted.push(quote);
    quoted
}

/// The name of a table, index or other relation with its schema; it prints as SQL: `"public"."posts"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Qualified {
    sql: String,
    schema: String,
    name: String,
}

impl Qualified {
    /// Quotes both parts.
    ///
    /// # Errors
    /// As [`quote_identifier`].
    pub fn new(schema: &str, name: &str) -> Result<Qualified, PgError> {
        let sql = format!("{}.{}", quote_identifier(schema)?, quote_identifier(name)?);
        Ok(Qualified { sql, schema: schema.to_owned(), name: name.to_owned() })
    }

    /// The schema's name, unquoted.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The relation's name, unquoted.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Qualified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sql)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_quoted_and_never_end_early() {
        let cases = [
            ("posts", r#""posts""#),
            ("Posts", r#""Posts""#),
            (r#"a"b"#, r#""a""b""#),
            (r#"a"; DROP TABLE x; --"#, r#""a""; DROP TABLE x; --""#),
            ("$$;$$", r#""$$;$$""#),
            (r"back\slash", r#""back\slash""#),
            ("ümlaut 漢", r#""ümlaut 漢""#),
        ];
        for (name, quoted) in cases {
            assert_eq!(quote_identifier(name).unwrap(), quoted);
        }
        let long = "\"".repeat(10_000);
        assert_eq!(quote_identifier(&long).unwrap().len(), 20_002);
        assert!(matches!(quote_identifier("a\0b"), Err(PgError::UnusableName { .. })));
        assert!(matches!(quote_identifier(""), Err(PgError::UnusableName { .. })));
    }

    #[test]
    fn text_is_quoted_under_any_setting() {
        let cases =
            [("it's", "'it''s'"), (r"a\b", r"E'a\\b'"), (r"\'; --", r"E'\\''; --'"), ("$$", "'$$'"), ("", "''")];
        for (text, quoted) in cases {
            assert_eq!(quote_literal(text).unwrap(), quoted);
        }
        assert!(quote_literal("a\0b").is_err());
    }

    proptest! {
        #[test]
        fn a_quoted_name_reads_back(name in "[^\0]{1,80}") {
            let quoted = quote_identifier(&name).unwrap();
            let inside = &quoted[1..quoted.len() - 1];
            prop_assert_eq!(inside.replace("\"\"", "\u{0}").contains('"'), false);
            prop_assert_eq!(inside.replace("\"\"", "\""), name);
        }
    }
}
