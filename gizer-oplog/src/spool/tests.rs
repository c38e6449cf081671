use std::fs;
use std::path::{Path, PathBuf};

use bson::{Timestamp, doc};
use gizer_flatten::change::ClusterTime;
use gizer_schema::raw::RawDoc;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::position::OplogPosition;

const NO_LIMIT: u64 = u64::MAX;

fn at(number: u32) -> OplogPosition {
    OplogPosition { time: ClusterTime { seconds: 100 + number, increment: 1 }, term: 3 }
}

fn identity() -> SpoolIdentity {
    SpoolIdentity { owner: "db:5432/app public".into(), shard: "rs0".into(), database: "shop".into() }
}

/// One step of the log: its number is its time.
#[derive(Debug, Clone)]
struct Entry {
    number: u32,
    kept: bool,
    bytes: Vec<u8>,
}

fn entry(number: u32, kept: bool, payload: usize) -> Entry {
    let ns = if kept { "shop.orders" } else { "other.orders" };
    let OplogPosition { time, term } = at(number);
    let ts = Timestamp { time: time.seconds, increment: time.increment };
    let document = doc! { "op": "i", "ns": ns, "o": { "_id": number, "x": "x".repeat(payload) }, "ts": ts, "t": term };
    Entry { number, kept, bytes: document.to_vec().unwrap() }
}

fn raw(entry: &Entry) -> RawEntry<'_> {
    RawEntry::read(RawDoc::new(&entry.bytes).unwrap()).unwrap()
}

fn append(spool: &mut Spool, entries: &[Entry]) -> Appended {
    let Some(last) = entries.last() else { return Appended::default() };
    spool.append(entries.iter().map(raw), at(last.number)).unwrap()
}

struct Place {
    _folder: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool").join("rs0.spool");
        Place { _folder: folder, path }
    }

    fn open(&self) -> Spool {
        Spool::open(&self.path, &identity(), NO_LIMIT).unwrap()
    }

    /// A spool that begins at 0.
    fn begun(&self) -> Spool {
        let mut spool = self.open();
        spool.begin(at(0)).unwrap();
        spool
    }
}

/// All entries after a position, and how far the spool reaches.
fn read(path: &Path, after: OplogPosition) -> (Vec<Vec<u8>>, OplogPosition) {
    let mut reader = SpoolReader::open(path, &identity(), after).unwrap().unwrap();
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        assert!(entry.position > after);
        entries.push(entry.document.as_bytes().to_vec());
    }
    (entries, reader.reached())
}

fn kept(entries: &[Entry]) -> Vec<Vec<u8>> {
    entries.iter().filter(|entry| entry.kept).map(|entry| entry.bytes.clone()).collect()
}

#[test]
fn each_identity_has_a_file_name_of_its_own_that_any_folder_takes() {
    let of = |owner: &str, shard: &str, database: &str| {
        SpoolIdentity { owner: owner.into(), shard: shard.into(), database: database.into() }.file_name()
    };
    let names = [
        of("a", "b", "c"),
        of("ab", "", "c"),
        of("a", "b/..", "c"),
        of("a", "bé", "c"),
        of("a", &"b".repeat(300), "c"),
    ];
    for (i, name) in names.iter().enumerate() {
        assert!(name.len() < 120 && !name.contains('/') && !names[..i].contains(name), "{name}");
    }
    assert!(names[0].starts_with("c.b."), "{}", names[0]);
}

#[test]
fn what_may_matter_is_kept() {
    let cases = [
        (doc! { "op": "i", "ns": "shop.orders" }, true),
        (doc! { "op": "u", "ns": "shop.a.b" }, true),
        (doc! { "op": "d", "ns": "shop" }, false),
        (doc! { "op": "i", "ns": "shops.orders" }, false),
        (doc! { "op": "i", "ns": "admin.system.users" }, false),
        (doc! { "op": "i" }, true),
        (doc! { "op": "c", "ns": "admin.$cmd" }, true),
        (doc! { "op": "c", "ns": "other.$cmd" }, true),
        (doc! { "op": "n", "ns": "" }, false),
        (doc! { "op": "xi", "ns": "other" }, true),
    ];
    for (mut document, expected) in cases {
        document.insert("ts", Timestamp { time: 1, increment: 1 });
        let bytes = document.to_vec().unwrap();
        let entry = RawEntry::read(RawDoc::new(&bytes).unwrap()).unwrap();
        assert_eq!(keeps(&entry, "shop"), expected, "{document}");
    }
}

