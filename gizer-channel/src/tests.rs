use super::*;
use std::thread;
use std::time::Duration;

/// A limit on waiting, so that a fault shows as a failure and not as a hang.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap_or_else(|_| panic!("{what} took too long"))
}

#[tokio::test]
async fn everything_sent_is_received_once_by_some_thread() {
    let (sender, receiver) = to_threads::<u64>(&Budget::new(16 * 1024));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let receiver = receiver.clone();
            thread::spawn(move || std::iter::from_fn(|| receiver.recv().map(|held| *held)).collect::<Vec<u64>>())
        })
        .collect();
    drop(receiver);
    for item in 0..1000 {
        within("sending", sender.send(item, 1024)).await.unwrap();
    }
    drop(sender);
    let mut all: Vec<u64> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_held_counts_until_it_is_dropped() {
    let budget = Budget::new(10 * 1024);
    let (sender, receiver) = to_tokio::<&str>(&budget);
    let second = sender.clone();
    thread::spawn(move || sender.send("a", 8 * 1024)).join().unwrap().unwrap();
    let held = within("receiving", receiver.recv()).await.unwrap();
    assert_eq!(*held, "a");
    assert_eq!(budget.available(), 2 * 1024);
    let waiting = thread::spawn(move || second.send("b", 8 * 1024));
    assert!(
        tokio::time::timeout(Duration::from_millis(50), receiver.recv()).await.is_err(),
        "the second item passed although the budget was spent"
    );
    drop(held);
    assert_eq!(*within("receiving", receiver.recv()).await.unwrap(), "b");
    waiting.join().unwrap().unwrap();
    assert!(within("the end", receiver.recv()).await.is_none());
    assert_eq!(budget.available(), 10 * 1024);
}

#[tokio::test]
async fn an_item_larger_than_the_budget_passes_alone() {
    let budget = Budget::new(4 * 1024);
    let (sender, receiver) = to_threads::<u8>(&budget);
    within("sending", sender.send(1, 1 << 30)).await.unwrap();
    assert_eq!(budget.available(), 0);
    let held = tokio::task::spawn_blocking(move || receiver.recv().unwrap());
    drop(within("receiving", held).await.unwrap());
    assert_eq!(budget.available(), 4 * 1024);
}

#[tokio::test]
async fn a_sender_that_waits_learns_that_nobody_receives() {
    let budget = Budget::new(1024);
    let (sender, receiver) = to_threads::<u8>(&budget);
    sender.send(1, 1024).await.unwrap();
    let waiting = tokio::spawn(async move { sender.send(2, 1024).await });
    tokio::task::yield_now().await;
    drop(receiver);
    assert_eq!(within("the refusal", waiting).await.unwrap(), Err(Closed(2)));

    let (sender, receiver) = to_tokio::<u8>(&Budget::new(1024));
    drop(receiver);
    let refused = thread::spawn(move || sender.send(7, 1)).join().unwrap();
    assert_eq!(refused, Err(Closed(7)));
}
