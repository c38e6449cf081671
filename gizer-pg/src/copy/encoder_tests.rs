use super::*;
use bson::doc;
use gizer_flatten::{Cell, Extra, RawJson};
use gizer_schema::raw::RawDoc;
use gizer_schema::{TIMESTAMP_MILLIS, file};
use proptest::prelude::*;

use crate::copy::decode::{Tuple, tuples as decode};

/// Four columns in the root table (`_id`, `a`, `b`, `c`), three in the child table (`posts_id`, `l`, `idx`).
fn layout() -> Layout {
    let schema = r#"{"_id": "INT", "a": "STRING", "b": "DOUBLE", "c": "TIMESTAMP", "l": ["BIGINT"]}"#;
    Layout::new(&file::parse("posts", schema).unwrap()).unwrap()
}

fn root<'c>(cells: &'c [Cell<'c>]) -> Row<'c> {
    Row { table: TableId(0), cells, extra: Extra::default() }
}

fn child<'c>(cells: &'c [Cell<'c>]) -> Row<'c> {
    Row { table: TableId(1), cells, extra: Extra::default() }
}

#[test]
fn every_type_has_the_binary_form_of_its_column() {
    let json = doc! {"j": {"n": 1}}.to_vec().unwrap();
    let json = RawDoc::new(&json).unwrap().get(b"j").unwrap().unwrap();
    let mut text = vec![1];
    RawJson::new(json).write_to(&mut text);
    let cases: Vec<(Cell<'_>, Option<Vec<u8>>)> = vec![
        (Cell::Null, None),
        (Cell::Text("".into()), Some(vec![])),
        (Cell::Text("ü漢\u{10ffff}".into()), Some("ü漢\u{10ffff}".as_bytes().to_vec())),
        (
            Cell::ObjectId([0x00, 0x1f, 0xab, 0xcd, 0xef, 0x45, 0x67, 0x89, 0x98, 0x76, 0x54, 0xff]),
            Some(b"001fabcdef456789987654ff".to_vec()),
        ),
        (Cell::SmallInt(-2), Some(vec![0xff, 0xfe])),
        (Cell::Integer(i32::MIN), Some(vec![0x80, 0, 0, 0])),
        (Cell::BigInt(1 << 40), Some(vec![0, 0, 1, 0, 0, 0, 0, 0])),
        (Cell::Double(-0.0), Some(vec![0x80, 0, 0, 0, 0, 0, 0, 0])),
        (Cell::Double(f64::INFINITY), Some(vec![0x7f, 0xf0, 0, 0, 0, 0, 0, 0])),
        (Cell::Boolean(true), Some(vec![1])),
        (Cell::Boolean(false), Some(vec![0])),
        // 2000-01-01 is PostgreSQL's zero.
        (Cell::Timestamp(946_684_800_001), Some(vec![0, 0, 0, 0, 0, 0, 0x03, 0xe8])),
        (Cell::Timestamp(946_684_799_999), Some((-1000i64).to_be_bytes().to_vec())),
        (Cell::Timestamp(TIMESTAMP_MILLIS.start), Some((-211_813_488_000_000_000i64).to_be_bytes().to_vec())),
        (Cell::Timestamp(TIMESTAMP_MILLIS.end - 1), Some(9_223_371_331_199_999_000i64.to_be_bytes().to_vec())),
        (Cell::Json(RawJson::new(json)), Some(text)),
    ];
    for (cell, expected) in cases {
        let mut encoder = CopyEncoder::new(&layout());
        encoder.begin_document();
        encoder.row(root(&[Cell::Integer(1), cell, Cell::Null, Cell::Null]));
        let unit = encoder.take();
        let tuples = decode(&unit.tables[0].bytes);
        assert_eq!(tuples, [vec![Some(vec![0, 0, 0, 1]), expected, None, None]], "{cell:?}");
    }
}

#[test]
fn a_discarded_document_leaves_no_trace() {
    let mut encoder = CopyEncoder::new(&layout());
    encoder.begin_document();
    encoder.row(child(&[Cell::Integer(1), Cell::Null, Cell::BigInt(1)]));
    encoder.discard_document();
    assert_eq!(encoder.bytes(), 0);
    encoder.discard_document();
    encoder.begin_document();
    encoder.row(root(&[Cell::Integer(2), Cell::Null, Cell::Null, Cell::Null]));
    encoder.begin_document();
    encoder.row(root(&[Cell::Integer(3), Cell::Null, Cell::Null, Cell::Null]));
    encoder.row(child(&[Cell::Integer(3), Cell::Null, Cell::BigInt(1)]));
    encoder.discard_document();
    let unit = encoder.take();
    assert_eq!((unit.documents, unit.rows(), unit.tables.len()), (1, 1, 1));
    assert_eq!(decode(&unit.tables[0].bytes)[0][0], Some(vec![0, 0, 0, 2]));
    assert!(encoder.take().is_empty());
}

#[test]
fn buffers_come_back_and_are_used_again() {
    let mut encoder = CopyEncoder::new(&layout());
    let write = |encoder: &mut CopyEncoder| {
        encoder.begin_document();
        encoder.row(root(&[Cell::Integer(2), Cell::Text("x".repeat(10_000).as_str().into()), Cell::Null, Cell::Null]));
        encoder.take()
    };
    let first = write(&mut encoder);
    assert!(first.memory_bytes() >= 10_000);
    let address = first.tables[0].bytes.as_ptr();
    encoder.reuse(first.into());
    let second = write(&mut encoder);
    assert_eq!(second.tables[0].bytes.as_ptr(), address);
    assert_eq!(decode(&second.tables[0].bytes).len(), 1, "nothing of the first unit is left in the buffer");
}

#[test]
fn buffers_that_a_huge_document_has_blown_up_are_not_kept() {
    let mut encoder = CopyEncoder::new(&layout());
    for _ in 0..10 {
        let huge = (0..4).map(|table| TableData { table: TableId(table), bytes: vec![0; 6 << 20], rows: 1 }).collect();
        encoder.reuse(EncodedUnit { tables: huge, ..EncodedUnit::default() }.into());
    }
    let own = encoder.tables.iter().map(|table| &table.bytes).chain(&encoder.spare.0);
    let kept: usize = own.map(Vec::capacity).sum();
    assert!((1..=KEPT_BYTES).contains(&kept), "{kept}");
}

#[test]
fn rejected_documents_go_with_the_unit_and_count_in_its_size() {
    let mut encoder = CopyEncoder::new(&layout());
    let (id, reason, document) = ("1".to_owned(), "r".to_owned(), vec![0; 500]);
    encoder.reject(Reject { id, reason, document, retry: None, is_unfit_key: false });
    assert_eq!(encoder.bytes(), 500);
    let unit = encoder.take();
    assert!(!unit.is_empty() && unit.memory_bytes() >= 500);
    assert_eq!(unit.rejects.len(), 1);
    assert!(encoder.take().is_empty() && encoder.bytes() == 0);
}

/// What a test does to an encoder.
#[derive(Debug, Clone)]
enum Step {
    Begin,
    Root(i32, Option<String>, f64, i64),
    Child(i32, i64),
    Discard,
    Take,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let root = (any::<i32>(), any::<Option<String>>(), prop::num::f64::ANY, TIMESTAMP_MILLIS);
    let step = prop_oneof![
        3 => Just(Step::Begin),
        4 => root.prop_map(|(id, text, double, time)| Step::Root(id, text, double, time)),
        4 => (any::<i32>(), any::<i64>()).prop_map(|(id, n)| Step::Child(id, n)),
        1 => Just(Step::Discard),
        1 => Just(Step::Take),
    ];
    prop::collection::vec(step, 0..60)
}

/// The rows of whole documents, as plain lists: what the encoder must come to.
#[derive(Default)]
struct Model {
    kept: [Vec<Tuple>; 2],
    current: [Vec<Tuple>; 2],
    documents: u64,
    open: bool,
}

impl Model {
    fn close(&mut self) {
        for (kept, current) in self.kept.iter_mut().zip(&mut self.current) {
            kept.append(current);
        }
        self.documents += u64::from(std::mem::take(&mut self.open));
    }
}

fn big_endian<const N: usize>(value: [u8; N]) -> Option<Vec<u8>> {
    Some(value.to_vec())
}

fn check(unit: &EncodedUnit, model: &mut Model) -> Result<(), TestCaseError> {
    model.close();
    for (table, expected) in std::mem::take(&mut model.kept).into_iter().enumerate() {
        let data = unit.tables.iter().find(|data| data.table.0 == table);
        prop_assert_eq!(data.map_or(0, |data| data.rows), expected.len() as u64);
        prop_assert_eq!(data.map_or_else(Vec::new, |data| decode(&data.bytes)), expected);
    }
    prop_assert_eq!(unit.documents, std::mem::take(&mut model.documents));
    Ok(())
}

proptest! {
    #[test]
    fn what_is_encoded_is_what_was_kept(steps in steps()) {
        let mut encoder = CopyEncoder::new(&layout());
        let mut model = Model::default();
        for step in steps {
            // Rows come between the beginning of a document and its discarding, if any.
            if !model.open && matches!(step, Step::Root(..) | Step::Child(..)) {
                continue;
            }
            match step {
                Step::Begin => {
                    model.close();
                    model.open = true;
                    encoder.begin_document();
                }
                Step::Root(id, text, double, time) => {
                    let cell = text.as_deref().map_or(Cell::Null, |text| Cell::Text(text.into()));
                    encoder.row(root(&[Cell::Integer(id), cell, Cell::Double(double), Cell::Timestamp(time)]));
                    let micros = (i128::from(time) - 946_684_800_000) * 1000;
                    model.current[0].push(vec![
                        big_endian(id.to_be_bytes()),
                        text.map(String::into_bytes),
                        big_endian(double.to_bits().to_be_bytes()),
                        big_endian(i64::try_from(micros).unwrap().to_be_bytes()),
                    ]);
                }
                Step::Child(id, n) => {
                    encoder.row(child(&[Cell::Integer(id), Cell::Null, Cell::BigInt(n)]));
                    model.current[1].push(vec![big_endian(id.to_be_bytes()), None, big_endian(n.to_be_bytes())]);
                }
                Step::Discard => {
                    model.current = Default::default();
                    model.open = false;
                    encoder.discard_document();
                }
                Step::Take => {
                    let unit = encoder.take();
                    check(&unit, &mut model)?;
                    encoder.reuse(unit.into());
                }
            }
        }
        check(&encoder.take(), &mut model)?;
    }
}
