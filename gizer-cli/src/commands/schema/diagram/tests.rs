use gizer_schema::{Layout, file};

use super::*;

/// A sample of the classic tool.
fn classic() -> Layout {
    let path = format!("{}/../testdata/classic/mapping.json", env!("CARGO_MANIFEST_DIR"));
    let cases: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = cases.as_array().unwrap();
    let case = cases.iter().find(|case| case["case"] == "edge_case_names").unwrap();
    Layout::new(&file::parse(case["collection"].as_str().unwrap(), &case["schema"].to_string()).unwrap()).unwrap()
}

fn gizer(collection: &str, fields: &str) -> Layout {
    let text = format!("{{\"$gizer\": 1, \"fields\": {fields}}}");
    Layout::new(&file::parse(collection, &text).unwrap()).unwrap()
}

fn orders() -> Layout {
    gizer(
        "orders",
        r#"{"_id": "OBJECTID", "customer": {"name": {"$type": "STRING", "$name": "who"}, "vip": "BOOLEAN"},
            "internal": {"$as": "ignore"}, "items": [{"sku": "STRING", "tags": ["STRING"]}],
            "matrix": [{"$as": "table", "$items": "DOUBLE"}], "meta": {"$as": "json"},
            "scores": {"$as": "array", "$type": "INT"}}"#,
    )
}

/// Names that would be code in one of the forms, if they were taken as they are.
fn hostile() -> Layout {
    let fields = serde_json::json!({
        "_id": "KEY", "<script>alert(1)</script>": "STRING", "\"><img src=x onerror=alert(2)>": "INT", "": "INT",
        "' onmouseover='alert(3)": [{"}": "INT", "]]>": "INT", "#quot;": "INT", "-->": "INT", "</style>": "INT"}],
        "a\"b%c\\d": {"%%{init}%%": ["INT"], "名前": "STRING", "1 2": "INT", "1-2": "INT"},
        "\u{1}\u{1b}[31m\u{202e}\n": "INT", "&lt;": {"$as": "ignore"}, "`x`": "INT",
    });
    gizer("<b>evil</b>", &fields.to_string())
}

const CLASSIC_TEXT: &str = include_str!("snapshots/classic.txt");

const ORDERS_TEXT: &str = include_str!("snapshots/orders.txt");

#[test]
fn text_shows_the_tree_beside_the_tables() {
    for (layout, expected) in [(classic(), CLASSIC_TEXT), (orders(), ORDERS_TEXT)] {
        let drawn = text::draw(&[Diagram::new(&layout)]);
        assert_eq!(drawn, expected, "\n{drawn}");
        assert!(drawn.lines().all(|line| line.chars().count() <= 110), "{drawn}");
    }
}

const CLASSIC_MERMAID: &str = include_str!("snapshots/classic.mmd");

const ORDERS_MERMAID: &str = include_str!("snapshots/orders.mmd");

#[test]
fn mermaid_shows_tables_keys_and_relations() {
    for (layout, expected) in [(classic(), CLASSIC_MERMAID), (orders(), ORDERS_MERMAID)] {
        let drawn = mermaid::draw(&[Diagram::new(&layout)]);
        assert_eq!(drawn, expected, "\n{drawn}");
    }
}

/// By the grammar of Mermaid's erDiagram, as far as it is used.
#[test]
fn hostile_names_are_no_mermaid() {
    let drawn = mermaid::draw(&[Diagram::new(&hostile())]);
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let mut words = Vec::new();
    for line in drawn.lines().skip(1) {
        let quotes: Vec<&str> = line.split('"').collect();
        if line == "    }" {
            words.clear();
            continue;
        }
        assert_eq!(quotes.len(), 3, "one text in quotes: {line}");
        assert!(!quotes[1].contains(['<', '>', '%', '\\', '#', ';', '`', '&']) && !quotes[1].is_empty(), "{line}");
        if line.starts_with("        ") {
            let column: Vec<&str> = quotes[0].split_whitespace().collect();
            assert!(is_word(column[1]), "{line}");
            assert!(!words.contains(&column[1].to_owned()), "twice: {line}");
            words.push(column[1].to_owned());
        }
    }
}

#[test]
fn hostile_names_do_nothing_to_a_terminal() {
    let drawn = text::draw(&[Diagram::new(&hostile())]);
    assert!(!drawn.contains(['\u{1b}', '\u{1}', '\u{202e}']), "{drawn:?}");
    assert!(drawn.contains(r"\u{1}\u{1b}[31m\u{202e}\n"), "{drawn}");
    // All the same boxes: nothing in between has pushed a line.
    assert!(drawn.lines().all(|line| line.contains(['│', '┌', '└'])), "{drawn}");
}

/// A piece of a page.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Open(String, Vec<(String, String)>),
    Close(String),
    Text(String),
}

