//! Dumps that are whole, cut, or something else.

use std::io::Write;

use bson::{Document, doc};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::collections::SkipReason;

fn bytes_of(documents: &[Document]) -> Vec<u8> {
    documents.iter().flat_map(|document| document.to_vec().unwrap()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn some(count: i32) -> Vec<Document> {
    (0..count).map(|n| doc! {"_id": n, "text": "x".repeat(usize::try_from(n).unwrap() % 50)}).collect()
}

/// Documents, batches and the error of a scan to its end.
async fn read(path: &Path, batch_bytes: usize) -> (Vec<u8>, usize, Option<MongoError>) {
    let mut scan = Dump::open(path).unwrap().files()[0].scan(batch_bytes);
    let (mut bytes, mut batches) = (Vec::new(), 0);
    loop {
        match scan.next_batch().await {
            Ok(Some(batch)) => {
                assert!(!batch.is_empty());
                batches += 1;
                batch.documents().for_each(|document| bytes.extend_from_slice(document.as_bytes()));
            }
            Ok(None) => {
                assert!(matches!(scan.next_batch().await, Ok(None)), "the end stays the end");
                return (bytes, batches, None);
            }
            Err(error) => {
                assert!(scan.next_batch().await.is_err(), "nothing comes after an error");
                return (bytes, batches, Some(error));
            }
        }
    }
}

#[tokio::test]
async fn plain_and_compressed_files_give_the_same_documents() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = bytes_of(&some(500));
    let (front, back) = bytes.split_at(bytes_of(&some(200)).len());
    let files =
        [("a.bson", bytes.clone()), ("b.bson.gz", gzip(&bytes)), ("c.bson.gz", [gzip(front), gzip(back)].concat())];
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let (read, batches, error) = read(&path, 4096).await;
        assert!(error.is_none(), "{name}: {error:?}");
        assert_eq!(read, bytes, "{name}");
        assert!((4..=bytes.len() / 4096 + 1).contains(&batches), "{name}: {batches}");
    }
}

#[tokio::test]
async fn an_empty_collection_is_an_empty_file_and_not_an_empty_gzip_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bson");
    std::fs::write(&path, []).unwrap();
    assert!(matches!(read(&path, 100).await, (_, 0, None)));
    let path = folder.path().join("b.bson.gz");
    std::fs::write(&path, gzip(&[])).unwrap();
    assert!(matches!(read(&path, 100).await, (_, 0, None)));
    std::fs::write(&path, []).unwrap();
    let (_, _, error) = read(&path, 100).await;
    assert!(matches!(error, Some(MongoError::DumpBroken { at: 0, compressed: true, .. })), "{error:?}");
}

/// Wherever a file is cut, that is told; only between two documents a plain file cannot know.
#[tokio::test]
async fn cut_files_are_told_with_file_and_offset() {
    let folder = tempfile::tempdir().unwrap();
    let documents = some(3);
    let bytes = bytes_of(&documents);
    let ends: Vec<usize> = (0..=3).map(|count| bytes_of(&documents[..count]).len()).collect();
    let path = folder.path().join("a.bson");
    for cut in 0..bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let (_, _, error) = read(&path, 1 << 20).await;
        if ends.contains(&cut) {
            assert!(error.is_none());
            continue;
        }
        let begin = *ends.iter().rfind(|end| **end < cut).unwrap() as u64;
        let Some(MongoError::DumpBroken { at, .. }) = error else { panic!("cut at {cut}: {error:?}") };
        assert_eq!(at, begin, "cut at {cut}");
    }
    let path = folder.path().join("b.bson.gz");
    let compressed = gzip(&bytes);
    for cut in 0..compressed.len() {
        std::fs::write(&path, &compressed[..cut]).unwrap();
        let (_, _, error) = read(&path, 1 << 20).await;
        let Some(error @ MongoError::DumpBroken { compressed: true, .. }) = error else { panic!("{cut}: {error:?}") };
        assert!(error.to_string().contains("b.bson.gz is broken at byte") && error.remedy().is_some(), "{error}");
    }
    // The checksum is the fifth to eighth byte from the end.
    let mut changed = compressed.clone();
    let at = changed.len() - 6;
    changed[at] ^= 1;
    std::fs::write(&path, changed).unwrap();
    assert!(matches!(read(&path, 64).await.2, Some(MongoError::DumpBroken { .. })));
}

