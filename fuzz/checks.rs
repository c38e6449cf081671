//! What must hold for any bytes: the fuzz targets call these, and so does an ordinary test with their corpora.

#[path = "../gizer-flatten/tests/varied/mod.rs"]
mod varied;

use bson::{Bson, Document};
use gizer_flatten::{Cell, Flattener, Row, RowSink, StoredCell, StoredRow, rebuild as rebuild_document};
use gizer_schema::infer::Inference;
use gizer_schema::raw::{Kind, RawDoc};
use gizer_schema::{Dialect, Layout, Schema, file, pin_names};

/// A schema file is read or refused; what was read is written so that it reads back.
pub(crate) fn schema_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(schema) = file::parse("posts", text) {
        check_schema(&schema);
    }
}

/// Whatever is looked at, a schema follows, in both dialects.
pub(crate) fn inference(data: &[u8]) {
    let mut inference = Inference::default();
    for bytes in documents(data) {
        if let Ok(document) = RawDoc::new(&bytes) {
            let _ = inference.observe(document);
        }
    }
    check_schema(&inference.classic_schema("posts").0);
    let (mut schema, _) = inference.schema("posts");
    pin_names(&mut schema, None).expect("tables follow from whatever was seen");
    check_schema(&schema);
    varied::vary(&mut schema, choices(data));
    check_schema(&schema);
}

/// Any bytes become rows or a rejection; everything in the rows can be written.
pub(crate) fn flatten(data: &[u8]) {
    let documents = documents(data);
    for dialect in [FuzzedSchema::Classic, FuzzedSchema::Inferred, FuzzedSchema::Varied] {
        if let Some((_, layout)) = inferred(&documents, dialect, data) {
            rows(&layout, &documents);
        }
    }
}

/// A document is rebuilt from its rows.
pub(crate) fn rebuild(data: &[u8]) {
    let documents = documents(data);
    // Half of them decide on the schema, so that the others do not always fit it.
    let seen = &documents[..documents.len().div_ceil(2)];
    for dialect in [FuzzedSchema::Inferred, FuzzedSchema::Varied] {
        if let Some((schema, layout)) = inferred(seen, dialect, data) {
            rebuild_by(&schema, &layout, &documents);
        }
    }
}

fn rebuild_by(schema: &Schema, layout: &Layout, documents: &[Vec<u8>]) {
    for (bytes, rows) in documents.iter().zip(rows(layout, documents)) {
        let Some(rows) = rows else { continue };
        let rebuilt = rebuild_document(layout, &rows).unwrap_or_else(|error| panic!("{error}: {rows:#?}"));
        // What the bson crate does not read, or not without loss, it cannot judge either.
        if let Ok(source) = Document::from_reader(bytes.as_slice())
            && source.to_vec().is_ok_and(|again| again == *bytes)
        {
            let rebuilt = Document::from_reader(rebuilt.as_slice()).expect("what is read is also read again");
            let (source, rebuilt) = (Bson::Document(varied::copied(schema, source)), Bson::Document(rebuilt));
            assert!(same(&source, &rebuilt), "{source:?}\n{rebuilt:?}\n{layout:#?}");
        }
    }
}

fn check_schema(schema: &Schema) {
    let written = file::write(schema);
    let again = file::parse(&schema.collection, &written);
    assert_eq!(again.as_ref(), Ok(schema), "{written}");
    if let Ok(layout) = Layout::new(schema) {
        for table in &layout.tables {
            let mut names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
            assert!(names.iter().all(|name| (1..=63).contains(&name.len())), "{names:?}");
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), table.columns.len(), "{table:?}");
        }
    }
}

/// Where a schema comes from.
#[derive(Clone, Copy, PartialEq)]
enum FuzzedSchema {
    Classic,
    Inferred,
    /// Inferred, with other policies: maps among them.
    Varied,
}

/// The policies follow from the same bytes as the documents, so that older findings stay what they are.
fn choices(data: &[u8]) -> impl Iterator<Item = u8> {
    data.iter().rev().copied().chain([2])
}

fn inferred(documents: &[Vec<u8>], from: FuzzedSchema, data: &[u8]) -> Option<(Schema, Layout)> {
    let mut inference = Inference::default();
    for bytes in documents {
        inference.observe(RawDoc::new(bytes).ok()?).ok()?;
    }
    let classic = from == FuzzedSchema::Classic;
    let mut schema = if classic { inference.classic_schema("posts").0 } else { inference.schema("posts").0 };
    if from == FuzzedSchema::Varied {
        varied::vary(&mut schema, choices(data));
    }
    let layout = Layout::new(&schema).ok()?;
    assert_eq!(layout.dialect == Dialect::Classic, classic);
    Some((schema, layout))
}

