//! The classic tool's text files: what `COPY … (FORMAT text, DELIMITER E'\t', NULL '\\N')` reads.
//!
//! | value | in the file |
//! |---|---|
//! | NULL | `\\N` |
//! | text | UTF-8; `\` before `\`, TAB, `"`, CR and LF |
//! | the text `\N` itself | `\\\N`, so that it is not taken for NULL, as the classic tool's files had it |
//! | boolean | `True`, `False` |
//! | time | `2016-02-08 19:45:32.501000`, in UTC whatever the server's zone |
//! | anything else | as PostgreSQL prints it, escaped like text |
//!
//! TAB stands between values, CR LF ends a line, and nothing is quoted.
//!
//! # The folder
//! ```text
//!   <table>/00000, 00001, …      a new file at 100 MiB
//!   gizer-rejected/              documents that have no rows, and why
//!   gizer-extract.incomplete     there from the first file on until all are whole
//!   gizer-extract.json           written at the very end: what there must be, to the last byte
//! ```
//! A folder of the classic tool has only the first. `/` and `%` in a table's name are percent-encoded in that of its folder.

mod encoder;
mod files;
mod folder;
mod manifest;
mod rejected;
mod sink;

pub use encoder::{CsvEncoder, TextRows};
pub use files::{FILE_BYTES, TextFiles};
pub use folder::{ExtractFolder, TextFile, TextFolder};
pub use manifest::{ExtractedCollection, ExtractedFile, ExtractedTable, Manifest};
pub use rejected::RejectedFiles;
pub use sink::FileSink;