#[tokio::test]
async fn garbage_is_told_and_takes_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bson");
    let first = bytes_of(&some(1));
    let cases: [(Vec<u8>, u64, &str); 5] = [
        ([first.clone(), vec![0xFF, 0xFF, 0xFF, 0x7F, 0]].concat(), first.len() as u64, "the length 2147483647"),
        ([first.clone(), vec![4, 0, 0, 0]].concat(), first.len() as u64, "the length 4"),
        (b"_id,name\n1,x\n".to_vec(), 0, "the length 744778079"),
        (vec![5, 0, 0, 0, 9], 0, "a 0 at its end"),
        (0x8199_e26d_u32.to_le_bytes().to_vec(), 0, "mongodump --archive"),
    ];
    for (bytes, expected, word) in cases {
        std::fs::write(&path, bytes).unwrap();
        let (_, _, error) = read(&path, 64).await;
        let Some(error @ MongoError::DumpBroken { at, .. }) = &error else { panic!("{error:?}") };
        assert_eq!(*at, expected, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    let largest = i32::try_from(reader::MAX_DOCUMENT).unwrap();
    std::fs::write(&path, largest.to_le_bytes()).unwrap();
    assert!(read(&path, 64).await.2.unwrap().to_string().contains("the file ends after 4 of its"));
    std::fs::write(&path, (largest + 1).to_le_bytes()).unwrap();
    assert!(read(&path, 64).await.2.unwrap().to_string().contains("the length"));
}

#[test]
fn a_folder_is_read_as_mongodump_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(230);
    let cut = format!("{}%24hash", "x".repeat(208));
    let files = [
        ("orders.bson", ""),
        ("orders.metadata.json", r#"{"options": {}, "indexes": [], "uuid": "07", "type": "collection"}"#),
        ("we%2Fb%3Ac%25.bson.gz", ""),
        ("system.buckets.weather.bson", ""),
        ("weather.metadata.json", r#"{"options": {"timeseries": {"timeField": "t"}}, "type": "timeseries"}"#),
        ("big.metadata.json", r#"{"options": {"viewOn": "orders", "pipeline": []}}"#),
        ("big.bson", ""),
        ("notes.txt", ""),
        ("prelude.json", "{}"),
        (&format!("{cut}.bson"), "12345"),
        (&format!("{cut}.metadata.json"), &format!(r#"{{"collectionName": "{long}"}}"#)),
    ];
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let dump = Dump::open(folder.path()).unwrap();
    let found: Vec<(&str, Option<u64>)> = dump.files().iter().map(|f| (f.collection.as_str(), f.bytes)).collect();
    assert_eq!(found, [("orders", Some(0)), ("we/b:c%", None), (&long, Some(5))]);
    let skipped = [
        ("big".to_owned(), SkipReason::View),
        ("system.buckets.weather".to_owned(), SkipReason::System),
        ("weather".to_owned(), SkipReason::TimeSeries),
    ];
    assert_eq!(dump.skipped(), skipped);
    assert!(matches!(dump.file("weather"), Err(MongoError::NotFollowable { .. })));
    let error = dump.file("order").unwrap_err();
    assert!(error.to_string().ends_with("found none; did you mean \"orders\"?"), "{error}");
}

#[test]
fn what_is_no_dump_is_told_with_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let says = |path: &Path, word: &str| {
        let error = Dump::open(path).unwrap_err();
        assert!(matches!(error, MongoError::NoDump { .. }) && error.to_string().contains(word), "{error}");
        assert!(error.remedy().is_some());
    };
    says(folder.path(), "found no .bson file");
    std::fs::create_dir(folder.path().join("shop")).unwrap();
    says(folder.path(), "but the folders shop");
    says(&folder.path().join("nope"), "No such file");
    std::fs::write(folder.path().join("a.csv"), "").unwrap();
    says(&folder.path().join("a.csv"), "neither in .bson nor in .bson.gz");
    for name in ["a.bson", "a.bson.gz"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    says(folder.path(), "are of one collection");
}
