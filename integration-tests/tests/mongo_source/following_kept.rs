//! What was kept of an oplog aside is read before the log itself, and is one with it.

use std::error::Error;

use bson::{Document, doc};
use gizer_cli::config::Config;
use gizer_engine::Servers;
use gizer_engine::spool::Capture;
use gizer_flatten::change::Positions;
use gizer_oplog::OplogPosition;
use gizer_oplog::spool::{SpoolIdentity, SpoolReader};
use gizer_oplog::{KeptInFile, KeptLog, Oplog, OplogChanges, newest_positions};
use integration_tests::rig::{Mongod, Version, wait_until};

use super::following::{Followed, Spilling, all_of, majority, prepare};
use super::tail::{only_oplog, roll_over, small_log};
use super::{LIMIT, Outcome};

/// The log itself is read only behind the end of the spool, and what lies before the position is known.
#[tokio::test]
async fn what_was_kept_aside_is_read_first_and_the_log_from_there_on() -> Outcome {
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
    majority(&orders, "kept").await?;
    let kept = newest_positions(&oplogs).await?;
    wait_until("the capture to catch up", LIMIT, async || capture.reached()["rs0"] >= kept["rs0"]).await?;
    let start = capture.start_positions();
    assert!(start["rs0"] < t0["rs0"], "it begins before the transaction");
    capture.stop().await?;
    majority(&orders, "logged").await?;
    let end = newest_positions(&oplogs).await?;

    let identity = SpoolIdentity { owner: "127.0.0.1:1/app copy".into(), shard: "rs0".into(), database: "shop".into() };
    let file = folder.path().join("spool").join(identity.file_name());
    let open = async |from: &Positions| {
        let reader = SpoolReader::open(&file, &identity, OplogPosition::of(&start["rs0"]).unwrap())?;
        assert!(reader.is_some(), "no spool");
        let mut kept = reader.map(|reader| Box::new(KeptInFile::new("rs0", reader)) as Box<dyn KeptLog>);
        let mut source =
            OplogChanges::open_with_spools(&oplogs, |_| kept.take(), from, all_of("shop"), spilling.options()).await?;
        let mut followed = Followed::default();
        followed.until(&mut source, &end).await?;
        Ok::<Followed, Box<dyn Error>>(followed)
    };
    let followed = open(&t0).await?;
    let ids = (0..10).map(|id| id.to_string());
    let expected: Vec<String> = ids.chain(["prepared", "kept", "logged"].map(|id| format!("{id:?}"))).collect();
    assert_eq!(followed.inserted(), expected);
    // It was under way at the beginning, so no watermark came before its commit.
    assert_eq!(followed.watermarks.iter().map(|(given, ..)| *given).min(), Some(11));
    // A position behind the end of the spool.
    assert_eq!(open(&kept).await?.inserted(), ["\"logged\""]);
    let mut before = start.clone();
    before.insert("rs0".to_owned(), OplogPosition::default().into());
    let error = open(&before).await.err().ok_or("a position before the spool")?;
    assert!(error.to_string().contains("begins at"), "{error}");
    Ok(())
}

/// What was kept had an end when it was opened; when that is read, the log no longer goes on from there, but more was kept.
#[tokio::test]
async fn a_log_that_rolls_over_behind_the_end_of_what_was_kept_is_read_from_what_is_kept_since() -> Outcome {
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
    majority(&orders, "kept").await?;
    caught_up(&newest_positions(&oplogs).await?).await?;
    let mut kept = capture.readers(&t0).await?;
    majority(&orders, "kept since").await?;
    let since = newest_positions(&oplogs).await?;
    caught_up(&since).await?;
    roll_over(&client, &oplogs[0], OplogPosition::of(&since["rs0"]).unwrap()).await?;
    majority(&orders, "logged").await?;
    let end = newest_positions(&oplogs).await?;

    let spools = |oplog: &Oplog| kept.remove(oplog.name());
    let mut source = OplogChanges::open_with_spools(&oplogs, spools, &t0, all_of("shop"), spilling.options()).await?;
    let mut followed = Followed::default();
    followed.until(&mut source, &end).await?;
    assert_eq!(followed.inserted(), ["kept", "kept since", "logged"].map(|id| format!("{id:?}")));

    // A capture that has ended keeps nothing more.
    let mut kept = capture.readers(&t0).await?;
    capture.stop().await?;
    roll_over(&client, &oplogs[0], OplogPosition::of(&end["rs0"]).unwrap()).await?;
    let end = newest_positions(&oplogs).await?;
    let spools = |oplog: &Oplog| kept.remove(oplog.name());
    let mut source = OplogChanges::open_with_spools(&oplogs, spools, &t0, all_of("shop"), spilling.options()).await?;
    let mut followed = Followed::default();
    let error = followed.until(&mut source, &end).await.expect_err("nothing is lost unseen");
    assert!(error.to_string().contains("has rolled over"), "{error}");
    assert_eq!(followed.inserted().len(), 3);
    Ok(())
}
