use super::*;
use crate::csv::CsvEncoder;
use crate::load::LoadSource;
use crate::state::Ledger;
use gizer_flatten::{Cell, Extra, Row, RowSink};
use gizer_schema::{TableId, file};

fn layout() -> Layout {
    Layout::new(&file::parse("a/b", r#"{"_id": "INT", "l": ["INT"]}"#).unwrap()).unwrap()
}

/// An extract of two documents.
fn extract(path: &Path, replace: bool, finish: bool) -> Result<(), PgError> {
    let layout = layout();
    let folder = ExtractFolder::create(path, std::slice::from_ref(&layout), &[&path.join("stats")], replace)?;
    let files = folder.collection(&layout, 100)?;
    let mut encoder = CsvEncoder::new(&layout);
    for n in 0..2 {
        encoder.begin_document();
        encoder.row(Row { table: TableId(0), cells: &[Cell::Integer(n)], extra: Extra::default() });
    }
    files.write(&encoder.take())?;
    let tables = files.finish()?;
    fs::write(path.join("stats"), "").unwrap();
    if !finish {
        return Ok(());
    }
    let collection = ExtractedCollection {
        name: layout.collection.clone(),
        layout_hash: String::new(),
        namespace: None,
        uuid: None,
        source: LoadSource::Copy { reason: "a test".to_owned() },
        ledger: Ledger::default(),
        tables,
    };
    folder.finish(Manifest { collections: vec![collection], ..Manifest::default() })
}

fn files(path: &Path) -> Result<Vec<Vec<TextFile>>, PgError> {
    let folder = TextFolder::open(path)?;
    let extracted = folder.manifest.as_ref().and_then(|manifest| manifest.collection("a/b"));
    folder.files(&layout(), extracted)
}

#[test]
fn an_extract_is_whole_or_marked_as_incomplete() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/csv");
    extract(&path, false, false).unwrap();
    assert!(matches!(files(&path), Err(PgError::ExtractIncomplete { .. })));
    assert!(matches!(extract(&path, false, true), Err(PgError::FolderInUse { .. })), "not without being told to");
    extract(&path, true, true).unwrap();
    let found = files(&path).unwrap();
    let expected = TextFile { path: path.join("a%2Fb/00000"), bytes: 6, rows: Some(2) };
    assert_eq!(found, [vec![expected], vec![]]);
    extract(&path, true, true).unwrap();
    assert!(matches!(extract(&path, false, true), Err(PgError::FolderInUse { .. })));
}

#[test]
fn what_no_extract_made_is_never_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("letter"), "dear").unwrap();
    for replace in [false, true] {
        let error = extract(path, replace, true).unwrap_err();
        assert!(matches!(&error, PgError::FolderInUse { found, .. } if found == "letter"), "{error}");
    }
    fs::remove_file(path.join("letter")).unwrap();
    extract(path, true, true).unwrap();
    fs::write(path.join("a%2Fb/letter"), "dear").unwrap();
    let error = extract(path, true, true).unwrap_err();
    assert!(error.to_string().contains("a%2Fb/letter"), "{error}");
    assert!(files(path).is_ok(), "nothing has changed");
    fs::remove_file(path.join("a%2Fb/letter")).unwrap();
    for (inner, letter) in [("a%2Fb/00007", "a%2Fb/00007/letter"), (REJECTED, "gizer-rejected/letter")] {
        fs::create_dir(path.join(inner)).unwrap();
        fs::write(path.join(letter), "dear").unwrap();
        assert!(matches!(extract(path, true, true), Err(PgError::FolderInUse { .. })), "{letter}");
        fs::remove_dir_all(path.join(inner)).unwrap();
    }
    fs::write(path.join("letter"), "dear").unwrap();
    assert!(extract(path, true, true).is_err());
    // Of a folder that the classic tool has made nothing is known to be an extract's.
    for file in [MANIFEST, "letter"] {
        fs::remove_file(path.join(file)).unwrap();
    }
    assert!(extract(path, true, true).is_err());
}

#[test]
fn an_extract_that_was_killed_at_its_first_step_can_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(UNFINISHED), "{").unwrap();
    assert!(matches!(extract(folder.path(), false, true), Err(PgError::FolderInUse { .. })));
    extract(folder.path(), true, true).unwrap();
    assert!(files(folder.path()).is_ok());
}

#[test]
fn a_table_cannot_have_the_name_of_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(&file::parse(MANIFEST, r#"{"_id": "INT"}"#).unwrap()).unwrap();
    let error = ExtractFolder::create(folder.path(), &[layout], &[], false).unwrap_err();
    assert!(error.to_string().contains("which the extract needs for itself"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn files_that_are_not_as_they_were_written_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let first = path.join("a%2Fb/00000");
    let says = |word: &str| {
        let error = files(path).unwrap_err();
        assert!(matches!(error, PgError::ExtractDiffers { .. }) && error.to_string().contains(word), "{error}");
    };
    extract(path, true, true).unwrap();
    fs::write(&first, "0\r\n").unwrap();
    says("expected 6 bytes");
    fs::remove_file(&first).unwrap();
    says("no file");
    extract(path, true, true).unwrap();
    fs::write(path.join("a%2Fb/00001"), "0\r\n").unwrap();
    says("a%2Fb/00001");
    fs::write(path.join(MANIFEST), "{").unwrap();
    assert!(matches!(files(path), Err(PgError::UnreadableManifest { .. })));
}

#[test]
fn a_folder_of_the_classic_tool_has_its_own_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let layout = Layout::new(&file::parse("100%", r#"{"_id": "INT", "l": ["INT"]}"#).unwrap()).unwrap();
    let open = || TextFolder::open(path).unwrap().files(&layout, None);
    assert!(open().is_err(), "without a folder of the root table");
    fs::create_dir(path.join("100%")).unwrap();
    for (name, content) in [("00001", "2\r\n"), ("00000", "1\r\n"), ("notes", "")] {
        fs::write(path.join("100%").join(name), content).unwrap();
    }
    let found = open().unwrap();
    let names: Vec<_> = found[0].iter().map(|file| file.path.file_name().unwrap().to_owned()).collect();
    assert_eq!((names, found[1].len()), (vec!["00000".into(), "00001".into()], 0));
}
