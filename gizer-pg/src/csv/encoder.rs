//! Rows as lines of text.

use std::io::Write;

use gizer_flatten::{Cell, Row, RowSink};
use gizer_schema::{Layout, TableId};

use crate::civil_time::CivilTime;
use crate::copy::{Buffers, EncodedUnit, KEPT_BYTES, Reject, TableData, UnitEncoder, to_postgres_micros};

const NULL: &[u8] = b"\\\\N";

/// Encodes rows as lines of text, each table into a buffer of its own.
#[derive(Debug)]
pub struct CsvEncoder {
    tables: Vec<TableLines>,
    /// Bytes in all buffers, and of rejected documents.
    bytes: usize,
    documents: u64,
    /// Number of the document that began last, from 1; never reset.
    current: u64,
    /// Whether it is neither discarded nor taken.
    in_document: bool,
    rejects: Vec<Reject>,
    spare: Buffers,
    /// A value before it is escaped.
    plain: Vec<u8>,
}

#[derive(Debug, Default)]
struct TableLines {
    bytes: Vec<u8>,
    rows: u64,
    has_extra: bool,
    /// The document that brought the last row, and length and rows before it.
    document: u64,
    before: (usize, u64),
}

impl CsvEncoder {
    /// An encoder for the tables of a layout.
    pub fn new(layout: &Layout) -> CsvEncoder {
        let lines = |table: &gizer_schema::Table| TableLines { has_extra: table.has_extra, ..TableLines::default() };
        CsvEncoder {
            tables: layout.tables.iter().map(lines).collect(),
            bytes: 0,
            documents: 0,
            current: 0,
            in_document: false,
            rejects: Vec::new(),
            spare: Buffers::default(),
            plain: Vec::new(),
        }
    }

    /// The lines of a table so far, and how many they are.
    pub fn lines(&self, table: TableId) -> (&[u8], u64) {
        let lines = &self.tables[table.0];
        (&lines.bytes, lines.rows)
    }

    /// Forgets all lines and keeps the buffers.
    pub fn clear(&mut self) {
        let unit = self.take();
        self.reuse(unit.into());
    }
}

impl UnitEncoder for CsvEncoder {
    fn new(layout: &Layout) -> CsvEncoder {
        CsvEncoder::new(layout)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn reject(&mut self, reject: Reject) {
        self.bytes += reject.document.len();
        self.rejects.push(reject);
    }

    fn take(&mut self) -> EncodedUnit {
        let mut tables = Vec::new();
        for (i, lines) in self.tables.iter_mut().enumerate().filter(|(_, lines)| lines.rows > 0) {
            let bytes = std::mem::replace(&mut lines.bytes, self.spare.0.pop().unwrap_or_default());
            tables.push(TableData { table: TableId(i), bytes, rows: std::mem::take(&mut lines.rows) });
        }
        self.bytes = 0;
        // What comes now without a new document can be taken back no further than to here.
        self.in_document = false;
        EncodedUnit {
            tables,
            documents: std::mem::take(&mut self.documents),
            rejects: std::mem::take(&mut self.rejects),
        }
    }

    fn reuse(&mut self, buffers: Buffers) {
        let own = self.tables.iter().map(|lines| &lines.bytes).chain(&self.spare.0);
        let mut kept: usize = own.map(Vec::capacity).sum();
        for buffer in buffers.0 {
            if kept + buffer.capacity() > KEPT_BYTES {
                continue;
            }
            kept += buffer.capacity();
            match self.tables.iter_mut().find(|lines| lines.bytes.capacity() == 0) {
                Some(lines) => lines.bytes = buffer,
                None => self.spare.put(buffer),
            }
        }
    }
}

impl RowSink for CsvEncoder {
    fn begin_document(&mut self) {
        self.current += 1;
        self.documents += 1;
        self.in_document = true;
    }

    fn row(&mut self, row: Row<'_>) {
        let lines = &mut self.tables[row.table.0];
        let begin = lines.bytes.len();
        if lines.document != self.current {
            (lines.document, lines.before) = (self.current, (begin, lines.rows));
        }
        for (i, cell) in row.cells.iter().enumerate() {
            if i > 0 {
                lines.bytes.push(b'\t');
            }
            write_cell(&mut lines.bytes, &mut self.plain, cell);
        }
        if lines.has_extra {
            lines.bytes.push(b'\t');
            if row.extra.is_empty() {
                lines.bytes.extend_from_slice(NULL);
            } else {
                escaped(&mut lines.bytes, &mut self.plain, |plain| row.extra.write_to(plain));
            }
        }
        lines.bytes.extend_from_slice(b"\r\n");
        lines.rows += 1;
        self.bytes += lines.bytes.len() - begin;
    }

