//! What docs/security.md says, as it stands there.

use bson::Document;
use mongodb::Client;

const PAGE: &str = include_str!("../../../docs/security.md");

/// What stands for a password of the reader's.
const PLACEHOLDER: &str = "<password>";

/// The block under a comment `test: name`.
pub(crate) fn block(name: &str) -> String {
    let marker = format!("<!-- test: {name} -->\n```");
    let (_, rest) = PAGE.split_once(&marker).unwrap_or_else(|| panic!("{marker} is not in the page"));
    let (_language, rest) = rest.split_once('\n').unwrap();
    rest.split_once("\n```\n").unwrap().0.to_owned()
}

/// The same with a password.
pub(crate) fn statements(name: &str, password: &str) -> String {
    let block = block(name);
    assert!(block.contains(PLACEHOLDER), "{name} sets a password");
    block.replace(PLACEHOLDER, password)
}

/// Runs a block for mongosh: `db.getSiblingDB("…").runCommand({…})`, as often as it stands there.
pub(crate) async fn run_in_mongosh(client: &Client, block: &str) -> Vec<Document> {
    let mut rest = block.trim();
    let mut run = Vec::new();
    while !rest.is_empty() {
        let (database, command) =
            rest.strip_prefix("db.getSiblingDB(\"").unwrap().split_once("\").runCommand(").unwrap();
        let mut commands = serde_json::Deserializer::from_str(command).into_iter::<Document>();
        let document = commands.next().unwrap().unwrap();
        rest = command[commands.byte_offset()..].strip_prefix(')').unwrap().trim_start();
        client.database(database).run_command(document.clone()).await.unwrap();
        run.push(document);
    }
    run
}

#[test]
fn every_block_of_the_page_is_tested() {
    let tests = [include_str!("rights.rs"), include_str!("tls.rs")];
    let markers: Vec<&str> = PAGE.split("<!-- test: ").skip(1).map(|rest| rest.split(' ').next().unwrap()).collect();
    assert!(markers.len() > 10, "{markers:?}");
    for marker in markers {
        assert!(tests.iter().any(|text| text.contains(&format!("\"{marker}\""))), "{marker} is not tested");
        block(marker);
    }
    let fences = PAGE.matches("\n```").count();
    assert_eq!(fences, 2 * PAGE.matches("<!-- test: ").count(), "a block without a test");
}