#[test]
fn entries_that_are_not_kept_move_the_position_all_the_same() {
    let place = Place::new();
    let mut spool = place.begun();
    let entries = [entry(1, true, 5), entry(2, false, 5)];
    assert_eq!(append(&mut spool, &entries).entries, 1);
    assert_eq!(spool.span(), Some(Span { start: at(0), reached: at(2) }));
    assert_eq!(read(&place.path, at(0)), (kept(&entries), at(1)), "the mark comes with the sync");
    spool.sync().unwrap();
    assert_eq!(read(&place.path, at(0)), (kept(&entries), at(2)));
    assert!(!spool.is_dirty());
    let bytes = fs::metadata(&place.path).unwrap().len();
    spool.sync().unwrap();
    assert_eq!(fs::metadata(&place.path).unwrap().len(), bytes, "one mark is enough");
}

#[test]
fn it_is_read_from_a_position_on_and_not_from_before_its_start() {
    let place = Place::new();
    let mut spool = place.begun();
    let entries: Vec<Entry> = (1..=5).map(|number| entry(number, true, 9)).collect();
    append(&mut spool, &entries);
    assert_eq!(read(&place.path, at(3)).0, kept(&entries[3..]));
    assert_eq!(read(&place.path, at(9)), (vec![], at(5)), "it says that it does not reach as far");
    let before = OplogPosition { term: 1, ..OplogPosition::default() };
    let error = SpoolReader::open(&place.path, &identity(), before).unwrap_err();
    assert!(matches!(error, SpoolError::NotCovered { .. }), "{error}");
    assert!(SpoolReader::open(&place.path.with_extension("no"), &identity(), at(0)).unwrap().is_none());
}

