//! A transaction that is larger than what may be kept in memory.

use std::process::Command;

use bson::{Timestamp, doc};
use bytes::Bytes;
use futures::FutureExt;
use gizer_flatten::DocumentBatch;

use super::super::FollowOptions;
use super::super::log::RawLog;
use super::super::merge::MergedLog;
use super::super::spill::SpillFile;
use super::super::transactions::OpenTransactions;
use super::log::{MANY, TERM, at, insert, orders, place};
use crate::changes::ChangeEvent;
use crate::error::MongoError;
use crate::position::OplogPosition;
use crate::tail::OplogBatch;

/// Pieces of a transaction, each as large as the server makes them: 1 GiB in all.
const PIECES: u32 = 64;
const PIECE_BYTES: usize = 16 << 20;

/// Set in the process that is measured.
const MEASURED: &str = "GIZER_TEST_MEASURED";

/// Makes each entry as it is asked for.
struct Generated {
    operations: Vec<u8>,
    given: u32,
}

impl Generated {
    fn new() -> Generated {
        let mut operation = insert("orders", 1);
        operation.get_document_mut("o").unwrap().insert("padding", "x".repeat(4_000));
        let operation = operation.to_vec().unwrap();
        // An array as the BSON specification lays it out: length, elements named by their numbers, a zero.
        let mut operations = vec![0; 4];
        operations.reserve_exact(PIECE_BYTES + 8_192);
        for number in 0.. {
            operations.extend_from_slice(format!("\u{3}{number}\0").as_bytes());
            operations.extend_from_slice(&operation);
            if operations.len() > PIECE_BYTES {
                break;
            }
        }
        operations.push(0);
        let length = operations.len() as i32;
        operations[..4].copy_from_slice(&length.to_le_bytes());
        Generated { operations, given: 0 }
    }

    fn per_piece(&self) -> usize {
        DocumentBatch::from_array(Bytes::from(self.operations.clone()), 0).unwrap().len()
    }

    fn entry(&self, tick: u32) -> Vec<u8> {
        let ts = |tick| Timestamp { time: tick, increment: u32::from(tick > 0) };
        let mut flag = doc! {};
        if tick < PIECES {
            flag.insert("partialTxn", true);
        }
        let head = doc! {
            "ts": ts(tick), "t": TERM, "op": "c", "ns": "admin.$cmd", "lsid": { "id": 1 }, "txnNumber": 1_i64,
            "prevOpTime": { "ts": ts(tick - 1), "t": if tick == 1 { -1 } else { TERM } },
        };
        let (head, flag) = (head.to_vec().unwrap(), flag.to_vec().unwrap());
        let command = 4 + 1 + "applyOps\0".len() + self.operations.len() + flag.len() - 4;
        let length = head.len() - 1 + 1 + "o\0".len() + command + 1;
        let mut entry = Vec::with_capacity(length);
        entry.extend_from_slice(&(length as i32).to_le_bytes());
        entry.extend_from_slice(&head[4..head.len() - 1]);
        entry.extend_from_slice(b"\x03o\0");
        entry.extend_from_slice(&(command as i32).to_le_bytes());
        entry.extend_from_slice(b"\x04applyOps\0");
        entry.extend_from_slice(&self.operations);
        entry.extend_from_slice(&flag[4..]);
        entry.push(0);
        entry
    }
}

impl RawLog for Generated {
    fn name(&self) -> &str {
        "a"
    }

    async fn next_batch(&mut self) -> Result<OplogBatch, MongoError> {
        if self.given == PIECES {
            std::future::pending::<()>().await;
        }
        self.given += 1;
        let documents = DocumentBatch::from_sequence(Bytes::from(self.entry(self.given))).unwrap();
        Ok(OplogBatch::new(documents, 0, place(self.given), at(self.given)))
    }

    async fn entry_at(&mut self, position: OplogPosition) -> Result<Bytes, MongoError> {
        Ok(Bytes::from(self.entry(position.time.seconds)))
    }
}

/// Kilobytes of memory as the system counts them.
fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Reads on from a position, and gives how many changes came and how much memory it took.
fn measure(from: u32) -> (usize, usize) {
    let log = Generated { given: from, ..Generated::new() };
    let folder = tempfile::tempdir().unwrap();
    let options = FollowOptions::new(folder.path());
    // From here on the peak is counted anew (proc(5), "clear_refs").
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    let held = OpenTransactions::new(options.transaction_memory, SpillFile::new(options.spill_dir));
    let mut merged = MergedLog::new(vec![(log, place(from))], orders(), held, MANY);
    let mut changes = 0;
    loop {
        match merged.next().now_or_never().expect("it is always ready").unwrap() {
            ChangeEvent::Change(_) => changes += 1,
            ChangeEvent::Watermark { time, .. } if time == at(PIECES) => break,
            // Nothing of it takes effect before its last piece.
            ChangeEvent::Watermark { .. } => assert_eq!(changes, 0),
        }
    }
    (changes, status("VmHWM:") - before)
}

#[test]
fn a_transaction_of_a_gigabyte_goes_through_in_64_megabytes() {
    if std::env::var_os(MEASURED).is_some() {
        let per_piece = Generated::new().per_piece();
        // As it comes, and from its middle on, so that the first half has to be looked up.
        for from in [0, PIECES / 2] {
            let (changes, kilobytes) = measure(from);
            assert_eq!(changes, per_piece * PIECES as usize);
            assert!(kilobytes < 64 << 10, "from piece {from}: {kilobytes} KiB");
            eprintln!("from piece {from}: {kilobytes} KiB");
        }
        return;
    }
    // Other tests take memory too: it is measured in a process of its own.
    let name = "follow::tests::large::a_transaction_of_a_gigabyte_goes_through_in_64_megabytes";
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", name, "--nocapture"]).env(MEASURED, "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