    fn discard_document(&mut self) {
        if !std::mem::take(&mut self.in_document) {
            return;
        }
        self.documents -= 1;
        for lines in self.tables.iter_mut().filter(|lines| lines.document == self.current) {
            self.bytes -= lines.bytes.len() - lines.before.0;
            lines.bytes.truncate(lines.before.0);
            (lines.rows, lines.document) = (lines.before.1, 0);
        }
    }
}

fn write_cell(out: &mut Vec<u8>, plain: &mut Vec<u8>, cell: &Cell<'_>) {
    match *cell {
        Cell::Null => out.extend_from_slice(NULL),
        Cell::Boolean(value) => out.extend_from_slice(if value { b"True" } else { b"False" }),
        Cell::Text(text) => escape(out, text.as_bytes()),
        Cell::SmallInt(number) => write_number(out, number.into()),
        Cell::Integer(number) => write_number(out, number.into()),
        Cell::BigInt(number) => write_number(out, number),
        Cell::Json(_) | Cell::Key(_) | Cell::List(_) | Cell::Bytes(_) => {
            escaped(out, plain, |plain| write_plain(plain, cell));
        }
        // None of these has a character that is escaped.
        Cell::ObjectId(_)
        | Cell::Double(_)
        | Cell::Timestamp(_)
        | Cell::Numeric(_)
        | Cell::NumericNaN
        | Cell::Uuid(_) => write_plain(out, cell),
    }
}

/// A value as PostgreSQL reads it, before escapes. Writing to memory does not fail.
fn write_plain(out: &mut Vec<u8>, cell: &Cell<'_>) {
    let _ = match *cell {
        Cell::Null => out.write_all(b"NULL"),
        Cell::Text(text) => out.write_all(text.as_bytes()),
        Cell::Boolean(value) => out.write_all(if value { b"t" } else { b"f" }),
        Cell::ObjectId(id) => hex(out, &id),
        Cell::SmallInt(number) => write!(out, "{number}"),
        Cell::Integer(number) => write!(out, "{number}"),
        Cell::BigInt(number) => write!(out, "{number}"),
        Cell::Double(number) => double(out, number),
        Cell::Timestamp(millis) => timestamp(out, millis),
        Cell::Numeric(number) => {
            let minus = if number.negative && number.digits != 0 { "-" } else { "" };
            write!(out, "{minus}{}E{}", number.digits, number.exponent)
        }
        Cell::NumericNaN => out.write_all(b"NaN"),
        Cell::Bytes(bytes) => out.write_all(b"\\x").and_then(|()| hex(out, bytes)),
        Cell::Uuid(uuid) => hex(out, &uuid),
        Cell::Json(json) => {
            json.write_to(out);
            Ok(())
        }
        Cell::Key(key) => {
            key.write_to(out);
            Ok(())
        }
        Cell::List(list) => {
            out.push(b'{');
            for (i, element) in list.cells().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                array_element(out, &element);
            }
            out.write_all(b"}")
        }
    };
}

/// An element of an array's text (PostgreSQL documentation, "Array Input and Output Syntax"): quoted, unless NULL.
fn array_element(out: &mut Vec<u8>, element: &Cell<'_>) {
    if *element == Cell::Null {
        out.extend_from_slice(b"NULL");
        return;
    }
    let mut plain = Vec::new();
    write_plain(&mut plain, element);
    out.push(b'"');
    for byte in plain {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

fn escaped(out: &mut Vec<u8>, plain: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    plain.clear();
    write(plain);
    escape(out, plain);
}

fn escape(out: &mut Vec<u8>, text: &[u8]) {
    if text == b"\\N" {
        out.extend_from_slice(b"\\\\\\N");
        return;
    }
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'"' | b'\r' | b'\n')) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'\\', rest[at]]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn write_number(out: &mut Vec<u8>, number: i64) {
    let _ = write!(out, "{number}");
}

