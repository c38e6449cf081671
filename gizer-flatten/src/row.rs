//! Rows, from the flattener to the emitters.

use gizer_schema::TableId;

use crate::decimal::Decimal;
use crate::extjson::RawJson;
use crate::extra::Extra;
use crate::key::TaggedKey;
use crate::list::RawList;
use crate::text::Text;

/// One value of a row. Its variant matches its column's type, or is [`Cell::Null`]; a text column
/// takes [`Cell::Text`] and [`Cell::ObjectId`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// SQL's NULL.
    Null,
    /// Text without NUL.
    Text(Text<'a>),
    /// An ObjectId, stored in a text column as 24 lower-case hex digits.
    ObjectId([u8; 12]),
    /// `smallint`.
    SmallInt(i16),
    /// `integer`.
    Integer(i32),
    /// `bigint`, also for array indexes; keys of maps are [`Cell::Text`].
    BigInt(i64),
    /// `double precision`, with NaN, infinities and −0.
    Double(f64),
    /// `boolean`.
    Boolean(bool),
    /// `timestamptz`: milliseconds since 1970-01-01 UTC, within PostgreSQL's range.
    Timestamp(i64),
    /// `numeric`.
    Numeric(Decimal),
    /// `numeric`'s NaN.
    NumericNaN,
    /// `bytea`.
    Bytes(&'a [u8]),
    /// `uuid`.
    Uuid([u8; 16]),
    /// `jsonb`.
    Json(RawJson<'a>),
    /// Any `_id` as text in its tagged form.
    Key(TaggedKey<'a>),
    /// A PostgreSQL array.
    List(RawList<'a>),
}

/// Where a row is in one of the arrays and maps around it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowPosition {
    /// In an array, from 1.
    Index(i64),
    /// In a map: the name of its entry.
    Key(String),
}

/// A row of one table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row<'r> {
    /// Its table in the layout.
    pub table: TableId,
    /// One cell per column, in table order, without `_extra`.
    pub cells: &'r [Cell<'r>],
    /// Content of `_extra`; always empty in the classic dialect, which has no such column.
    pub extra: Extra<'r>,
}

/// The stage after the flattener: takes rows, for instance to encode them for COPY.
///
/// # Contract
/// * Between two calls of [`begin_document`](RowSink::begin_document) come the rows of one
///   document: child rows before or after their parent, but the rows of one table by array index,
///   those of a map by the bytes of their keys.
/// * After [`discard_document`](RowSink::discard_document) the sink must behave as if the rows
///   since the last `begin_document` had never come: a document found malformed half-way leaves no
///   trace.
/// * Cells are valid during the call. There is no error to return: a sink works in memory, and
///   another stage carries on its output.
pub trait RowSink {
    /// Starts the rows of another document.
    fn begin_document(&mut self);

    /// Takes one row.
    fn row(&mut self, row: Row<'_>);

    /// Rejects the current document: discard its rows.
    fn discard_document(&mut self);
}
