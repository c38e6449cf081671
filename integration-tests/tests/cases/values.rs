//! Values that were stored in a form of their own.

use bson::spec::BinarySubtype;
use bson::{Binary, doc};
use integration_tests::rig::Version;

use crate::place::{Place, assert_says};

mod oplogs;
mod uris;

/// The old subtype of binary is kept as canonical Extended JSON; what earlier versions have kept is a difference, which a
/// repair puts right.
#[tokio::test]
async fn m2_old_binary_is_canonical_extended_json() {
    let place = Place::shared(Version::V6_0).await;
    place.schema_file("blobs.json", r#"{"$gizer": 1, "fields": {"_id": "INT", "j": {"$as": "json"}}}"#);
    let binary = |subtype| Binary { subtype, bytes: b"abc".to_vec() };
    let old = binary(BinarySubtype::BinaryOld);
    place.insert("blobs", [doc! {"_id": 1, "o": old.clone(), "m": binary(BinarySubtype::Md5), "j": {"o": old}}]).await;
    place.gizer(&["run"]).await.expect_code(0);
    let rows = place.rows("SELECT _extra, j FROM blobs").await;
    let canonical = "SELECT coalesce((_extra->'/o' = v('02'))::int, 0)::bigint + (_extra->'/m' = v('05'))::int \
                     + (j->'o' = v('02'))::int FROM blobs";
    let value = "CREATE FUNCTION v(text) RETURNS jsonb LANGUAGE sql AS \
                 $$SELECT jsonb_build_object('$binary', jsonb_build_object('base64', 'YWJj', 'subType', $1))$$";
    place.postgres.batch_execute(value).await.unwrap();
    assert_eq!(place.number(canonical).await, 3, "{rows:?}");
    place.gizer(&["verify"]).await.expect_code(0);

    let before = "UPDATE blobs SET _extra = jsonb_set(_extra, '{/o,$binary,base64}', '\"AwAAAGFiYw==\"')";
    assert_eq!(place.postgres.execute(before, &[]).await.unwrap(), 1);
    assert_says(&place.gizer(&["verify"]).await, 4, &[]);
    place.gizer(&["verify", "--repair"]).await.expect_code(0);
    assert_eq!(place.number(canonical).await, 3);
    place.gizer(&["verify"]).await.expect_code(0);
}
