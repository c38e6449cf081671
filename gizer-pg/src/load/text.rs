//! The sink for the classic text files: one connection, one transaction a file.

use std::fs::File;
use std::io::Read;
use std::pin::pin;

use bytes::Bytes;
use futures::SinkExt;
use gizer_schema::TableId;
use tokio::task::spawn_blocking;

use super::Written;
use super::sink::{CopyTarget, LoadFence};
use crate::connect::Session;
use crate::copy::Reject;
use crate::csv::TextFile;
use crate::error::PgError;
use crate::state;

/// How the files are written; the encoding is said here, so that no setting of the role or the database counts.
pub(super) const TEXT_FORM: &str = "FORMAT text, DELIMITER E'\\t', NULL E'\\\\\\\\N', ENCODING 'UTF8'";

/// Bytes of one CopyData message.
const CHUNK_BYTES: usize = 256 * 1024;

/// Copies text files over one connection.
///
/// A file is one transaction: after `Ok` its rows are committed, after any `Err` none of them is. The fence is checked in
/// the same transaction. What is committed is durable from the swap's commit on, as with a [`CopySink`](super::CopySink).
/// Several sinks may copy files of one load at once. Dropping a future rolls the file back.
#[derive(Debug)]
pub struct TextSink {
    session: Session,
    fence: LoadFence,
    targets: Vec<CopyTarget>,
    written: Written,
}

impl TextSink {
    pub(super) fn new(session: Session, fence: LoadFence, targets: Vec<CopyTarget>) -> TextSink {
        let written = Written { rows: vec![0; targets.len()], ..Written::default() };
        TextSink { session, fence, targets, written }
    }

    /// Copies a file into its table; gives the number of rows.
    ///
    /// # Errors
    /// [`PgError::LineRefused`] if PostgreSQL does not take a line; [`PgError::ExtractDiffers`] if the file does not have the
    /// rows that it must have; [`PgError::File`] if it cannot be read; [`PgError::Fenced`]; whatever the server says.
    pub async fn copy_file(&mut self, table: TableId, file: &TextFile) -> Result<u64, PgError> {
        let rows = self.session.in_transaction(self.copy_in_transaction(table, file)).await?;
        self.written.rows[table.0] += rows;
        self.written.bytes += file.bytes;
        self.written.ranges += 1;
        self.written.copies += 1;
        Ok(rows)
    }

    /// Keeps documents aside that an extract has rejected.
    ///
    /// # Errors
    /// [`PgError::Fenced`]; whatever the server says.
    pub async fn keep_aside(&mut self, rejects: &[Reject]) -> Result<(), PgError> {
        let LoadFence { collection, load_epoch } = &self.fence;
        self.session
            .in_transaction(async {
                state::check_load(&self.session, &self.fence).await?;
                state::write_rejects(&self.session, collection, *load_epoch, rejects).await
            })
            .await?;
        self.written.rejected += rejects.len() as u64;
        Ok(())
    }

    /// How much was written.
    pub fn finish(self) -> Written {
        self.written
    }

    async fn copy_in_transaction(&self, table: TableId, file: &TextFile) -> Result<u64, PgError> {
        // Dates in the files are of the year first, which every order of the fields reads alike; better said than relied on.
        let settings = "SET LOCAL synchronous_commit TO off; SET LOCAL DateStyle TO 'ISO, YMD'";
        self.session.run("beginning a file", settings).await?;
        state::check_load(&self.session, &self.fence).await?;
        let rows = self.stream(table, file).await?;
        match file.rows {
            Some(expected) if expected != rows => Err(PgError::ExtractDiffers {
                path: file.path.display().to_string(),
                expected: format!("{expected} rows"),
                found: format!("{rows} rows"),
            }),
            _ => Ok(rows),
        }
    }

    async fn stream(&self, table: TableId, file: &TextFile) -> Result<u64, PgError> {
        let target = &self.targets[table.0];
        let fail = |error: tokio_postgres::Error| self.refused(target, file, &error);
        let mut input = File::open(&file.path).map_err(PgError::file("read", &file.path))?;
        let (session, doing) = (&self.session, format!("copying {}", file.path.display()));
        let begin = session.client().copy_in::<_, Bytes>(&target.statement);
        let mut stream = pin!(session.within(&doing, begin).await?.map_err(fail)?);
        loop {
            let read = spawn_blocking(move || {
                let mut chunk = Vec::with_capacity(CHUNK_BYTES);
                let outcome = (&mut input).take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
                (input, outcome.map(|_| chunk))
            });
            let (back, chunk) = match read.await {
                Ok((back, chunk)) => (back, chunk.map_err(PgError::file("read", &file.path))?),
                Err(error) => return Err(PgError::file("read", &file.path)(error.into())),
            };
            input = back;
            if chunk.is_empty() {
                break;
            }
            session.within(&doing, stream.feed(Bytes::from(chunk))).await?.map_err(fail)?;
        }
        session.within(&doing, stream.as_mut().finish()).await?.map_err(fail)
    }

    /// What the server has against a file. Its message and its context quote values: neither is repeated.
    fn refused(&self, target: &CopyTarget, file: &TextFile, error: &tokio_postgres::Error) -> PgError {
        let Some(db) = error.as_db_error() else {
            return self.session.error(format_args!("copying {}", file.path.display()), error);
        };
        let sqlstate = db.code().code();
        if !["22", "23", "54"].iter().any(|class| sqlstate.starts_with(class)) {
            return self.session.error(format_args!("copying {}", file.path.display()), error);
        }
        PgError::LineRefused {
            path: file.path.display().to_string(),
            line: db.where_().and_then(|context| line_of(context, target.table.name())),
            why: reason_of(sqlstate),
            sqlstate: sqlstate.to_owned(),
        }
    }
}

/// The number of the line in what the server says of where it was: `COPY posts, line 3, column id: "…"`, in its own language.
fn line_of(context: &str, table: &str) -> Option<u64> {
    let rest = context.strip_prefix("COPY ")?.strip_prefix(table)?;
    let from = rest.find(|c: char| c.is_ascii_digit())?;
    let digits = rest[from..].split(|c: char| !c.is_ascii_digit()).next()?;
    // What follows a colon is the line itself.
    (!rest[..from].contains([':', '"'])).then(|| digits.parse().ok())?
}

fn reason_of(sqlstate: &str) -> &'static str {
    match sqlstate {
        "22P04" => "it has not as many values as the table has columns, or is no line of COPY's text format",
        "22P02" | "22P03" | "22007" | "22018" => "a value is not of its column's type",
        "22003" | "22008" => "a value is beyond what its column's type can hold",
        "22021" | "22P05" => "it is not UTF-8, or holds a NUL",
        "23502" => "there is NULL in a column that cannot have it",
        _ => "PostgreSQL cannot store it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_found_in_any_language_and_never_in_the_data() {
        let cases = [
            ("COPY gizer_new_posts, line 3, column id: \"abc 17\"", Some(3)),
            ("COPY gizer_new_posts, Zeile 12: »9«", Some(12)),
            ("COPY gizer_new_posts, line 40000000000", Some(40_000_000_000)),
            ("COPY gizer_new_posts: \"17\"", None),
            ("COPY other, line 3", None),
            ("SQL statement", None),
        ];
        for (context, expected) in cases {
            assert_eq!(line_of(context, "gizer_new_posts"), expected, "{context}");
        }
    }
}