fn hex(out: &mut Vec<u8>, bytes: &[u8]) -> std::io::Result<()> {
    let start = out.len();
    out.resize(start + 2 * bytes.len(), 0);
    hex::encode_to_slice(bytes, &mut out[start..]).map_err(std::io::Error::other)
}

fn double(out: &mut Vec<u8>, number: f64) -> std::io::Result<()> {
    if number.is_nan() {
        out.write_all(b"NaN")
    } else if number.is_infinite() {
        out.write_all(if number > 0.0 { b"Infinity" } else { b"-Infinity" })
    } else {
        write!(out, "{number:?}")
    }
}

/// `2016-02-08 19:45:32.501000`, with `BC` behind it where the year has none before it.
fn timestamp(out: &mut Vec<u8>, millis: i64) -> std::io::Result<()> {
    let CivilTime { year, month, day, hour, minute, second, microsecond } =
        CivilTime::of_postgres_micros(to_postgres_micros(millis));
    // The year before 1 is 1 BC.
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    write!(out, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{microsecond:06}{era}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(cell: &Cell<'_>) -> String {
        let mut out = Vec::new();
        write_cell(&mut out, &mut Vec::new(), cell);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_written_as_the_classic_tool_wrote_them() {
        let cases: [(Cell<'_>, &str); 12] = [
            (Cell::Null, r"\\N"),
            (Cell::Text(r"\N".into()), r"\\\N"),
            (Cell::Text("a\\b\tc\"d\re\nf".into()), "a\\\\b\\\tc\\\"d\\\re\\\nf"),
            (Cell::Text("".into()), ""),
            (Cell::Boolean(true), "True"),
            (Cell::Boolean(false), "False"),
            (Cell::Double(0.1), "0.1"),
            (Cell::Double(-0.0), "-0.0"),
            (Cell::Double(f64::NEG_INFINITY), "-Infinity"),
            (Cell::ObjectId([0xAB; 12]), "abababababababababababab"),
            (Cell::Timestamp(1_454_960_732_501), "2016-02-08 19:45:32.501000"),
            (Cell::Bytes(&[0, 255]), r"\\x00ff"),
        ];
        for (cell, expected) in cases {
            assert_eq!(written(&cell), expected, "{cell:?}");
        }
    }

    #[test]
    fn times_of_all_ages_have_their_date() {
        let cases = [
            (0, "1970-01-01 00:00:00.000000"),
            (-1, "1969-12-31 23:59:59.999000"),
            (951_782_400_000, "2000-02-29 00:00:00.000000"),
            (4_107_542_400_000, "2100-03-01 00:00:00.000000"),
            (253_402_300_800_000, "10000-01-01 00:00:00.000000"),
            (-62_135_596_800_000, "0001-01-01 00:00:00.000000"),
            (-62_135_596_800_001, "0001-12-31 23:59:59.999000 BC"),
        ];
        for (millis, expected) in cases {
            assert_eq!(written(&Cell::Timestamp(millis)), expected);
        }
    }

    #[test]
    fn a_rejected_document_leaves_nothing_and_units_begin_anew() {
        let schema = gizer_schema::file::parse("t", r#"{"_id": "INT", "l": ["INT"]}"#).unwrap();
        let mut encoder = CsvEncoder::new(&Layout::new(&schema).unwrap());
        let row = |table, cells| Row { table: TableId(table), cells, extra: gizer_flatten::Extra::default() };
        let one = [Cell::Integer(1)];
        let element = [Cell::Integer(7), Cell::Integer(1), Cell::BigInt(1)];
        for discarded in [false, true] {
            encoder.begin_document();
            encoder.row(row(0, &one));
            encoder.row(row(1, &element));
            if discarded {
                encoder.discard_document();
            }
        }
        assert_eq!(encoder.bytes(), "1\r\n7\t1\t1\r\n".len());
        let unit = encoder.take();
        let bytes: Vec<&[u8]> = unit.tables.iter().map(|table| table.bytes.as_slice()).collect();
        assert_eq!((bytes, unit.documents, unit.rows()), (vec![&b"1\r\n"[..], b"7\t1\t1\r\n"], 1, 2));
        assert_eq!((encoder.bytes(), encoder.take().is_empty()), (0, true));
    }
}