/// Documents made of bytes: most of them well-formed, with every type, with names that come twice or are no UTF-8.
fn documents(data: &[u8]) -> Vec<Vec<u8>> {
    let mut bytes = Bytes(data);
    let mut documents = Vec::new();
    while !bytes.0.is_empty() && documents.len() < 8 {
        // Some are taken as they are.
        if bytes.next() == 0xFF {
            documents.push(std::mem::take(&mut bytes.0).to_vec());
            break;
        }
        let mut body = Vec::new();
        if !bytes.next().is_multiple_of(16) {
            element(&mut bytes, b"_id", 0, &mut body);
        }
        fields(&mut bytes, 0, &mut body);
        documents.push(document(&body));
    }
    documents
}

struct Bytes<'d>(&'d [u8]);

impl<'d> Bytes<'d> {
    fn next(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn take(&mut self, most: usize) -> &'d [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next())
    }
}

fn document(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 5).unwrap_or(u32::MAX).to_le_bytes();
    [&length[..], body, &[0]].concat()
}

fn fields(bytes: &mut Bytes<'_>, depth: usize, out: &mut Vec<u8>) {
    for _ in 0..bytes.next() % 6 {
        let names: [&[u8]; 12] =
            [b"a", b"b", b"_a", b"a_b", b"c", b"idx", b"$x", b"", b"x.y", b"~/", b"\xFF", b"_extra"];
        let name = names[usize::from(bytes.next()) % names.len()];
        element(bytes, name, depth, out);
    }
}

fn element(bytes: &mut Bytes<'_>, name: &[u8], depth: usize, out: &mut Vec<u8>) {
    let kind = Kind::ALL[usize::from(bytes.next()) % Kind::ALL.len()];
    let kind = if depth > 5 && matches!(kind, Kind::Document | Kind::Array) { Kind::Int32 } else { kind };
    out.push(kind as u8);
    out.extend_from_slice(name);
    out.push(0);
    value(bytes, kind, depth, out);
}

fn value(bytes: &mut Bytes<'_>, kind: Kind, depth: usize, out: &mut Vec<u8>) {
    let text = |bytes: &mut Bytes<'_>, out: &mut Vec<u8>| {
        let length = usize::from(bytes.next() % 8);
        let text = bytes.take(length);
        out.extend_from_slice(&(text.len() as u32 + 1).to_le_bytes());
        out.extend_from_slice(text);
        out.push(0);
    };
    match kind {
        Kind::Null | Kind::Undefined | Kind::MinKey | Kind::MaxKey => {}
        Kind::Boolean => out.push(bytes.next() % 2),
        Kind::Int32 => out.extend_from_slice(&bytes.array::<4>()),
        Kind::Double | Kind::Int64 | Kind::DateTime | Kind::Timestamp => out.extend_from_slice(&bytes.array::<8>()),
        Kind::ObjectId => out.extend_from_slice(&bytes.array::<12>()),
        Kind::Decimal128 => out.extend_from_slice(&bytes.array::<16>()),
        Kind::String | Kind::JavaScript | Kind::Symbol => text(bytes, out),
        Kind::Binary => {
            let length = if bytes.next().is_multiple_of(2) { 16 } else { 3 };
            let subtype = [0, 4, 5, 0x80][usize::from(bytes.next() % 4)];
            let content = bytes.take(length);
            out.extend_from_slice(&(content.len() as u32).to_le_bytes());
            out.push(subtype);
            out.extend_from_slice(content);
        }
        Kind::Regex => out.extend_from_slice(b"a.b\0i\0"),
        Kind::DbPointer => {
            text(bytes, out);
            out.extend_from_slice(&bytes.array::<12>());
        }
        Kind::CodeWithScope => {
            let mut code = Vec::new();
            text(bytes, &mut code);
            let scope = document(&[]);
            out.extend_from_slice(&((4 + code.len() + scope.len()) as u32).to_le_bytes());
            out.extend_from_slice(&code);
            out.extend_from_slice(&scope);
        }
        Kind::Document => {
            let mut body = Vec::new();
            fields(bytes, depth + 1, &mut body);
            out.extend_from_slice(&document(&body));
        }
        Kind::Array => {
            let mut body = Vec::new();
            for i in 0..bytes.next() % 5 {
                element(bytes, i.to_string().as_bytes(), depth + 1, &mut body);
            }
            out.extend_from_slice(&document(&body));
        }
    }
}

