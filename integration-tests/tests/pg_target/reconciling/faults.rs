//! What goes wrong between writing and reading back is found, and named without values.

use bson::{Document, doc};
use gizer_flatten::RowPosition;
use gizer_pg::rows::{RowStore, WhichTables};
use gizer_verify::{Difference, Differing, Fault, VerifyError};

use super::{fresh, ids, in_transaction, rows};
use crate::scene::{Scene, layout};

const THINGS: &str = r#"{"$gizer": 1, "fields": {"_id": "STRING", "n": "INT", "big": "BIGINT", "d": "DOUBLE",
    "t": "TIMESTAMP", "s": "STRING", "dec": "DECIMAL", "b": "BINARY", "u": "UUID", "j": "JSON", "f": "BOOLEAN",
    "list": {"$as": "array", "$type": "INT"}, "a": [{"x": "INT", "y": ["STRING"]}]}}"#;

fn thing(id: &str, n: i32) -> Document {
    let binary = |subtype, bytes| bson::Binary { subtype, bytes };
    doc! {
        "_id": id, "n": n, "big": 1i64 << 53, "d": 0.0, "t": bson::DateTime::from_millis(0), "s": "secret",
        "dec": "1.50".parse::<bson::Decimal128>().unwrap(), "f": true, "list": [1, 2, 3],
        "b": binary(bson::spec::BinarySubtype::Generic, vec![1, 2, 3]),
        "u": binary(bson::spec::BinarySubtype::Uuid, vec![7; 16]),
        "j": {"a": [1, {"b": "secret"}], "c": bson::Bson::Null}, "unknown": "secret",
        "a": [{"x": n, "y": ["secret", "q"]}, {"x": n + 1, "y": ["r"]}],
    }
}

/// Writes something while a trigger runs `change` on each row that is written to `table`; what is found to differ.
async fn with_trigger(table: &str, change: &str) -> Box<Differing> {
    let scene = Scene::prepared().await;
    let things = layout("things", THINGS);
    let before = [thing("k1", 1), thing("k2", 1)];
    scene.load(&things, &before).await.unwrap();
    scene
        .sql(&format!(
            "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {change} END $$; \
             CREATE TRIGGER meddle BEFORE INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION meddle()"
        ))
        .await;
    let stored = rows(&scene, "public", &things).await;
    let session = scene.session().await;
    let mut store = RowStore::open(&session, &things, WhichTables::Live).await.unwrap();
    let after = [thing("k1", 5), thing("k3", 5)];
    let touched = [ids(&before), ids(&after)].concat();
    let error = in_transaction(&session, &mut store, &after, &touched).await.unwrap_err();
    assert_eq!(rows(&scene, "public", &things).await, stored, "rolled back");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("secret"), "{shown}");
    let VerifyError::Differs(differing) = error else { panic!("{error:?}") };
    // The store is as good as before.
    scene.sql(&format!("DROP TRIGGER meddle ON {table}")).await;
    let done = in_transaction(&session, &mut store, &after, &touched).await.unwrap();
    assert!(done.changes.total() > 0);
    differing
}

fn cell(differing: &Differing, named: &str) -> bool {
    differing.described.iter().any(|described| described == named)
}

#[tokio::test]
async fn a_cell_that_is_changed_on_its_way_is_found_in_every_type() {
    for (column, change) in [
        ("n", "NEW.n := NEW.n + 1"),
        ("big", "NEW.big := NEW.big - 1"),
        ("d", "NEW.d := '-0'"),
        ("d", "NEW.d := 5e-324"),
        ("t", "NEW.t := NEW.t + interval '1 microsecond'"),
        ("s", "NEW.s := NEW.s || ' '"),
        ("dec", "NEW.dec := 1.5"),
        ("dec", "NEW.dec := 1.51"),
        ("dec", "NEW.dec := 'NaN'"),
        ("b", "NEW.b := '\\x010204'"),
        ("u", "NEW.u := '07070707-0707-0707-0707-070707070708'"),
        ("j", "NEW.j := jsonb_set(NEW.j, '{a,1,b}', '\"x\"')"),
        ("f", "NEW.f := NOT NEW.f"),
        ("list", "NEW.list := '{1,2,4}'"),
        ("list", "NEW.list := '{1,2,3,NULL}'"),
        ("list", "NEW.list := '[0:2]={1,2,3}'"),
        ("list", "NEW.list := '{}'"),
        ("list", "NEW.list := NULL"),
        ("s", "NEW.s := NULL"),
        ("_extra", "NEW._extra := NULL"),
        ("_extra", "NEW._extra := NEW._extra || '{\"/more\": 1}'"),
    ] {
        let differing =
            with_trigger("things", &format!("IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; {change}; RETURN NEW;"))
                .await;
        assert!(cell(&differing, &format!("things, key k1: {column} differs")), "{change}: {:?}", differing.described);
        assert!(cell(&differing, &format!("things, key k3: {column} differs")), "{change}: {:?}", differing.described);
        assert_eq!(differing.verdict.differences.len(), 2);
    }
}

#[tokio::test]
async fn rows_that_are_lost_or_left_are_found() {
    // Nothing that is added or changed gets through.
    let lost = "IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NULL;";
    let differing = with_trigger("thing_a", lost).await;
    let fault = |key: &str, positions: &[i64], fault| {
        let table = gizer_schema::TableId(1);
        let positions = positions.iter().map(|index| RowPosition::Index(*index)).collect();
        Difference { table, key: key.to_owned(), positions, fault, values: None }
    };
    let x = layout("things", THINGS).tables[1].columns.iter().position(|column| column.name == "x").unwrap();
    let x = gizer_schema::ColumnId(x);
    assert_eq!(
        differing.verdict.differences,
        [
            fault("k1", &[1], Fault::Cell(x)),
            fault("k1", &[2], Fault::Cell(x)),
            fault("k3", &[1], Fault::Missing),
            fault("k3", &[2], Fault::Missing),
        ]
    );
    // Nothing that is deleted goes.
    let kept = "IF TG_OP = 'DELETE' THEN RETURN NULL; END IF; RETURN NEW;";
    let differing = with_trigger("thing_a_y", kept).await;
    assert_eq!(differing.described[0], "thing_a_y, key k2, position 1.1: the row is left over");
    assert_eq!(differing.described.len(), 3);
    assert!(differing.to_string().starts_with("things of 3: thing_a_y, key k2"), "{differing}");
}

/// The second writing removes them, and nothing adds them again.
#[tokio::test]
async fn rows_that_come_from_elsewhere_are_found_and_removed() {
    let scene = Scene::prepared().await;
    let things = layout("things", THINGS);
    scene.load(&things, &[thing("k1", 1)]).await.unwrap();
    let add = "CREATE FUNCTION add() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               INSERT INTO public.thing_a_y (things_id, things_a_idx, idx, y) VALUES (NEW.id, 7, 1, 'x'); RETURN NEW; END $$; \
               CREATE TRIGGER add BEFORE INSERT ON things FOR EACH ROW EXECUTE FUNCTION add()";
    scene.sql(add).await;
    let session = scene.session().await;
    let mut store = RowStore::open(&session, &things, WhichTables::Live).await.unwrap();
    let after = [thing("k1", 1), thing("k3", 5)];
    let done = in_transaction(&session, &mut store, &after, &ids(&after)).await.unwrap();
    assert_eq!((done.repaired, done.changes.tables[2].deleted), (1, 1));
    assert_eq!(rows(&scene, "public", &things).await, fresh(&scene, &things, &after).await);
}
