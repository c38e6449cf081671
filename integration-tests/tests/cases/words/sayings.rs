//! Nothing is called equal that nobody has compared.

use bson::doc;
use integration_tests::rig::Version;

use crate::place::{Place, numbered};

#[tokio::test]
async fn o8_only_what_was_compared_is_called_so() {
    let place = Place::shared(Version::V6_0).await;
    place.schema_file(
        "n.json",
        r#"{"$gizer": 1, "collection": "n", "fields": {"_id": "INT", "text": "STRING", "list": ["INT"]}}"#,
    );
    place.insert("n", numbered(10)).await;
    place.gizer(&["load"]).await.expect_code(0);
    place.gizer(&["sync"]).await.expect_code(0);
    place.postgres.batch_execute("DELETE FROM n WHERE id < 5; DELETE FROM n_list WHERE n_id < 5").await.unwrap();

    // Nothing has changed: nothing is compared, and nothing called equal.
    let idle = place.gizer(&["sync"]).await.expect_code(0).stdout;
    assert!(
        idle.starts_with("up to date as of rs0 20") && idle.ends_with("Z\n") && idle.lines().count() == 1,
        "{idle}"
    );
    // One document of those that are still there has changed: that one is compared.
    place
        .mongo
        .collection::<bson::Document>("n")
        .update_one(doc! {"_id": 7}, doc! {"$set": {"text": "x"}})
        .await
        .unwrap();
    let one = place.gizer(&["sync"]).await.expect_code(0).stdout;
    assert!(one.starts_with("1 change (1 update) of 1 document applied in 1 batch: 0 rows added, 1 changed, 0 deleted; 1 document compared; "), "{one}");
    let off = {
        place
            .mongo
            .collection::<bson::Document>("n")
            .update_one(doc! {"_id": 8}, doc! {"$set": {"text": "x"}})
            .await
            .unwrap();
        place.gizer(&["sync", "--verify-mode", "off"]).await.expect_code(0).stdout
    };
    let status = place.gizer(&["status"]).await.expect_code(0).stdout;
    let run = place.gizer(&["run"]).await.expect_code(0).stdout;
    assert!(!off.contains("compared"), "{off}");
    for said in [&idle, &one, &off, &status, &run] {
        assert!(!said.to_lowercase().contains("equal") && !said.contains("Timestamp("), "{said}");
    }
    // What was not compared is found by who compares it, and by nobody called equal before.
    place.gizer(&["verify"]).await.expect_code(4);
    let repaired = place.gizer(&["verify", "--repair"]).await.expect_code(0).stdout;
    assert!(repaired.contains("n: all documents compared, as of 20"), "{repaired}");
    assert_eq!(place.number("SELECT count(*) FROM n").await, 10);
}

#[tokio::test]
async fn o8_equal_does_not_mean_the_rejected() {
    let place = Place::shared(Version::V6_0).await;
    place.schema_file("n.json", r#"{"$gizer": 1, "collection": "n", "fields": {"_id": "INT"}}"#);
    place.insert("n", [doc! {"_id": 1}]).await;
    place.gizer(&["load"]).await.expect_code(0);
    place.insert("n", [doc! {"_id": "one"}]).await;
    place.gizer(&["sync"]).await;
    let verified = place.gizer(&["verify"]).await;
    assert!(verified.stdout.contains("equal, but for those rejected"), "{verified:?}");
}
