//! Reading all rows of a stretch of root keys, in a snapshot.

use std::pin::pin;

use bytes::{Buf, Bytes, BytesMut};
use gizer_schema::{ColumnId, TableId};

use super::keys::Keys;
use super::parameter::FieldParameter;
use super::store::{PLANNING, RowStore, StoredField, StoredTuple, TupleForm};
use crate::connect::Params;
use crate::error::PgError;
use crate::ident::quote_identifier;

/// Root keys behind `after` and not behind `upto`, in the order of their column; each in its binary form, and `None` is no end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyStretch<'k> {
    /// The last key before it.
    pub after: Option<&'k [u8]>,
    /// The last key in it.
    pub upto: Option<&'k [u8]>,
}

impl RowStore<'_> {
    /// Begins a transaction that only reads, and reads everything as of one time. The tables are locked (`ACCESS SHARE`) before
    /// that time is: a load that is swapped in meanwhile waits, and what is read is of the tables that have their names at
    /// that time.
    pub async fn begin_snapshot(&mut self) -> Result<(), PgError> {
        self.session.begin_reading().await?;
        let tables: Vec<String> = self.tables.iter().map(|table| table.table.to_string()).collect();
        let begin = format!("LOCK TABLE {} IN ACCESS SHARE MODE; {PLANNING}", tables.join(", "));
        self.run("beginning to read tables", &begin).await
    }

    /// Ends what [`begin_snapshot`](RowStore::begin_snapshot) has begun.
    pub async fn end_snapshot(&mut self) {
        // There is nothing to commit.
        if self.session.is_in_transaction() {
            self.session.roll_back().await;
        }
    }

    /// Gives every row of a stretch of keys to `each`, with its table and the key's number, and adds new keys to
    /// `keys`. Tables come one after another, their rows in no order.
    ///
    /// Of use where the keys are of a type that has an order, and only within a transaction that
    /// [`begin_snapshot`](RowStore::begin_snapshot) has begun.
    ///
    /// # Errors
    /// [`PgError::ColumnDiffers`] if a column is not of the type that the layout says; whatever the server says.
    pub async fn read_stretch(
        &mut self,
        stretch: KeyStretch<'_>,
        keys: &mut Keys,
        mut each: impl FnMut(TableId, u32, StoredTuple<'_>) + Send,
    ) -> Result<(), PgError> {
        self.statements += 1;
        let sql = self.tables[0].set_ends();
        let ends = (FieldParameter(stretch.after), FieldParameter(stretch.upto));
        self.session.query_one("setting the ends of what is read", &sql, &[&ends.0, &ends.1]).await?;
        let (has_after, has_upto) = (stretch.after.is_some(), stretch.upto.is_some());
        for at in 0..self.tables.len() {
            // It checks the types of the columns, once.
            self.reader(at).await?;
            let number = usize::from(has_after) * 2 + usize::from(has_upto);
            let prepare = async || self.prepare(at, &self.tables[at].stretch(has_after, has_upto)).await;
            let statement = self.prepared[at].stretches[number].get_or_try_init(prepare).await?.clone();
            self.statements += 1;
            let key = self.layout.tables[at].key.0;
            let doing = format!("reading rows of {}", self.tables[at].table);
            let mut rows = pin!(self.session.answered(&doing, self.session.client().copy_out(&statement)).await?);
            let mut tuples = CopiedTuples::default();
            let mut last: Option<(Vec<u8>, u32)> = None;
            while let Some(message) = self.session.next(&doing, rows.as_mut()).await? {
                tuples.push(message);
                while let Some(fields) = tuples.next().map_err(|reason| self.protocol(&doing, reason))? {
                    let field = field_at(&fields, key).ok_or_else(|| self.protocol(&doing, "a row without a key"))?;
                    let number = match &last {
                        Some((same, number)) if same == field => *number,
                        _ => {
                            let number = keys.insert_stored(field);
                            let same = last.get_or_insert_default();
                            same.0.clear();
                            same.0.extend_from_slice(field);
                            same.1 = number;
                            number
                        }
                    };
                    each(TableId(at), number, StoredTuple(TupleForm::Copied(&fields)));
                }
            }
            tuples.finish().map_err(|reason| self.protocol(&doing, reason))?;
        }
        Ok(())
    }

    /// Root keys of one table that no earlier table of the layout has: each once, in the order of the column, at most
    /// so many. Those of the root table are those of documents; any other is of rows that have none.
    pub async fn keys_of(
        &mut self,
        table: TableId,
        stretch: KeyStretch<'_>,
        most: usize,
    ) -> Result<Vec<Vec<u8>>, PgError> {
        let (before, of) = (&self.tables[..table.0], &self.tables[table.0]);
        let sql = of.keys(before, stretch.after.is_some(), stretch.upto.is_some());
        self.some_keys(table, &sql, &[&FieldParameter(stretch.after), &FieldParameter(stretch.upto), &limit(most)])
            .await
    }

    /// Root keys behind `after` of rows of one table that have one of these JSON Pointers in `_extra`: each once, in the order
    /// of the column, at most so many.
    pub async fn keys_with_extra(
        &mut self,
        table: TableId,
        pointers: &[String],
        after: Option<&[u8]>,
        most: usize,
    ) -> Result<Vec<Vec<u8>>, PgError> {
        let sql = self.tables[table.0].keys_with_extra(after.is_some());
        self.some_keys(table, &sql, &[&FieldParameter(after), &pointers, &limit(most)]).await
    }

    /// The same of rows that have a value in one of these columns; of all rows without columns.
    pub async fn keys_with_values(
        &mut self,
        table: TableId,
        columns: &[ColumnId],
        after: Option<&[u8]>,
        most: usize,
    ) -> Result<Vec<Vec<u8>>, PgError> {
        let columns = columns.iter().map(|column| quote_identifier(&self.layout.table(table).columns[column.0].name));
        let sql = self.tables[table.0].keys_with_values(&columns.collect::<Result<Vec<_>, _>>()?, after.is_some());
        self.some_keys(table, &sql, &[&FieldParameter(after), &limit(most)]).await
    }

    async fn some_keys(&mut self, table: TableId, sql: &str, values: Params<'_>) -> Result<Vec<Vec<u8>>, PgError> {
        self.statements += 1;
        let doing = format!("reading keys of {}", self.tables[table.0].table);
        Ok(self.session.query(doing, sql, values).await?.iter().map(stored_field).collect())
    }

    /// Gives the root key and `_extra` of every row of one table that has something there, in the order of the keys; within a
    /// transaction that [`begin_snapshot`](RowStore::begin_snapshot) has begun. `_extra` is as `jsonb_send` writes it.
    pub async fn read_extra(
        &mut self,
        table: TableId,
        mut each: impl FnMut(&[u8], &[u8]) + Send,
    ) -> Result<(), PgError> {
        let of = &self.tables[table.0];
        let (doing, sql) = (format!("reading _extra of {}", of.table), of.extra());
        self.statements += 1;
        let statement = self.prepare(table.0, &sql).await?;
        let mut rows = pin!(self.session.answered(&doing, self.session.client().copy_out(&statement)).await?);
        let mut tuples = CopiedTuples::default();
        while let Some(message) = self.session.next(&doing, rows.as_mut()).await? {
            tuples.push(message);
            while let Some(fields) = tuples.next().map_err(|reason| self.protocol(&doing, reason))? {
                let (key, extra) = (field_at(&fields, 0), field_at(&fields, 1));
                let (Some(key), Some(extra)) = (key, extra) else {
                    return Err(self.protocol(&doing, "a row without a key or _extra"));
                };
                each(key, extra);
            }
        }
        tuples.finish().map_err(|reason| self.protocol(&doing, reason))
    }

    /// How many rows of a table have a value in a column.
    pub async fn count_values(&mut self, table: TableId, column: ColumnId) -> Result<u64, PgError> {
        let column = quote_identifier(&self.layout.table(table).columns[column.0].name)?;
        let of = &self.tables[table.0].table;
        self.statements += 1;
        let sql = format!("SELECT pg_catalog.count({column}) FROM {of}");
        let row = self.session.query_one(format!("counting values in {of}"), &sql, &[]).await?;
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or_default())
    }

    /// How many documents there are, counted up to `most`.
    pub async fn count_documents(&mut self, most: u64) -> Result<u64, PgError> {
        let of = &self.tables[0].table;
        self.statements += 1;
        let sql = format!("SELECT pg_catalog.count(*) FROM (SELECT FROM {of} LIMIT $1) AS first_rows");
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let row = self.session.query_one(format!("counting rows of {of}"), &sql, &[&most]).await?;
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or_default())
    }

    fn protocol(&self, doing: &str, reason: &str) -> PgError {
        let (server, doing) = (self.session.server().clone(), doing.to_owned());
        PgError::Protocol { server, doing, reason: reason.to_owned() }
    }
}

fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

/// The only field of a row.
fn stored_field(row: &tokio_postgres::Row) -> Vec<u8> {
    row.try_get::<_, StoredField<'_>>(0).map_or(None, |field| field.0).unwrap_or_default().to_vec()
}

/// Rows of binary COPY out of the messages that they come in, which need not end where rows do (PostgreSQL documentation,
/// "COPY", "Binary Format").
#[derive(Debug, Default)]
struct CopiedTuples {
    /// What has come and is not used yet.
    rest: Bytes,
    place: StreamPlace,
}

/// How far a stream of rows has come.
#[derive(Debug, Default, PartialEq, Eq)]
enum StreamPlace {
    #[default]
    Header,
    Rows,
    End,
}

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

impl CopiedTuples {
    fn push(&mut self, message: Bytes) {
        if self.rest.is_empty() {
            self.rest = message;
            return;
        }
        let mut joined = BytesMut::with_capacity(self.rest.len() + message.len());
        joined.extend_from_slice(&self.rest);
        joined.extend_from_slice(&message);
        self.rest = joined.freeze();
    }

    /// The fields of the next row, each with its length before it; `None` if more has to come first.
    fn next(&mut self) -> Result<Option<Bytes>, &'static str> {
        if self.place == StreamPlace::Header {
            // The signature, flags, and an extension with its length before it.
            let Some(header) = self.rest.get(..SIGNATURE.len() + 8) else { return Ok(None) };
            let extension = int32(&header[SIGNATURE.len() + 4..]).and_then(|length| usize::try_from(length).ok());
            let length = header.len() + extension.ok_or("a header of COPY without an end")?;
            if !header.starts_with(SIGNATURE) {
                return Err("no header of COPY");
            }
            if self.rest.len() < length {
                return Ok(None);
            }
            self.rest.advance(length);
            self.place = StreamPlace::Rows;
        }
        let Some(count) = self.rest.first_chunk::<2>() else { return Ok(None) };
        let count = i16::from_be_bytes(*count);
        if self.place == StreamPlace::End {
            return Err("rows behind the end of COPY");
        }
        let Ok(count) = usize::try_from(count) else {
            self.place = StreamPlace::End;
            self.rest.advance(2);
            return Ok(None);
        };
        let mut end = 2;
        for _ in 0..count {
            let Some(length) = self.rest.get(end..).and_then(int32) else { return Ok(None) };
            end += 4 + usize::try_from(length).unwrap_or_default();
        }
        if end > self.rest.len() {
            return Ok(None);
        }
        let mut fields = self.rest.split_to(end);
        fields.advance(2);
        Ok(Some(fields))
    }

    /// Whether all of it has come.
    fn finish(&self) -> Result<(), &'static str> {
        match self.place == StreamPlace::End && self.rest.is_empty() {
            true => Ok(()),
            false => Err("rows that end half-way"),
        }
    }
}

