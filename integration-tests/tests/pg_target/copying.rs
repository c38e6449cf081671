//! Rows through binary COPY, read back with plain SQL.

use std::time::{Duration, Instant};

use bson::{Bson, DateTime, doc, oid::ObjectId};
use gizer_flatten::{Cell, Extra, Row, RowSink};
use gizer_pg::PgError;
use gizer_pg::copy::{CopyEncoder, EncodedUnit, Reject};
use gizer_pg::load::{CopySink, KeySettings, Load, RangeSink};
use gizer_pg::state::Ledger;
use gizer_schema::{Layout, TIMESTAMP_MILLIS, TableId};

use crate::scene::{Scene, encode, followable, layout, quick, request};

const EVERY_TYPE: &str = r#"{"_id": "INT", "text": "STRING", "big": "BIGINT", "double": "DOUBLE", "flag": "BOOLEAN",
    "at": "TIMESTAMP", "tiny": "TINYINT", "ref": {"oid": "STRING", "bsontype": "INT"}, "grid": [["INT"]]}"#;

#[tokio::test]
async fn every_type_reads_back() {
    let scene = Scene::new().await;
    let layout = layout("things", EVERY_TYPE);
    let nasty = "tab\t nl\n cr\r back\\slash \\N \"quotes\" 'single' ü漢\u{1f600} \u{7f}";
    let oid = ObjectId::from_bytes([0, 1, 0xab, 3, 4, 5, 6, 7, 8, 9, 10, 0xff]);
    let documents = [
        doc! {"_id": 1, "text": nasty, "big": i64::MIN, "double": f64::NAN, "flag": true,
        "at": DateTime::from_millis(TIMESTAMP_MILLIS.start), "ref": oid, "grid": [[1, 2], [Bson::Null, "x\"y"]]},
        doc! {"_id": i32::MIN, "text": "", "big": i64::MAX, "double": f64::NEG_INFINITY, "flag": false,
        "at": DateTime::from_millis(TIMESTAMP_MILLIS.end - 1)},
        doc! {"_id": 3, "text": "x".repeat(3_000_000), "double": -0.0, "at": DateTime::from_millis(-1)},
        doc! {"_id": 4, "double": f64::INFINITY},
        doc! {"_id": 5, "double": f64::MIN_POSITIVE / 2.0},
    ];
    scene.load(&layout, &documents).await.unwrap();

    let read = |expression: &str, id: i32| format!("SELECT ({expression})::text FROM public.things WHERE id = {id}");
    assert_eq!(scene.text(&read("text", 1)).await, nasty);
    let cases = [
        ("big", 1, "-9223372036854775808"),
        ("double", 1, "NaN"),
        ("flag", 1, "true"),
        ("to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US BC')", 1, "4714-11-24 00:00:00.000000 BC"),
        ("ref_oid", 1, "0001ab030405060708090aff"),
        ("ref_bsontype", 1, "7"),
        ("tiny IS NULL", 1, "true"),
        ("text = ''", i32::MIN, "true"),
        ("double", i32::MIN, "-Infinity"),
        ("to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')", i32::MIN, "294276-12-31 23:59:59.999000"),
        ("length(text)", 3, "3000000"),
        // −0 equals 0, and only its bits tell them apart.
        ("encode(float8send(double), 'hex')", 3, "8000000000000000"),
        ("to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')", 3, "1969-12-31 23:59:59.999000"),
        ("double", 4, "Infinity"),
        ("encode(float8send(double), 'hex')", 5, "0008000000000000"),
    ];
    for (expression, id, expected) in cases {
        assert_eq!(scene.text(&read(expression, id)).await, expected, "{expression} of {id}");
    }
    let grid = scene.texts("SELECT idx || ' ' || grid::text FROM public.thing_grid WHERE things_id = 1 ORDER BY idx");
    assert_eq!(
        grid.await,
        [r#"1 [{"$numberInt": "1"}, {"$numberInt": "2"}]"#, r#"2 [null, "x\"y"]"#],
        "arrays in arrays are canonical Extended JSON"
    );
}

#[tokio::test]
async fn no_name_gets_out_of_its_quotes() {
    let mut scene = Scene::new().await;
    scene.schema = "odd \"schema'; --".to_owned();
    scene.sql("CREATE SCHEMA \"odd \"\"schema'; --\"; CREATE TABLE public.victim (a int)").await;
    let field = "f\\\"; DROP TABLE public.victim; --";
    let schema = format!(r#"{{"_id": "INT", "{field}": "INT", "it's \\ $$ ${{x}}": [{{"%s": "STRING"}}]}}"#);
    let layout = layout("x\"; DROP TABLE public.victim; --", &schema);
    let documents = [doc! {"_id": 1, "f\"; DROP TABLE public.victim; --": 2, "it's \\ $$ ${x}": [{"%s": "v"}]}];
    scene.load(&layout, &documents).await.unwrap();
    scene.load(&layout, &documents).await.unwrap();
    let values = "SELECT string_agg(column_name, '|' ORDER BY column_name) FROM information_schema.columns \
                  WHERE table_schema = 'odd \"schema''; --' AND table_name ILIKE 'x\"; drop%' GROUP BY table_name \
                  ORDER BY table_name";
    assert_eq!(scene.texts(values).await.len(), 2, "a root table and a child table");
    assert_eq!(scene.text("SELECT count(*) FROM public.victim").await, "0");
}

/// A load of one table that has begun, and its sink.
async fn begun<'a>(scene: &Scene, session: &'a gizer_pg::Session, layout: &'a Layout) -> (Load<'a>, CopySink) {
    let load = Load::begin(session, request(layout, followable(1))).await.unwrap();
    let sink = load.sink(scene.session().await).unwrap();
    (load, sink)
}

#[tokio::test]
async fn rejected_data_are_told_without_quoting_them() {
    let scene = Scene::prepared().await;
    let layout = layout("posts", r#"{"_id": "INT", "title": "STRING"}"#);
    let session = scene.session().await;
    let (_load, mut sink) = begun(&scene, &session, &layout).await;
    let mut encoder = CopyEncoder::new(&layout);
    encoder.begin_document();
    encoder.row(Row {
        table: TableId(0),
        cells: &[Cell::Integer(1), Cell::Text("sec\0ret".into())],
        extra: Extra::default(),
    });
    let error = sink.write(encoder.take()).await.unwrap_err();
    assert!(error.is_data_rejected() && error.sqlstate() == Some("22021"), "{error:?}");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("gizer_new_posts") && !shown.contains("sec"), "{shown}");
    // A time that PostgreSQL does not have is refused and does not become infinity.
    let layout = crate::scene::layout("times", r#"{"_id": "INT", "at": "TIMESTAMP"}"#);
    for millis in [TIMESTAMP_MILLIS.start - 1, TIMESTAMP_MILLIS.end, i64::MIN, i64::MAX] {
        let (load, mut sink) = begun(&scene, &session, &layout).await;
        let mut encoder = CopyEncoder::new(&layout);
        encoder.begin_document();
        encoder.row(Row {
            table: TableId(0),
            cells: &[Cell::Timestamp(millis), Cell::Integer(1)],
            extra: Extra::default(),
        });
        let error = sink.write(encoder.take()).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("22008"), "{millis}: {error:?}");
        load.abandon("test", false).await.unwrap();
    }
}

#[tokio::test]
async fn a_unit_is_written_whole_or_not_at_all() {
    let scene = Scene::prepared().await;
    let layout = layout("posts", r#"{"_id": "INT", "l": ["INT"]}"#);
    let session = scene.session().await;
    let (load, mut sink) = begun(&scene, &session, &layout).await;
    let reject = Reject {
        id: "{\"a\": \"\0\"}".to_owned(),
        reason: "why".to_owned(),
        document: vec![5, 0, 0, 0, 0],
        retry: None,
        is_unfit_key: false,
    };

    let mut good = encode(&layout, &[doc! {"_id": 1, "l": [1, 2]}]);
    good.rejects.push(reject.clone());
    let addresses: Vec<*const u8> = good.tables.iter().map(|data| data.bytes.as_ptr()).collect();
    let buffers = sink.write(good).await.unwrap();
    let counts = "SELECT (SELECT count(*) FROM gizer_new_posts) || ' ' || (SELECT count(*) FROM gizer_new_post_l) \
                  || ' ' || (SELECT count(*) FROM gizer_reject)";
    assert_eq!(scene.text(counts).await, "1 2 1");
    let mut encoder = CopyEncoder::new(&layout);
    encoder.reuse(buffers);
    encoder.begin_document();
    encoder.row(Row { table: TableId(0), cells: &[Cell::Integer(9)], extra: Extra::default() });
    assert!(addresses.contains(&encoder.take().tables[0].bytes.as_ptr()), "the buffers come back, and no copies");
    assert_eq!((sink.written().documents, sink.written().rejected, sink.written().ranges), (1, 1, 1));
    assert_eq!(sink.written().rows, [1, 2]);

    // The second table's data do not say what they hold: the first table's rows must not stay.
    let mut lying = encode(&layout, &[doc! {"_id": 2, "l": [1, 2]}]);
    lying.rejects.push(reject);
    lying.tables[1].rows += 1;
    let error = sink.write(lying).await.unwrap_err();
    assert!(
        matches!(&error, PgError::RowsDiffer { table, encoded: 3, copied: 2, .. } if table == "gizer_new_post_l"),
        "{error:?}"
    );
    assert_eq!(scene.text(counts).await, "1 2 1");
    assert!(sink.write(EncodedUnit::default()).await.is_ok());

    let kept = "SELECT collection || ' ' || id || ' ' || reason || ' ' || encode(document, 'hex') FROM gizer_reject";
    assert_eq!(scene.text(kept).await, r#"posts {"a": "\u0000"} why 0500000000"#);
    load.build_keys(&[], KeySettings::default()).await.unwrap();
    load.swap(&quick(), &Ledger::default(), None).await.unwrap();
    assert_eq!(scene.text("SELECT count(*) FROM gizer_reject").await, "1", "this load's own");
    scene.load(&layout, &[]).await.unwrap();
    assert_eq!(scene.text("SELECT count(*) FROM gizer_reject").await, "0", "those of earlier loads are gone");
}

#[tokio::test]
async fn a_unit_whose_writing_is_dropped_leaves_nothing() {
    let scene = Scene::prepared().await;
    let layout = layout("posts", r#"{"_id": "INT"}"#);
    let session = scene.session().await;
    let (_load, mut sink) = begun(&scene, &session, &layout).await;
    let documents: Vec<_> = (0..1000).map(|id| doc! {"_id": id}).collect();
    let mut dropped = 0;
    // From its beginning to about its end, in steps that timers are too coarse for.
    for step in 0..60 {
        let enough = async {
            let began = Instant::now();
            while began.elapsed() < step * Duration::from_micros(60) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = enough => dropped += 1,
            written = sink.write(encode(&layout, &documents)) => drop(written.unwrap()),
        }
        // The sink's next unit has nothing to do with it.
        sink.write(encode(&layout, &[doc! {"_id": -1}])).await.unwrap();
    }
    drop(sink);
    assert!(dropped > 0);
    let rows: u64 = scene.text("SELECT count(*) FROM gizer_new_posts WHERE id >= 0").await.parse().unwrap();
    assert_eq!(rows % 1000, 0, "a unit is whole or not there, whenever its writing ends: {rows}");
    assert_eq!(scene.text("SELECT count(*) FROM gizer_new_posts WHERE id < 0").await, "60");
}

#[tokio::test]
async fn a_row_that_is_too_big_is_told_with_what_helps() {
    let scene = Scene::new().await;
    let fields: Vec<String> = (0..1200).map(|field| format!(r#""f{field}": "DOUBLE""#)).collect();
    let wide = layout("wide", &format!(r#"{{"_id": "INT", {}}}"#, fields.join(", ")));
    let mut document = doc! {"_id": 1};
    document.extend((0..1200).map(|field| (format!("f{field}"), Bson::Double(1.5))));
    let error = scene.load(&wide, &[document]).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("54000"), "{error:?}");
    assert!(error.remedy().unwrap().contains("take fields out of the schema file"), "{error:?}");
}
