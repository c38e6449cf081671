//! What fuzzing has gathered and found, as an ordinary test: every file of every corpus through its target's check.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../fuzz/checks.rs"]
mod checks;

fn each(target: &str, check: fn(&[u8])) {
    let folder = format!("{}/../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).expect(&folder) {
        check(&std::fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files > 0, "{folder} is empty");
}

#[test]
fn schema_file() {
    each("schema_file", checks::schema_file);
}

#[test]
fn inference() {
    each("inference", checks::inference);
}

#[test]
fn flatten() {
    each("flatten", checks::flatten);
}

#[test]
fn rebuild() {
    each("rebuild", checks::rebuild);
}