#[test]
fn nobody_else_writes_it_and_nobody_elses_is_taken_for_it() {
    let place = Place::new();
    let mut spool = place.begun();
    append(&mut spool, &[entry(1, true, 1)]);
    let error = Spool::open(&place.path, &identity(), NO_LIMIT).unwrap_err();
    assert!(matches!(error, SpoolError::InUse { .. }), "{error}");
    drop(spool);
    let other = SpoolIdentity { database: "other".into(), ..identity() };
    let error = Spool::open(&place.path, &other, NO_LIMIT).unwrap_err();
    assert!(error.to_string().contains("found that of shop of rs0 for db:5432/app public"), "{error}");
    fs::write(&place.path, "my diary").unwrap();
    let error = Spool::open(&place.path, &identity(), NO_LIMIT).unwrap_err();
    assert!(error.remedy().unwrap().contains("spool_dir"), "{error}");
    assert_eq!(fs::read(&place.path).unwrap(), b"my diary");
    let mut later = format::write_header(&identity(), at(0)).0;
    later[8] = 2;
    fs::write(&place.path, later).unwrap();
    let error = Spool::open(&place.path, &identity(), NO_LIMIT).unwrap_err();
    assert!(error.to_string().contains("version 2"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_told_with_the_setting() {
    let place = Place::new();
    fs::write(place.path.parent().unwrap(), "no folder").unwrap();
    let error = Spool::open(&place.path, &identity(), NO_LIMIT).unwrap_err();
    assert!(matches!(error, SpoolError::Unusable { .. }), "{error}");
    assert!(error.remedy().unwrap().contains("spool_dir under [load]"));
}

#[test]
fn only_its_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place.begun();
    assert_eq!(fs::metadata(&place.path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn it_never_grows_beyond_its_limit_and_says_how_far_it_goes() {
    let place = Place::new();
    let limit = 2_000;
    let mut spool = Spool::open(&place.path, &identity(), limit).unwrap();
    spool.begin(at(0)).unwrap();
    let entries: Vec<Entry> = (1..=100).map(|number| entry(number, number % 3 != 0, 100)).collect();
    let mut full_at = None;
    for one in &entries {
        if append(&mut spool, std::slice::from_ref(one)).full && full_at.is_none() {
            full_at = Some(one.number);
        }
        spool.sync().unwrap();
    }
    let full_at = full_at.expect("a hundred entries are more than the limit");
    assert!((6..20).contains(&full_at), "{full_at}");
    assert_eq!(spool.span().unwrap().reached, at(full_at - 1));
    assert!(fs::metadata(&place.path).unwrap().len() <= limit);
    let (read_back, reached) = read(&place.path, at(0));
    assert_eq!((read_back, reached), (kept(&entries[..full_at as usize - 1]), at(full_at - 1)));
    // Marks alone do not make it grow either.
    spool.begin(at(0)).unwrap();
    for number in 1..200 {
        append(&mut spool, &[entry(number, false, 1)]);
        spool.sync().unwrap();
    }
    assert!(fs::metadata(&place.path).unwrap().len() <= limit);
}

#[test]
fn entries_out_of_order_are_refused_and_change_nothing() {
    let place = Place::new();
    let mut spool = place.begun();
    append(&mut spool, &[entry(5, true, 1)]);
    for number in [5, 4] {
        let one = entry(number, true, 1);
        let error = spool.append([raw(&one)], at(number)).unwrap_err();
        assert!(matches!(error, SpoolError::OutOfOrder { .. }), "{error}");
    }
    append(&mut spool, &[entry(6, true, 1)]);
    assert_eq!(read(&place.path, at(0)).0, kept(&[entry(5, true, 1), entry(6, true, 1)]));
}

#[test]
fn beginning_anew_leaves_nothing_of_the_old_one() {
    let place = Place::new();
    let mut spool = place.begun();
    append(&mut spool, &(1..=9).map(|number| entry(number, true, 50)).collect::<Vec<Entry>>());
    spool.begin(at(20)).unwrap();
    append(&mut spool, &[entry(21, true, 3)]);
    drop(spool);
    assert_eq!(place.open().span(), Some(Span { start: at(20), reached: at(21) }));
    assert_eq!(read(&place.path, at(20)).0, kept(&[entry(21, true, 3)]));
}

/// The system lets a process of the test's own write no larger files, and tells as it does when a disk is full.
#[test]
fn a_write_that_fails_leaves_what_was_there() {
    const CHILD: &str = "GIZER_TEST_SPOOL_OF_A_FULL_DISK";
    if let Some(path) = std::env::var_os(CHILD) {
        return fill_until_it_fails(Path::new(&path));
    }
    let place = Place::new();
    let script =
        "trap '' XFSZ; ulimit -f 40; exec \"$0\" --exact spool::tests::a_write_that_fails_leaves_what_was_there";
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new("sh").args(["-c", script]).arg(program).env(CHILD, &place.path).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(place.path.exists(), "the child has run");
}

fn fill_until_it_fails(path: &Path) {
    let mut spool = Spool::open(path, &identity(), NO_LIMIT).unwrap();
    spool.begin(at(0)).unwrap();
    let mut done = Vec::new();
    let error = loop {
        let one = entry(done.len() as u32 + 1, true, 1_000);
        match spool.append([raw(&one)], at(one.number)) {
            Ok(_) => done.push(one),
            Err(error) => break error,
        }
        assert!(done.len() < 1_000, "the system lets it write as much as it likes");
    };
    assert!(matches!(error, SpoolError::Io { doing: "write to", .. }), "{error}");
    assert!(error.remedy().unwrap().contains("make room"), "{error}");
    let span = Span { start: at(0), reached: at(done.len() as u32) };
    assert!(done.len() > 5);
    assert_eq!(spool.span(), Some(span));
    spool.sync().unwrap();
    assert_eq!(fs::metadata(path).unwrap().len(), spool.bytes(), "half a record was taken away");
    drop(spool);
    let spool = Spool::open(path, &identity(), NO_LIMIT).unwrap();
    assert_eq!((spool.span(), spool.cut()), (Some(span), None));
    assert_eq!(read(path, at(0)).0, kept(&done));
}

#[test]
fn damage_is_told_from_a_torn_tail() {
    let place = Place::new();
    let mut spool = place.begun();
    append(&mut spool, &[entry(1, true, 30)]);
    let middle = spool.bytes();
    append(&mut spool, &[entry(2, true, 30), entry(3, true, 30)]);
    drop(spool);
    assert_eq!(place.open().cut(), None);
    let whole = fs::read(&place.path).unwrap();
    let cases: [(Vec<u8>, bool); 3] = [
        (whole[..whole.len() - 1].to_vec(), false),
        ([&whole[..], &[0; 100]].concat(), false),
        ([&whole[..middle as usize + 20], &[0xff], &whole[middle as usize + 21..]].concat(), true),
    ];
    for (bytes, damaged) in cases {
        fs::write(&place.path, &bytes).unwrap();
        let spool = place.open();
        let cut = spool.cut().unwrap();
        assert_eq!((cut.damaged, spool.bytes() + cut.bytes), (damaged, bytes.len() as u64));
        assert_eq!(fs::metadata(&place.path).unwrap().len(), spool.bytes());
        assert_eq!(
            spool.span().unwrap().reached,
            at(if damaged {
                1
            } else if cut.bytes == 100 {
                3
            } else {
                2
            })
        );
    }
}

/// Each record is whole by itself, and still counts only where it was written.
#[test]
fn whole_records_in_another_place_are_no_records() {
    let steps: Vec<(Entry, bool)> = (1..=4).map(|number| (entry(number, true, 30), false)).collect();
    let bytes = written(&steps);
    let size = format::entry_bytes(&steps[0].0.bytes) as usize;
    let header = bytes.len() - 4 * size;
    let record = |at: usize| &bytes[header + at * size..header + (at + 1) * size];
    for order in [&[0, 2, 3][..], &[1, 2], &[0, 2, 1, 3], &[0, 1, 1, 2]] {
        let records: Vec<u8> = order.iter().flat_map(|at| record(*at).to_vec()).collect();
        check_is_a_beginning(&[&bytes[..header], &records].concat(), &steps).unwrap();
    }
}

/// The bytes of a spool of these entries, synced after each that says so.
fn written(steps: &[(Entry, bool)]) -> Vec<u8> {
    let place = Place::new();
    let mut spool = place.begun();
    for (entry, sync) in steps {
        append(&mut spool, std::slice::from_ref(entry));
        if *sync {
            spool.sync().unwrap();
        }
    }
    drop(spool);
    fs::read(&place.path).unwrap()
}

/// Opens what is left of a spool of these entries: it must be its beginning, and go on from there.
fn check_is_a_beginning(bytes: &[u8], steps: &[(Entry, bool)]) -> Result<(), TestCaseError> {
    let place = Place::new();
    fs::create_dir_all(place.path.parent().unwrap()).unwrap();
    fs::write(&place.path, bytes).unwrap();
    let entries: Vec<Entry> = steps.iter().map(|(entry, _)| entry.clone()).collect();
    let mut spool = match Spool::open(&place.path, &identity(), NO_LIMIT) {
        Ok(spool) => spool,
        // The magic itself, the version or the names have changed: nothing is taken for anything.
        Err(SpoolError::Foreign { .. }) => return Ok(()),
        Err(error) => return Err(TestCaseError::fail(error.to_string())),
    };
    let Some(Span { start, reached }) = spool.span() else { return Ok(()) };
    prop_assert_eq!(start, at(0));
    let done = entries.iter().take_while(|entry| at(entry.number) <= reached).count();
    prop_assert!(done == 0 || at(entries[done - 1].number) == reached, "it reached {:?}", reached);
    prop_assert_eq!(read(&place.path, at(0)), (kept(&entries[..done]), reached));
    // The log is read again from there, and all is as if nothing had happened.
    append(&mut spool, &entries[done..]);
    spool.sync().unwrap();
    drop(spool);
    let last = entries.last().map_or(at(0), |entry| at(entry.number));
    prop_assert_eq!(read(&place.path, at(0)), (kept(&entries), last));
    Ok(())
}

fn steps() -> impl Strategy<Value = Vec<(Entry, bool)>> {
    prop::collection::vec((1..3_u32, any::<bool>(), 0..40_usize, any::<bool>()), 0..8).prop_map(|steps| {
        let mut number = 0;
        let step = |(ahead, kept, payload, sync)| {
            number += ahead;
            (entry(number, kept, payload), sync)
        };
        steps.into_iter().map(step).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn cut_anywhere_it_is_a_beginning(steps in steps()) {
        let bytes = written(&steps);
        for end in 0..=bytes.len() {
            check_is_a_beginning(&bytes[..end], &steps)?;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn with_any_bits_flipped_it_is_a_beginning(steps in steps(), flips in prop::collection::vec(any::<prop::sample::Index>(), 1..4)) {
        let mut bytes = written(&steps);
        for flip in flips {
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        check_is_a_beginning(&bytes, &steps)?;
    }

    #[test]
    fn with_a_part_gone_or_repeated_it_is_a_beginning(
        steps in steps(),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        let bytes = written(&steps);
        let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
        check_is_a_beginning(&[&bytes[..from], &bytes[to..]].concat(), &steps)?;
    }

    /// Many crashes one after the other, each losing some of what was not synced.
    #[test]
    fn crash_after_crash_nothing_is_lost_and_nothing_comes_twice(
        steps in steps(),
        crashes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..5),
    ) {
        let place = Place::new();
        let entries: Vec<Entry> = steps.iter().map(|(entry, _)| entry.clone()).collect();
        let mut spool = place.begun();
        for (go_on, keep) in crashes {
            let reached = spool.span().unwrap().reached;
            let rest: Vec<&(Entry, bool)> = steps.iter().filter(|(entry, _)| at(entry.number) > reached).collect();
            let mut synced = (spool.bytes(), reached);
            for (entry, sync) in &rest[..go_on.index(rest.len() + 1)] {
                append(&mut spool, std::slice::from_ref(entry));
                if *sync {
                    spool.sync().unwrap();
                    synced = (spool.bytes(), at(entry.number));
                }
            }
            let written = spool.bytes();
            drop(spool);
            // Of what came after the last sync, some is there and some is not.
            let left = synced.0 + keep.index((written - synced.0) as usize + 1) as u64;
            fs::OpenOptions::new().write(true).open(&place.path).unwrap().set_len(left).unwrap();
            spool = place.open();
            prop_assert!(spool.span().unwrap().reached >= synced.1, "what was synced is there");
        }
        let reached = spool.span().unwrap().reached;
        let rest: Vec<Entry> = entries.iter().filter(|entry| at(entry.number) > reached).cloned().collect();
        append(&mut spool, &rest);
        prop_assert_eq!(read(&place.path, at(0)).0, kept(&entries));
    }
}
