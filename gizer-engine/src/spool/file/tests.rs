use std::io::Write;

use gizer_flatten::change::{ClusterTime, SourcePosition};
use tempfile::TempDir;

use super::*;

fn at(seconds: u32) -> Positions {
    Positions::from([("rs0".to_owned(), SourcePosition::new(ClusterTime { seconds, increment: 1 }, &[3]))])
}

fn identity() -> SpoolIdentity {
    SpoolIdentity { owner: "h:1/app public".into(), source: "rs0".into(), database: "shop".into() }
}

/// A page of as many bytes, which ends with a mark or does not.
fn page(number: u8, bytes: usize, reached: Option<u32>) -> Page {
    Page { records: vec![number; bytes], reached: reached.map(at) }
}

struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("deep").join(file_name(&identity()))
    }

    fn open(&self) -> FileSpool {
        FileSpool::open(&self.path(), &identity(), u64::MAX).unwrap()
    }

    /// What a spool of three marked pages, the second of them in two parts, looks like.
    fn filled(&self) -> Vec<u8> {
        let spool = self.open();
        spool.lock().trim(Some(at(1))).unwrap();
        for page in [page(1, 100, Some(2)), page(2, 50, None), page(3, 70, Some(4)), page(4, 30, Some(5))] {
            assert!(matches!(spool.lock().append(page), Ok(AppendOutcome::Taken(_))));
        }
        drop(spool);
        fs::read(self.path()).unwrap()
    }

    fn write(&self, bytes: &[u8]) {
        let mut file = File::create(self.path()).unwrap();
        file.write_all(bytes).unwrap();
    }
}

/// The numbers of the pages, and how far it goes.
fn content(spool: &FileSpool) -> (Vec<u8>, Option<SpoolSpan>) {
    let (mut cursor, mut numbers) = (Cursor::default(), Vec::new());
    while let Some((page, next)) = spool.lock().read(cursor).unwrap() {
        assert!(page.iter().all(|byte| *byte == page[0]));
        numbers.push(page[0]);
        cursor = next;
    }
    (numbers, spool.span())
}

fn span(reached: u32) -> Option<SpoolSpan> {
    Some(SpoolSpan { start: at(1), reached: at(reached) })
}

#[test]
fn what_is_written_is_there_after_it_is_opened_again() {
    let place = Place::new();
    place.filled();
    let spool = place.open();
    assert_eq!((content(&spool), spool.cut()), ((vec![1, 2, 3, 4], span(5)), None));
    spool.lock().append(page(5, 10, Some(6))).unwrap();
    assert_eq!(content(&spool), (vec![1, 2, 3, 4, 5], span(6)));
    spool.lock().trim(Some(at(7))).unwrap();
    let empty = Some(SpoolSpan { start: at(7), reached: at(7) });
    assert_eq!(content(&spool), (vec![], empty.clone()));
    drop(spool);
    assert_eq!(content(&place.open()), (vec![], empty));
    place.open().lock().trim(None).unwrap();
    assert!(!place.path().exists());
}

#[test]
fn what_no_mark_covers_is_not_given_and_gone_after_a_crash() {
    let place = Place::new();
    place.filled();
    let spool = place.open();
    spool.lock().append(page(5, 10, None)).unwrap();
    spool.lock().append(page(6, 10, None)).unwrap();
    assert_eq!(content(&spool), (vec![1, 2, 3, 4], span(5)));
    drop(spool);
    let spool = place.open();
    assert_eq!((content(&spool), spool.cut()), ((vec![1, 2, 3, 4], span(5)), None));
    spool.lock().append(page(7, 10, Some(6))).unwrap();
    assert_eq!(content(&spool), (vec![1, 2, 3, 4, 7], span(6)));
}

/// Wherever a crash tears it, what is left is its beginning up to a mark, and it can be gone on with.
#[test]
fn a_torn_tail_is_cut() {
    let place = Place::new();
    let whole = place.filled();
    let mut seen = Vec::new();
    for length in 0..whole.len() {
        for zeros in [0, 20] {
            let mut torn = whole[..length].to_vec();
            torn.extend(vec![0; zeros]);
            place.write(&torn);
            let Ok(spool) = FileSpool::open(&place.path(), &identity(), u64::MAX) else {
                assert!(length < MAGIC.len() && zeros > 0, "{length}");
                continue;
            };
            let (numbers, span) = content(&spool);
            let expected: (&[u8], _) = match span.as_ref().map(|span| span.reached["rs0"].time().seconds) {
                None => (&[], None),
                Some(reached @ 1) => (&[], Some(reached)),
                Some(reached @ 2) => (&[1], Some(reached)),
                Some(reached @ 4) => (&[1, 2, 3], Some(reached)),
                Some(reached) => (&[1, 2, 3, 4], Some(reached)),
            };
            assert_eq!(numbers, expected.0, "{length}");
            assert!(zeros > 0 || spool.cut().is_none_or(|cut| !cut.damaged), "{length}");
            if expected.1.is_some() {
                spool.lock().append(page(9, 10, Some(9))).unwrap();
                assert_eq!(content(&spool).0.last(), Some(&9));
            }
            seen.push(expected.1);
        }
    }
    seen.dedup();
    assert_eq!(seen, [None, Some(1), Some(2), Some(4)]);
}

