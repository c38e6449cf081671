//! Documents kept aside: those of the live tables stay, those of failed loads do not pile up.

use bson::doc;
use gizer_pg::copy::Reject;
use gizer_pg::load::{KeySettings, Load, RangeSink};
use gizer_pg::state::{Ledger, read_status};

use crate::scene::{Scene, encode, followable, layout, quick, request};

const KEPT: &str = "SELECT id FROM gizer_reject ORDER BY id";

/// A load that rejects one document of this id, and is swapped in or not.
async fn load(scene: &Scene, id: &str, swapped_in: bool) {
    let posts = layout("posts", r#"{"_id": "INT"}"#);
    let session = scene.session().await;
    let load = Load::begin(&session, request(&posts, followable(1))).await.unwrap();
    let mut sink = load.sink(scene.session().await).unwrap();
    let mut unit = encode(&posts, &[doc! {"_id": 1}]);
    unit.rejects.push(Reject {
        id: id.to_owned(),
        reason: "why".to_owned(),
        document: vec![5, 0, 0, 0, 0],
        retry: None,
        is_unfit_key: false,
    });
    sink.write(unit).await.unwrap();
    if swapped_in {
        load.build_keys(&[], KeySettings::default()).await.unwrap();
        let ledger = Ledger { read: 2, loaded: 1, rejected: 1, ..Ledger::default() };
        load.swap(&quick(), &ledger, None).await.unwrap();
    } else {
        load.abandon("too many rejected", false).await.unwrap();
    }
}

async fn rejected(scene: &Scene) -> u64 {
    read_status(&scene.session().await, 0).await.unwrap().unwrap().collections[0].rejected
}

#[tokio::test]
async fn what_failed_loads_kept_aside_goes_with_the_next() {
    let scene = Scene::prepared().await;
    load(&scene, "failed 1", false).await;
    assert_eq!(scene.texts(KEPT).await, ["failed 1"], "there to be looked at");
    assert_eq!(rejected(&scene).await, 0, "no live table lacks it");
    load(&scene, "failed 2", false).await;
    assert_eq!(scene.texts(KEPT).await, ["failed 2"]);
    load(&scene, "live 3", true).await;
    assert_eq!(scene.texts(KEPT).await, ["live 3"]);
    for id in ["failed 4", "failed 5"] {
        load(&scene, id, false).await;
        assert_eq!(scene.texts(KEPT).await, [id, "live 3"]);
        assert_eq!(rejected(&scene).await, 1);
    }
    load(&scene, "live 6", true).await;
    assert_eq!(scene.texts(KEPT).await, ["live 6"]);
    assert_eq!(rejected(&scene).await, 1);
}

#[tokio::test]
async fn rejects_of_a_schema_that_an_older_version_prepared_are_kept() {
    let scene = Scene::prepared().await;
    load(&scene, "live", true).await;
    scene.sql("ALTER TABLE gizer_collection DROP COLUMN live_epoch").await;
    assert_eq!(rejected(&scene).await, 1);
    gizer_pg::state::prepare(&scene.session().await).await.unwrap();
    load(&scene, "failed", false).await;
    assert_eq!(scene.texts(KEPT).await, ["failed", "live"]);
    load(&scene, "live", true).await;
    assert_eq!(scene.texts(KEPT).await, ["live"]);
    assert_eq!(rejected(&scene).await, 1);
}