fn int32(bytes: &[u8]) -> Option<i32> {
    bytes.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))
}

/// The field with this number; `None` of NULL.
fn field_at(mut fields: &[u8], number: usize) -> Option<&[u8]> {
    for _ in 0..number {
        let length = int32(fields)?;
        fields = fields.get(4 + usize::try_from(length).unwrap_or_default()..)?;
    }
    let length = usize::try_from(int32(fields)?).ok()?;
    fields.get(4..4 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows of two fields, the second of the first one NULL.
    fn copied() -> Vec<u8> {
        let mut bytes = [SIGNATURE, &[0; 4], &2i32.to_be_bytes(), b"xx"].concat();
        bytes.extend_from_slice(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff");
        bytes.extend_from_slice(b"\0\x02\0\0\0\x02bc\0\0\0\0\xff\xff");
        bytes
    }

    #[test]
    fn rows_come_whole_however_they_are_cut() {
        let copied = copied();
        for size in 1..=copied.len() {
            let (mut tuples, mut rows) = (CopiedTuples::default(), Vec::new());
            for message in copied.chunks(size) {
                assert!(tuples.finish().is_err());
                tuples.push(Bytes::copy_from_slice(message));
                while let Some(row) = tuples.next().unwrap() {
                    rows.push(row);
                }
            }
            assert_eq!(tuples.finish(), Ok(()));
            assert_eq!(rows, [&b"\0\0\0\x01a\xff\xff\xff\xff"[..], b"\0\0\0\x02bc\0\0\0\0"]);
            assert_eq!((field_at(&rows[0], 0), field_at(&rows[0], 1)), (Some(&b"a"[..]), None));
            assert_eq!((field_at(&rows[1], 1), field_at(&rows[1], 2)), (Some(&b""[..]), None));
        }
    }

    #[test]
    fn what_is_no_copy_is_told() {
        let mut tuples = CopiedTuples::default();
        tuples.push(Bytes::from_static(b"PGCOPY\n\xff\r\nX00000000"));
        assert!(tuples.next().is_err());
        let mut behind = copied();
        behind.extend_from_slice(b"\0\x01");
        let mut tuples = CopiedTuples::default();
        tuples.push(behind.into());
        while let Ok(Some(_)) = tuples.next() {}
        assert!(tuples.next().is_err());
    }
}
