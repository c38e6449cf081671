//! A document that PostgreSQL refuses is rejected, and nothing else is (S2, S3, S4).

use bson::{Document, doc};
use serde_json::json;

use super::place::Place;

fn documents(ids: std::ops::RangeInclusive<i32>) -> Vec<Document> {
    ids.map(|id| doc! { "_id": id, "s": format!("s{id}"), "n": 5, "tags": ["x", "y"] }).collect()
}

/// Hexadecimal digits that do not compress to much less.
fn random_digits(count: usize) -> String {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut digit = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from_digit((state >> 32) as u32 & 15, 16).unwrap()
    };
    (0..count).map(|_| digit()).collect()
}

#[tokio::test]
async fn s2_a_value_too_large_for_an_index_is_its_document_s_trouble() {
    let place = Place::new(documents(1..=50)).await;
    place.sql("CREATE INDEX a_s ON a (s)").await;
    place.set(7, doc! { "s": random_digits(8_000), "tags": ["z"] }).await;
    for id in 51..=99 {
        place.insert(doc! { "_id": id, "s": "short", "n": 1, "tags": [] }).await;
    }
    place.write_others(100..120).await;
    let finished = place.run(&["sync"]).await.expect_code(0);
    assert!(finished.stdout.contains("1 document rejected"), "{}", finished.stdout);
    let told = "a: 1 document rejected: PostgreSQL: index row size";
    assert!(finished.stderr.contains(told) && finished.stderr.contains("a_s"), "{}", finished.stderr);
    assert_eq!(place.rejected().await, json!([{ "id": "{\"$numberInt\":\"7\"}", "sqlstate": "54000" }]));
    assert_eq!(place.rows("SELECT 1 FROM a_tags WHERE a_id = 7").await, json!([]));
    place.judge().await;
    place.run(&["verify"]).await.expect_code(0);
    // A later version of it is taken.
    place.set(7, doc! { "s": "short again" }).await;
    let report = place.sync().await;
    assert_eq!((&report["rejected"], &report["no_longer_rejected"]), (&json!(0), &json!(1)), "{report}");
    assert_eq!(place.rejected().await, json!([]));
    place.judge().await;
}

#[tokio::test]
async fn s3_a_row_too_large_for_a_page_is_its_document_s_trouble() {
    let wide = |id: i32, fields: std::ops::Range<i32>| {
        let mut document = doc! { "_id": id };
        document.extend(fields.map(|n| (format!("f{n}"), bson::Bson::Int64(1 << 40))));
        document
    };
    let place = Place::new(vec![wide(1, 0..700), wide(2, 700..1_400)]).await;
    place.insert(wide(3, 0..1_400)).await;
    place.insert(wide(4, 300..900)).await;
    place.write_others(100..103).await;
    assert_eq!(place.sync().await["rejected"], json!(1));
    assert_eq!(place.rejected().await, json!([{ "id": "{\"$numberInt\":\"3\"}", "sqlstate": "54000" }]));
    place.judge().await;
    place.delete(3).await;
    assert_eq!(place.sync().await["no_longer_rejected"], json!(1));
    assert_eq!(place.rejected().await, json!([]));
    place.judge().await;
}

/// What a constraint or a trigger says, by the code that its refusal has.
#[tokio::test]
async fn s4_what_constraints_and_triggers_refuse_is_their_document_s_trouble() {
    let trigger = "CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                       IF NEW.s LIKE 'bad%' THEN RAISE 'no % here', NEW.s; END IF; RETURN NEW; END $$; \
                   CREATE TRIGGER no BEFORE INSERT OR UPDATE ON a FOR EACH ROW EXECUTE FUNCTION no()";
    let foreign = "CREATE TABLE known (s text PRIMARY KEY); \
                   INSERT INTO known SELECT s FROM a UNION SELECT 'good' UNION SELECT 'e' || n FROM generate_series(1, 40) n; \
                   ALTER TABLE a ADD FOREIGN KEY (s) REFERENCES known";
    let not_null =
        "ALTER TABLE a ADD long int GENERATED ALWAYS AS (CASE WHEN s LIKE 'bad%' THEN NULL ELSE 1 END) STORED NOT NULL";
    for (constraint, code) in [
        (not_null, "23502"),
        ("ALTER TABLE a ADD CONSTRAINT good CHECK (s NOT LIKE 'bad%')", "23514"),
        (foreign, "23503"),
        (trigger, "P0001"),
    ] {
        let place = Place::new(documents(1..=9)).await;
        place.sql(constraint).await;
        place.set(3, doc! { "s": "bad, and secret" }).await;
        for id in 20..60 {
            let s = if id == 33 { "bad too".to_owned() } else { format!("e{}", id - 19) };
            place.insert(doc! { "_id": id, "s": s, "n": 1, "tags": ["z"] }).await;
        }
        place.write_others(100..103).await;
        let finished = place.run(&["sync"]).await.expect_code(0);
        assert!(finished.stdout.contains("2 documents rejected"), "{code}: {}", finished.stdout);
        assert!(finished.stderr.contains(code) && !finished.stderr.contains("secret"), "{code}: {}", finished.stderr);
        let both = json!([
            { "id": "{\"$numberInt\":\"3\"}", "sqlstate": code },
            { "id": "{\"$numberInt\":\"33\"}", "sqlstate": code },
        ]);
        assert_eq!(place.rejected().await, both);
        place.judge_one("b").await;
        place.run(&["verify"]).await.expect_code(0);
        place.set(3, doc! { "s": "good" }).await;
        place.delete(33).await;
        place.sync().await;
        assert_eq!(place.rejected().await, json!([]), "{code}");
        place.sql("ALTER TABLE a DROP COLUMN IF EXISTS long").await;
        place.judge().await;
    }
}
