//! Readers that poll while tables are swapped: none may see an error, or rows of two generations.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use integration_tests::rig::wait_until;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::scene::{LIMIT, Scene};

/// What one reader has seen.
#[derive(Default)]
struct Seen {
    generation: AtomicI64,
    /// Since it saw this generation first.
    reads: AtomicU64,
    all_reads: AtomicU64,
}

pub(crate) struct Readers {
    stop: Arc<AtomicBool>,
    readers: Vec<(Arc<Seen>, JoinHandle<()>)>,
}

/// How often each of them reads each generation.
const READS: u64 = 20;

impl Readers {
    /// Two readers for each statement: one has prepared it long ago, the other sends it anew each time. A statement gives
    /// the number of rows, which is always `rows`, and then generations.
    pub(crate) async fn start(scene: &Scene, statements: &[&'static str], rows: i64) -> Readers {
        let stop = Arc::new(AtomicBool::new(false));
        let mut readers = Vec::new();
        for statement in statements {
            for prepared in [true, false] {
                let seen = Arc::new(Seen::default());
                let client = scene.client().await;
                let read = read_until(Arc::clone(&stop), Arc::clone(&seen), client, statement, prepared, rows);
                readers.push((seen, tokio::spawn(read)));
            }
        }
        Readers { stop, readers }
    }

    /// Waits until all of them have read this generation several times.
    pub(crate) async fn have_seen(&self, generation: i32) {
        for (seen, reader) in &self.readers {
            let arrived = async || {
                reader.is_finished()
                    || seen.generation.load(Ordering::SeqCst) >= generation.into()
                        && seen.reads.load(Ordering::SeqCst) >= READS
            };
            wait_until("the readers to see the new load", LIMIT, arrived).await.unwrap();
        }
    }

    /// Fails if any reader has; gives how often they have read.
    pub(crate) async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        let mut reads = 0;
        for (seen, reader) in self.readers {
            reader.await.unwrap();
            reads += seen.all_reads.load(Ordering::SeqCst);
        }
        reads
    }
}

async fn read_until(
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
    client: Client,
    statement: &str,
    prepared: bool,
    rows: i64,
) {
    let long_ago = client.prepare(statement).await.unwrap();
    while !stop.load(Ordering::SeqCst) {
        let row =
            if prepared { client.query_one(&long_ago, &[]).await } else { client.query_one(statement, &[]).await };
        let row = row.expect("a reader never sees an error");
        assert_eq!(row.get::<_, i64>(0), rows, "a reader never sees half a load: {statement}");
        let generations: Vec<i32> = (1..row.len()).map(|column| row.get(column)).collect();
        let generation = generations[0];
        assert!(generations.iter().all(|g| *g == generation), "a reader never sees a mixture: {generations:?}");
        let last = seen.generation.load(Ordering::SeqCst);
        assert!(last <= generation.into(), "a reader never goes back: {generation} after {last}");
        if last < generation.into() {
            seen.reads.store(0, Ordering::SeqCst);
            seen.generation.store(generation.into(), Ordering::SeqCst);
        }
        seen.reads.fetch_add(1, Ordering::SeqCst);
        seen.all_reads.fetch_add(1, Ordering::SeqCst);
    }
}
