//! What was spooled is read before the log itself, and is one with it.

use std::error::Error;

use bson::{Document, doc};
use gizer_cli::config::Config;
use gizer_engine::Servers;
use gizer_engine::spool::Capture;
use gizer_flatten::change::Positions;
use gizer_oplog::{ChangeSource, OplogPosition, newest_positions};
use integration_tests::rig::{Mongod, Version, wait_until};

use super::following::{Followed, Spilling, all_of, majority, prepare};
use super::tail::{only_oplog, roll_over, small_log};
use super::{LIMIT, Outcome};

/// The log itself is read only behind the end of the spool, and what lies before the position is known.
#[tokio::test]
async fn what_was_spooled_is_read_first_and_the_log_from_there_on() -> Outcome {
    let mongod = Mongod::builder(Version::V6_0).set_parameter("enableTestCommands", "1").start().await?;
    let (client, spilling) = (mongod.client().await?, Spilling::new()?);
    let orders = client.database("shop").collection::<Document>("orders");
    majority(&orders, "before").await?;
    let oplogs = [only_oplog(&mongod.uri()).await?];
    let (mut session, time) = prepare(&client, &orders, "prepared").await?;
    majority(&orders, "beside").await?;

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("gizer.toml");
    let target = "postgresql://user:secret@127.0.0.1:1/app";
    let uri = mongod.uri();
    let text =
        format!("[mongo]\nuri = {uri:?}\ndatabase = \"shop\"\n[postgres]\nuri = {target:?}\nschema = \"copy\"\n");
    std::fs::write(&path, text)?;
    let config = Config::read(Some(&path), |_| Vec::new(), |_| None)?;
    let capture = Capture::start(config.spools()?, &oplogs, None).await?;
    let t0 = capture.t0().clone();
    for id in 0..10 {
        majority(&orders, id).await?;
    }
    let commit = doc! { "commitTransaction": 1, "commitTimestamp": time };
    client.database("admin").run_command(commit).session(&mut session).await?;
    majority(&orders, "spooled").await?;
    let kept = newest_positions(&oplogs).await?;
    wait_until("the capture to catch up", LIMIT, async || capture.reached()["rs0"] >= kept["rs0"]).await?;
    let start = capture.start_positions().clone();
    assert!(start["rs0"] < t0["rs0"], "it begins before the transaction");
    majority(&orders, "logged").await?;
    let end = newest_positions(&oplogs).await?;

    let open = async |from: &Positions| {
        let mut source = capture.changes(&oplogs, from, all_of("shop"), spilling.options()).await?;
        let mut followed = Followed::default();
        followed.until(&mut source, &end).await?;
        Ok::<Followed, Box<dyn Error>>(followed)
    };
    let followed = open(&t0).await?;
    let ids = (0..10).map(|id| id.to_string());
    let expected: Vec<String> = ids.chain(["prepared", "spooled", "logged"].map(|id| format!("{id:?}"))).collect();
    assert_eq!(followed.inserted(), expected);
    // It was under way at the beginning, so no watermark came before its commit.
    assert_eq!(followed.watermarks.iter().map(|(given, ..)| *given).min(), Some(11));
    // A position behind the end of the spool.
    assert_eq!(open(&kept).await?.inserted(), ["\"logged\""]);
    // From before the spool all is read from the log.
    let first = Positions::from([("rs0".to_owned(), oplogs[0].oldest().await?.into())]);
    let mut all = vec!["\"before\"".to_owned()];
    all.extend(expected);
    // What was prepared is given with its commit, and what was written before that comes before it.
    assert_eq!(open(&first).await?.inserted().len(), all.len() + 1);
    // Nothing of what was written down is lost with the capture, and it begins where it did.
    capture.stop().await?;
    let capture = Capture::start(config.spools()?, &oplogs, Some(&t0)).await?;
    assert_eq!(*capture.start_positions(), start);
    Ok(())
}

/// When the end of the spool is read, the log no longer goes on from there, but more was spooled.
#[tokio::test]
async fn a_log_that_rolls_over_behind_the_end_of_the_spool_is_read_from_what_is_spooled_since() -> Outcome {
    let mongod = small_log(Version::V6_0).start().await?;
    let (client, spilling) = (mongod.client().await?, Spilling::new()?);
    let orders = client.database("shop").collection::<Document>("orders");
    majority(&orders, "before").await?;
    let oplogs = [only_oplog(&mongod.uri()).await?];
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("gizer.toml");
    let (uri, target) = (mongod.uri(), "postgresql://user:secret@127.0.0.1:1/app");
    std::fs::write(&path, format!("[mongo]\nuri = {uri:?}\ndatabase = \"shop\"\n[postgres]\nuri = {target:?}\n"))?;
    let config = Config::read(Some(&path), |_| Vec::new(), |_| None)?;
    let capture = Capture::start(config.spools()?, &oplogs, None).await?;
    let t0 = capture.t0().clone();
    let caught_up = async |to: &Positions| {
        wait_until("the capture to catch up", LIMIT, async || capture.reached()["rs0"] >= to["rs0"]).await
    };
    majority(&orders, "spooled").await?;
    caught_up(&newest_positions(&oplogs).await?).await?;
    let mut source = capture.changes(&oplogs, &t0, all_of("shop"), spilling.options()).await?;
    let mut followed = Followed::default();
    followed.take(source.next().await?);
    majority(&orders, "spooled since").await?;
    let since = newest_positions(&oplogs).await?;
    caught_up(&since).await?;
    roll_over(&client, &oplogs[0], OplogPosition::of(&since["rs0"]).unwrap()).await?;
    majority(&orders, "logged").await?;
    let end = newest_positions(&oplogs).await?;

    followed.until(&mut source, &end).await?;
    assert_eq!(followed.inserted(), ["spooled", "spooled since", "logged"].map(|id| format!("{id:?}")));

    // A capture that has ended spools nothing more.
    caught_up(&end).await?;
    let mut source = capture.changes(&oplogs, &t0, all_of("shop"), spilling.options()).await?;
    capture.stop().await?;
    roll_over(&client, &oplogs[0], OplogPosition::of(&end["rs0"]).unwrap()).await?;
    let end = newest_positions(&oplogs).await?;
    let mut followed = Followed::default();
    let error = followed.until(&mut source, &end).await.expect_err("nothing is lost unseen");
    assert!(error.to_string().contains("has rolled over"), "{error}");
    assert_eq!(followed.inserted().len(), 3);
    Ok(())
}