#[test]
fn a_flipped_bit_ends_it_before_there() {
    let place = Place::new();
    let whole = place.filled();
    let header = 16 + u32_at(&whole, 12).unwrap() as usize + 4;
    for byte in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[byte] ^= 1 << (byte % 8);
        place.write(&flipped);
        let Ok(spool) = FileSpool::open(&place.path(), &identity(), u64::MAX) else {
            assert!(byte < MAGIC.len(), "{byte}");
            continue;
        };
        let (numbers, span) = content(&spool);
        assert!([1, 2, 3, 4].starts_with(&numbers) && numbers.len() < 4, "{byte}: {numbers:?}");
        assert_eq!(span.is_none(), byte < header, "{byte}");
        assert!(byte < header || spool.cut().is_some(), "{byte}");
    }
}

/// A page counts only where it was written.
#[test]
fn a_page_of_another_place_is_none() {
    let place = Place::new();
    let whole = place.filled();
    let frames: Vec<usize> = {
        let mut at = 16 + u32_at(&whole, 12).unwrap() as usize + 4;
        let mut starts = Vec::new();
        while at < whole.len() {
            starts.push(at);
            at += FRAME_BYTES + u32_at(&whole, at).unwrap() as usize;
        }
        starts
    };
    let mut moved = whole[..frames[1]].to_vec();
    moved.extend_from_slice(&whole[frames[3]..]);
    place.write(&moved);
    let spool = place.open();
    assert_eq!(content(&spool).0, [1]);
    assert!(spool.cut().unwrap().damaged);
}

#[test]
fn it_never_takes_more_than_its_limit() {
    let place = Place::new();
    let spool = FileSpool::open(&place.path(), &identity(), 1_000).unwrap();
    spool.lock().trim(Some(at(1))).unwrap();
    assert!(matches!(spool.lock().append(page(1, 500, Some(2))), Ok(AppendOutcome::Taken(bytes)) if bytes > 500));
    assert_eq!(spool.lock().append(page(2, 500, Some(3))).unwrap(), AppendOutcome::Full);
    assert_eq!(
        spool.lock().append(page(3, 1, Some(4))).unwrap(),
        AppendOutcome::Full,
        "what comes after it would leave a gap"
    );
    assert_eq!(content(&spool), (vec![1], span(2)));
    assert!(fs::metadata(place.path()).unwrap().len() <= 1_000);
}

#[test]
fn anothers_file_is_left_alone_and_one_of_another_version_starts_over() {
    let place = Place::new();
    let whole = place.filled();
    let spool = place.open();
    let error = FileSpool::open(&place.path(), &identity(), 1).unwrap_err();
    assert!(matches!(error, SpoolError::InUse { .. }), "{error}");
    drop(spool);
    let other = SpoolIdentity { database: "stock".into(), ..identity() };
    let error = FileSpool::open(&place.path(), &other, 1).unwrap_err();
    assert!(error.to_string().contains("expected the spool of stock of rs0 for h:1/app public"), "{error}");
    place.write(b"#!/bin/sh\n");
    let error = FileSpool::open(&place.path(), &identity(), 1).unwrap_err();
    assert!(matches!(error, SpoolError::Foreign { .. }), "{error}");
    assert_eq!(fs::read(place.path()).unwrap(), b"#!/bin/sh\n");
    for version in [1_u32, 3] {
        let mut other = whole.clone();
        other[8..12].copy_from_slice(&version.to_le_bytes());
        place.write(&other);
        let spool = place.open();
        assert_eq!(spool.span(), None);
        spool.lock().trim(Some(at(8))).unwrap();
        assert!(content(&spool).0.is_empty());
    }
}

#[test]
fn names_of_files_tell_identities_apart() {
    let names = ["rs0", "rs1", "rs0 rs1", "rs0/rs1"]
        .map(|source| file_name(&SpoolIdentity { source: source.into(), ..identity() }));
    let mut apart = names.to_vec();
    apart.sort();
    apart.dedup();
    assert_eq!(apart.len(), 4);
    assert!(names.iter().all(|name| name.starts_with("shop.rs") && name.ends_with(".spool") && !name.contains('/')));
}
