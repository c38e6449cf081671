//! Workers with a thread each, since most of an audit is comparing.

use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::pipeline::without_result;

/// Runs a worker for each input on a thread of its own, and returns what they give, in no order.
/// Dropping the future ends them.
///
/// Each thread has a runtime of its own: a connection that a worker opens is served by the thread
/// that waits for it. Handing every message over between threads took a fifth of the processor time
/// of a resync. Nothing that is tied to that runtime may be returned.
///
/// # Errors
/// The first worker's [`Failure`].
pub(crate) async fn on_threads<I, T, F>(
    inputs: Vec<I>,
    work: impl Fn(I) -> F + Clone + Send + 'static,
) -> Result<Vec<T>, Failure>
where
    I: Send + 'static,
    T: Send + 'static,
    F: Future<Output = Result<T, Failure>>,
{
    // Dropping this drops `going_on`, which ends the workers.
    let (going_on, _) = watch::channel(());
    let mut running = JoinSet::new();
    for input in inputs {
        let (work, mut stopped) = (work.clone(), going_on.subscribe());
        running.spawn_blocking(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| Failure::failed(format!("starting a worker: {error}")))?;
            runtime.block_on(async {
                tokio::select! {
                    done = work(input) => done,
                    _ = stopped.changed() => Err(Failure::failed("the audit was abandoned")),
                }
            })
        });
    }
    let mut all = Vec::new();
    while let Some(ended) = running.join_next().await {
        all.push(ended.map_err(|error| without_result("worker", &error))??);
    }
    Ok(all)
}