#[derive(Default)]
struct Kept {
    tables: usize,
    documents: Vec<Vec<Vec<StoredRow>>>,
}

impl RowSink for Kept {
    fn begin_document(&mut self) {
        self.documents.push(vec![Vec::new(); self.tables]);
    }

    fn row(&mut self, row: Row<'_>) {
        let extra = (!row.extra.is_empty()).then(|| {
            let mut json = Vec::new();
            row.extra.write_to(&mut json);
            assert!(!json.contains(&0));
            serde_json::from_slice(&json).expect("_extra is JSON")
        });
        let cells = row.cells.iter().map(stored).collect();
        let tables = self.documents.last_mut().expect("a document has begun");
        tables[row.table.0].push(StoredRow { cells, extra });
    }

    fn discard_document(&mut self) {
        self.documents.pop();
    }
}

/// The rows of each document; none for a rejected one.
fn rows(layout: &Layout, documents: &[Vec<u8>]) -> Vec<Option<Vec<Vec<StoredRow>>>> {
    let mut flattener = Flattener::new(layout);
    let each = documents.iter().map(|bytes| {
        let document = RawDoc::new(bytes).ok()?;
        let mut kept = Kept { tables: layout.tables.len(), documents: Vec::new() };
        let mut rejected = false;
        flattener.flatten([document], &mut kept, |_, _| rejected = true);
        assert_eq!(kept.documents.len(), usize::from(!rejected));
        kept.documents.pop()
    });
    let rows = each.collect();
    let tally = flattener.take_tally();
    assert_eq!(tally.read, tally.loaded + tally.rejected);
    rows
}

fn stored(cell: &Cell<'_>) -> StoredCell {
    let text = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("what is written is UTF-8")
    };
    match *cell {
        Cell::Null => StoredCell::Null,
        Cell::Text(text) => {
            let text = text.as_str();
            assert!(!text.contains('\0'), "PostgreSQL has no such text");
            StoredCell::Text(text.to_owned())
        }
        Cell::ObjectId(id) => StoredCell::Text(bson::oid::ObjectId::from_bytes(id).to_hex()),
        Cell::SmallInt(n) => StoredCell::SmallInt(n),
        Cell::Integer(n) => StoredCell::Integer(n),
        Cell::BigInt(n) => StoredCell::BigInt(n),
        Cell::Double(n) => StoredCell::Double(n),
        Cell::Boolean(b) => StoredCell::Boolean(b),
        Cell::Timestamp(ms) => StoredCell::Timestamp(ms),
        // Close enough to what PostgreSQL prints for the bson crate to read it.
        Cell::Numeric(n) => {
            let minus = if n.negative && n.digits != 0 { "-" } else { "" };
            StoredCell::Numeric(format!("{minus}{}E{}", n.digits, n.exponent))
        }
        Cell::NumericNaN => StoredCell::Numeric("NaN".to_owned()),
        Cell::Bytes(bytes) => StoredCell::Bytes(bytes.to_vec()),
        Cell::Uuid(uuid) => StoredCell::Uuid(uuid),
        Cell::Json(json) => {
            let text = text(&|out| json.write_to(out));
            StoredCell::Json(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
        }
        Cell::Key(key) => StoredCell::Text(text(&|out| key.write_to(out))),
        Cell::List(list) => StoredCell::List(list.cells().map(|cell| stored(&cell)).collect()),
    }
}

/// Whether two values are the same but for the order of fields and the types of equal numbers.
fn same(a: &Bson, b: &Bson) -> bool {
    match (a, b) {
        (Bson::Document(a), Bson::Document(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        (Bson::Array(a), Bson::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Bson::Double(a), Bson::Double(b)) => a == b || (a.is_nan() && b.is_nan()),
        (a, b) if a == b => true,
        // Numbers of different types are compared as doubles here; the property tests compare them exactly.
        (a, b) => number(a).zip(number(b)).is_some_and(|(a, b)| a == b || (a.is_nan() && b.is_nan())),
    }
}

fn number(value: &Bson) -> Option<f64> {
    match value {
        Bson::Int32(n) => Some(f64::from(*n)),
        Bson::Int64(n) => Some(*n as f64),
        Bson::Double(n) => Some(*n),
        Bson::Decimal128(n) => n.to_string().parse().ok(),
        _ => None,
    }
}