/// Takes a page apart, as strictly as XML: every attribute has a value in double quotes, no `<` means itself.
fn pieces(page: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>\n").unwrap();
    while !rest.is_empty() {
        let Some(inner) = rest.strip_prefix('<') else {
            let (text, after) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
            assert!(!text.contains('>'), "{text}");
            pieces.push(Piece::Text(unescaped(text)));
            rest = after;
            continue;
        };
        let mut end = 0;
        let mut quoted = false;
        for (at, c) in inner.char_indices() {
            quoted ^= c == '"';
            assert!(c != '<', "< in a tag: {}", &inner[..at]);
            if c == '>' && !quoted {
                end = at;
                break;
            }
        }
        let (tag, after) = (&inner[..end], &inner[end + 1..]);
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            pieces.push(Piece::Close(name.to_owned()));
            continue;
        }
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()), "{tag}");
        pieces.push(Piece::Open(name.to_owned(), attributes_of(attributes)));
        // What is in these is no markup.
        if matches!(name, "style" | "script") {
            let at = rest.find(&format!("</{name}>")).unwrap();
            pieces.push(Piece::Text(rest[..at].to_owned()));
            rest = &rest[at..];
        }
    }
    pieces
}

fn attributes_of(mut text: &str) -> Vec<(String, String)> {
    let mut attributes = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap();
        let (value, rest) = rest.split_once('"').unwrap();
        attributes.push((name.trim().to_owned(), unescaped(value)));
        text = rest.trim_start();
    }
    attributes
}

fn unescaped(text: &str) -> String {
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
    let bare =
        text.replace("&lt;", "").replace("&gt;", "").replace("&quot;", "").replace("&#39;", "").replace("&amp;", "");
    assert!(!bare.contains('&'), "{text}");
    plain.replace("&amp;", "&")
}

fn attribute<'p>(attributes: &'p [(String, String)], name: &str) -> Option<&'p str> {
    attributes.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
}

#[test]
fn the_page_is_well_formed_and_nothing_is_missing() {
    for layouts in [vec![classic()], vec![orders()], vec![hostile()], vec![classic(), orders(), hostile()]] {
        let diagrams: Vec<Diagram<'_>> = layouts.iter().map(Diagram::new).collect();
        let pieces = pieces(&html::draw(&diagrams));
        let mut open: Vec<&str> = Vec::new();
        let (mut ids, mut targets, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for piece in &pieces {
            match piece {
                Piece::Text(text) => texts.push(text.as_str()),
                Piece::Close(name) => assert_eq!(open.pop(), Some(name.as_str())),
                Piece::Open(name, attributes) => {
                    if name != "meta" {
                        open.push(name);
                    }
                    ids.extend(attribute(attributes, "id").map(str::to_owned));
                    targets
                        .extend(attribute(attributes, "href").and_then(|to| to.strip_prefix('#')).map(str::to_owned));
                    targets.extend(
                        attribute(attributes, "data-lit").into_iter().flat_map(|all| all.split(' ')).map(str::to_owned),
                    );
                    let harmless = |name: &str| !name.starts_with("on") && name != "style" && name != "src";
                    assert!(attributes.iter().all(|(name, _)| harmless(name)), "{attributes:?}");
                    assert!(!matches!(name.as_str(), "img" | "b" | "link" | "iframe" | "object"), "{name}");
                }
            }
        }
        assert!(open.is_empty(), "{open:?}");
        let distinct: std::collections::HashSet<&String> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len(), "an id stands twice");
        assert!(!targets.is_empty() && targets.iter().all(|target| distinct.contains(target)), "{targets:?}");
        assert_eq!(pieces.iter().filter(|piece| matches!(piece, Piece::Open(name, _) if name == "script")).count(), 1);
        for diagram in &diagrams {
            let shown = |name: &str| texts.contains(&super::super::names::printable(name).as_str());
            let columns = diagram.layout.tables.iter().flat_map(|table| &table.columns);
            assert!(columns.clone().all(|column| shown(&column.name)));
            assert!(diagram.layout.tables.iter().all(|table| shown(&table.name)));
            assert!(diagram.fields.iter().all(|row| shown(row.shown())));
            let paths = diagram.fields.iter().filter(|row| row.kind == super::tree::RowKind::Value);
            assert!(paths.filter(|row| row.columns.len() == 1 && !row.name.is_empty()).all(|row| shown(&row.path)));
        }
    }
}

/// The policy names the hash of what is between the tags: another byte there, and browsers run nothing.
#[test]
fn the_page_fetches_and_runs_nothing_else() {
    use base64::Engine;
    use sha2::{Digest, Sha256};
    let page = html::draw(&[Diagram::new(&hostile())]);
    for tag in ["style", "script"] {
        let (_, rest) = page.split_once(&format!("<{tag}>")).unwrap();
        let (inside, _) = rest.split_once(&format!("</{tag}>")).unwrap();
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(inside));
        assert!(page.contains(&format!("{tag}-src 'sha256-{hash}'")), "{tag}");
        assert!(!inside.contains("http") && !inside.contains("url(") && !inside.contains("@import"), "{tag}");
    }
    assert!(page.contains("default-src 'none'") && !page.contains("://"));
}
