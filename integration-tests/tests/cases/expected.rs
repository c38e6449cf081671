//! What is expected to be copied is known, and told until it is there.

mod appearing;
mod changed;
mod choosing;
mod interrupted;
mod keys;
mod paused;

use integration_tests::rig::Version;

use crate::place::{Place, numbered};

/// Orders and posts, five of each, followed.
async fn two_collections() -> Place {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(5)).await;
    place.insert("posts", numbered(5)).await;
    place.gizer(&["run"]).await.expect_code(0);
    place
}

async fn rows(place: &Place, table: &str) -> i64 {
    place.number(&format!("SELECT count(*) FROM {table}")).await
}
