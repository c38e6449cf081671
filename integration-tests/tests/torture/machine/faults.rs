//! What goes wrong, done.

use std::sync::Arc;
use std::time::Duration;

use bson::{Document, doc};
use integration_tests::rig::{Mongod, Postgres, Proxy, ProxyMode, Signal};
use mongodb::Database;
use mongodb::error::ErrorKind;

use super::perform::{Run, terminate};
use super::plan::{Ddl, Fault, Round, ServerFault, Side, Trouble};
use super::{clock, target};

/// The numbers of the signals: POSIX.
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// The proxies before all servers.
pub(super) struct Network {
    shards: Vec<Arc<Proxy>>,
    postgres: Arc<Proxy>,
}

impl Network {
    pub(super) fn before(shards: &[Mongod], postgres: &Postgres) -> Self {
        let proxy = |port| Arc::new(Proxy::start(port).unwrap());
        Self { shards: shards.iter().map(|shard| proxy(shard.port())).collect(), postgres: proxy(postgres.port()) }
    }

    /// A connection string that leads through the proxy of its server.
    pub(super) fn through(&self, uri: String) -> String {
        self.all().fold(uri, |uri, proxy| proxy.uri(&uri))
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Proxy>> {
        self.shards.iter().chain([&self.postgres])
    }

    fn proxy(&self, side: Side) -> Arc<Proxy> {
        Arc::clone(match side {
            Side::Mongo(shard) => &self.shards[shard],
            Side::Postgres => &self.postgres,
        })
    }

    /// From now on everything passes.
    pub(super) fn calm(&self) {
        self.all().for_each(|proxy| proxy.set(ProxyMode::Forward));
    }
}

impl Run<'_, '_> {
    pub(super) async fn fault(&mut self, fault: &Fault, round: &Round) {
        match fault {
            Fault::KillGizer(after) => self.end_gizer(Signal::Kill, *after, round).await,
            Fault::TerminateGizer(after) => self.end_gizer(Signal::Terminate, *after, round).await,
            Fault::Mongod(shard, fault) => self.break_shard(*shard, *fault).await,
            Fault::Postgres(fault) => {
                if *fault == ServerFault::Killed {
                    self.world.postgres.kill().unwrap();
                }
                self.world.postgres.restart().await.unwrap();
                self.wait_for_postgres().await;
            }
            Fault::Network(side, trouble) => self.trouble(*side, *trouble),
            Fault::Ddl(ddl) => {
                for database in &self.world.databases {
                    change_collections(database, ddl).await;
                }
            }
            Fault::Target(change) => target::change(self.world, change).await,
            Fault::Hold(collection, mode, time) => {
                let held = target::hold(self.world, collection, *mode, *time).await;
                self.passing.push(held);
            }
            Fault::Backend(fault) => target::end_sessions(self.world, *fault).await,
            Fault::Clock(seconds) => clock::step(self.world, *seconds),
        }
    }

    /// Ends the activity of the round after a while, whatever it is at, and starts it again.
    async fn end_gizer(&mut self, signal: Signal, after: Duration, round: &Round) {
        if self.gizer.is_none() {
            self.spawn(round, None);
        }
        // Any moment will do, also one after its end.
        tokio::time::sleep(after).await;
        if let Some(gizer) = self.gizer.take() {
            match signal {
                Signal::Terminate => self.expect_ended(&terminate(gizer).await, SIGTERM),
                _ => {
                    self.was_killed = true;
                    self.expect_ended(&gizer.kill().await.unwrap(), SIGKILL);
                }
            }
        }
        self.spawn(round, None);
    }

    async fn break_shard(&self, at: usize, fault: ServerFault) {
        let shard = self.world.shards[at];
        match fault {
            ServerFault::Restarted => shard.restart().await.unwrap(),
            ServerFault::Killed => {
                shard.kill().unwrap();
                shard.restart().await.unwrap();
            }
            ServerFault::SteppedDown => {
                let step_down = doc! { "replSetStepDown": 1, "secondaryCatchUpPeriodSecs": 0, "force": true };
                self.world.databases[at].client().database("admin").run_command(step_down).await.unwrap();
                shard.wait_until_primary().await.unwrap();
            }
        }
        self.world.wait_for_shards().await;
    }

    fn trouble(&mut self, side: Side, trouble: Trouble) {
        let proxy = self.network.proxy(side);
        let (mode, time) = match trouble {
            Trouble::Delay(delay) => (ProxyMode::Delay(delay), None),
            Trouble::Cut => return proxy.cut(),
            Trouble::CutAfter(bytes) => (ProxyMode::CutAfter(bytes), None),
            Trouble::Stall(time) => (ProxyMode::Stall, Some(time)),
            Trouble::StallAfter(bytes, time) => (ProxyMode::StallAfter(bytes), Some(time)),
            Trouble::Refuse(time) => (ProxyMode::Refuse, Some(time)),
        };
        proxy.set(mode);
        if let Some(time) = time {
            self.passing.push(tokio::spawn(async move {
                tokio::time::sleep(time).await;
                proxy.set(ProxyMode::Forward);
            }));
        }
    }
}

/// Does it on one shard. What is not there is left alone.
async fn change_collections(database: &Database, ddl: &Ddl) {
    let admin = database.client().database("admin");
    let done = match ddl {
        Ddl::Drop(collection) => database.run_command(doc! { "drop": collection }).await,
        Ddl::DropDatabase => database.run_command(doc! { "dropDatabase": 1 }).await,
        Ddl::Rename(collection) => {
            let away = format!("{collection}_away");
            let names = database.list_collection_names().await.unwrap();
            let (from, to) = if names.contains(&away) { (&away, collection) } else { (collection, &away) };
            let full = |name: &str| format!("{}.{name}", database.name());
            admin.run_command(doc! { "renameCollection": full(from), "to": full(to), "dropTarget": true }).await
        }
        Ddl::Out(collection) => {
            let stages = vec![doc! { "$sort": { "_id": 1 } }, doc! { "$limit": 15 }, doc! { "$out": collection }];
            let out = doc! { "aggregate": collection, "pipeline": stages, "cursor": {} };
            database.run_command(out).await
        }
        Ddl::Create => {
            let newcomer = database.collection::<Document>("newcomer");
            newcomer.insert_one(doc! { "n": 1 }).await.unwrap();
            database.run_command(doc! { "collMod": "newcomer", "validationLevel": "off" }).await
        }
    };
    if let Err(error) = done {
        // It was dropped before, or renamed.
        const NAMESPACE_NOT_FOUND: i32 = 26;
        let is_known = matches!(&*error.kind, ErrorKind::Command(command) if command.code == NAMESPACE_NOT_FOUND);
        assert!(is_known, "{ddl:?}: {error}");
    }
}
