//! Rows as lines of text.

use std::io::Write;

use gizer_flatten::{Cell, Row};

use crate::civil_time::CivilTime;
use crate::copy::{RowForm, TableEncoder, to_postgres_micros};

const NULL: &[u8] = b"\\\\N";

/// Encodes rows as lines of text, each table into a buffer of its own.
pub type CsvEncoder = TableEncoder<TextRows>;

/// Rows as lines of text.
#[derive(Debug, Default)]
pub struct TextRows {
    /// A value before it is escaped.
    plain: Vec<u8>,
}

impl RowForm for TextRows {
    const HEADER: &'static [u8] = b"";
    const TRAILER: &'static [u8] = b"";

    fn write_row(&mut self, out: &mut Vec<u8>, row: Row<'_>, _: usize, has_extra: bool) {
        for (i, cell) in row.cells.iter().enumerate() {
            if i > 0 {
                out.push(b'\t');
            }
            write_cell(out, &mut self.plain, cell);
        }
        if has_extra {
            out.push(b'\t');
            if row.extra.is_empty() {
                out.extend_from_slice(NULL);
            } else {
                escaped(out, &mut self.plain, |plain| row.extra.write_to(plain));
            }
        }
        out.extend_from_slice(b"\r\n");
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
    use gizer_flatten::RowSink;
    use gizer_schema::{Layout, TableId};

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
