//! Values as text, for reports that were asked for them.

use gizer_flatten::{Cell, Extra};
use gizer_schema::ColumnType;

use crate::field::{EPOCH_MICROS, FieldReader};
use crate::key_text::{key_text, time_text};

/// Characters of a value that are shown.
const MAX_SHOWN_CHARS: usize = 200;

/// A stored field, about as SQL would show it.
pub(crate) fn field_text(ty: ColumnType, field: Option<&[u8]>) -> String {
    let Some(field) = field else { return "NULL".to_owned() };
    let text = match ty {
        ColumnType::List(element) => list_text(element.into(), field).unwrap_or_else(|| hex::encode(field)),
        ty => key_text(ty, field),
    };
    shortened(&text)
}

/// The elements of an array of one dimension: dimensions, a flag for NULLs, the elements' type, length, lower bound, elements.
fn list_text(ty: ColumnType, field: &[u8]) -> Option<String> {
    let mut rest = FieldReader::new(field);
    let (dimensions, _, _) = (rest.i32()?, rest.i32()?, rest.i32()?);
    if dimensions == 0 {
        return Some("{}".to_owned());
    }
    let (length, _) = (rest.i32()?, rest.i32()?);
    let elements: Option<Vec<String>> = (0..length).map(|_| Some(field_text(ty, rest.field()?))).collect();
    (dimensions == 1).then_some(())?;
    Some(format!("{{{}}}", elements?.join(", ")))
}

/// A document's value in the words of [`field_text`].
pub(crate) fn cell_text(cell: &Cell<'_>) -> String {
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut text = Vec::new();
        write(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    let text = match cell {
        Cell::Null => "NULL".to_owned(),
        Cell::Text(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        Cell::ObjectId(id) => hex::encode(id),
        Cell::SmallInt(value) => value.to_string(),
        Cell::Integer(value) => value.to_string(),
        Cell::BigInt(value) => value.to_string(),
        Cell::Double(value) => format!("{value:?}"),
        Cell::Boolean(value) => value.to_string(),
        Cell::Timestamp(millis) => i64::try_from(i128::from(*millis) * 1_000 - EPOCH_MICROS)
            .map_or_else(|_| format!("{millis} ms since 1970-01-01"), time_text),
        Cell::Numeric(value) => {
            let sign = if value.negative { "-" } else { "" };
            match value.exponent {
                0 => format!("{sign}{}", value.digits),
                exponent => format!("{sign}{}e{exponent}", value.digits),
            }
        }
        Cell::NumericNaN => "NaN".to_owned(),
        Cell::Bytes(bytes) => hex::encode(bytes),
        Cell::Uuid(uuid) => hex::encode(uuid),
        Cell::Json(json) => written(&|text| json.write_to(text)),
        Cell::Key(key) => written(&|text| key.write_to(text)),
        Cell::List(list) => {
            let elements: Vec<String> = list.cells().map(|cell| cell_text(&cell)).collect();
            format!("{{{}}}", elements.join(", "))
        }
    };
    shortened(&text)
}

/// What a document has for `_extra`.
pub(crate) fn extra_text(extra: Extra<'_>) -> String {
    let mut text = Vec::new();
    extra.write_to(&mut text);
    if extra.is_empty() { "NULL".to_owned() } else { shortened(&String::from_utf8_lossy(&text)) }
}

/// A text that breaks no line and fills no screen.
fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX_SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use gizer_flatten::Decimal;

    /// The two sides say the same of the same value.
    #[test]
    fn both_sides_are_told_in_the_same_words() {
        let cases: [(ColumnType, &[u8], Cell<'_>, &str); 7] = [
            (ColumnType::Text, b"a\nb", Cell::Text("a\nb".into()), "a b"),
            (ColumnType::BigInt, &[0xFF; 8], Cell::BigInt(-1), "-1"),
            (ColumnType::Boolean, &[1], Cell::Boolean(true), "true"),
            (ColumnType::TimestampTz, &[0; 8], Cell::Timestamp(946_684_800_000), "2000-01-01T00:00:00Z"),
            (ColumnType::Numeric, &[0, 0, 0, 0, 0xC0, 0, 0, 0], Cell::NumericNaN, "NaN"),
            (ColumnType::Uuid, &[7; 16], Cell::Uuid([7; 16]), "07070707070707070707070707070707"),
            (
                ColumnType::Numeric,
                &[0, 1, 0, 0, 0x40, 0, 0, 0, 0, 7],
                Cell::Numeric(Decimal { negative: true, digits: 7, exponent: 0 }),
                "-7",
            ),
        ];
        for (ty, field, cell, text) in cases {
            assert_eq!((field_text(ty, Some(field)).as_str(), cell_text(&cell).as_str()), (text, text));
        }
        assert_eq!((field_text(ColumnType::Text, None), cell_text(&Cell::Null)), ("NULL".into(), "NULL".into()));
        let long = "ü".repeat(MAX_SHOWN_CHARS + 1);
        let shown = field_text(ColumnType::Text, Some(long.as_bytes()));
        assert_eq!((shown.chars().count(), shown.ends_with("ü…")), (MAX_SHOWN_CHARS + 1, true));
        assert!(field_text(ColumnType::Text, Some("ü".repeat(MAX_SHOWN_CHARS).as_bytes())).ends_with('ü'));
    }
}
