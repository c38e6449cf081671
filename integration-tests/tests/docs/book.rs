//! The pages of the book, read as mdBook reads them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A page of the book.
pub(crate) struct Page {
    /// Relative to `docs/`, such as `architecture/swap.md`.
    pub(crate) path: PathBuf,
    /// How the folder and the commands of the page begin: see [`super::scene::Scene`].
    pub(crate) scene: Option<String>,
    pub(crate) blocks: Vec<Block>,
    /// The ids that headings have in the page that mdBook makes.
    pub(crate) anchors: Vec<String>,
    /// Where links and images lead, with their lines.
    pub(crate) links: Vec<(usize, String)>,
    /// What stands between backticks in the text, with its lines.
    pub(crate) code: Vec<(usize, String)>,
    /// The text of the page.
    pub(crate) text: String,
}

/// A fenced block.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
    pub(crate) line: usize,
    /// What the comments before the block say of it: `<!-- exit: 3 -->`, by name.
    pub(crate) marks: BTreeMap<String, String>,
}

/// What a comment before a block can say of it. Anything else that looks like it is a mistake.
const MARKS: [&str; 7] = ["exit", "file", "not run", "pending", "stays on", "as", "test"];

impl Page {
    /// Reads a page.
    ///
    /// # Errors
    /// What is wrong with its comments.
    pub(crate) fn parse(path: &Path, text: String) -> Result<Page, String> {
        let mut page = Page {
            path: path.to_owned(),
            scene: None,
            blocks: Vec::new(),
            anchors: Vec::new(),
            links: Vec::new(),
            code: Vec::new(),
            text: String::new(),
        };
        let mut marks = BTreeMap::new();
        let mut block: Option<Block> = None;
        let mut heading: Option<String> = None;
        for (event, range) in Parser::new_ext(&text, Options::ENABLE_TABLES).into_offset_iter() {
            let line = text[..range.start].matches('\n').count() + 1;
            match event {
                Event::Start(Tag::CodeBlock(kind)) => {
                    let language = match kind {
                        CodeBlockKind::Fenced(info) => info.to_string(),
                        CodeBlockKind::Indented => "(an indented block)".to_owned(),
                    };
                    block = Some(Block { language, text: String::new(), line, marks: std::mem::take(&mut marks) });
                }
                Event::End(TagEnd::CodeBlock) => page.blocks.extend(block.take()),
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => page.anchors.extend(heading.take()),
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push((line, dest_url.to_string()));
                }
                Event::Code(code) => {
                    page.code.push((line, code.to_string()));
                    if let Some(heading) = &mut heading {
                        heading.push_str(&code);
                    }
                }
                Event::Text(text) => {
                    if let Some(block) = &mut block {
                        block.text.push_str(&text);
                    } else if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::Html(html) | Event::InlineHtml(html) => {
                    if let Some((name, value)) = mark(&html) {
                        match name.as_str() {
                            "scene" => page.scene = Some(value),
                            known if MARKS.contains(&known) => drop(marks.insert(name, value)),
                            _ => return Err(format!("{}:{line}: unknown mark {:?}", path.display(), html.trim())),
                        }
                    }
                }
                _ => {}
            }
        }
        page.anchors = anchors(&page.anchors);
        page.text = text;
        Ok(page)
    }

    /// `docs/mapping.md:12`
    pub(crate) fn at(&self, line: usize) -> String {
        format!("docs/{}:{line}", self.path.display())
    }
}

impl Block {
    /// Under which name another test takes the block and runs it.
    pub(crate) fn other_test(&self) -> Option<&str> {
        self.marks.get("test").map(String::as_str)
    }

    /// Why the block is not run, if it says so.
    pub(crate) fn not_run(&self) -> Option<&str> {
        self.marks.get("not run").map(String::as_str)
    }
}

/// `<!-- exit: 3 -->` is `exit` and `3`; a comment without a colon is one for people.
fn mark(html: &str) -> Option<(String, String)> {
    let comment = html.trim().strip_prefix("<!--")?.strip_suffix("-->")?;
    let (name, value) = comment.split_once(':')?;
    Some((name.trim().to_owned(), value.trim().to_owned()))
}

/// The ids of headings as mdBook makes them: lower case, `-` for blanks, nothing but letters, digits, `-` and `_`; the
/// second of two equal ones ends in `-1`.
fn anchors(headings: &[String]) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let anchor = |heading: &String| {
        let id: String = heading
            .trim()
            .chars()
            .filter_map(|c| match c {
                c if c.is_alphanumeric() || c == '_' || c == '-' => Some(c.to_ascii_lowercase()),
                c if c.is_whitespace() => Some('-'),
                _ => None,
            })
            .collect();
        let count = seen.entry(id.clone()).or_default();
        *count += 1;
        if *count == 1 { id } else { format!("{id}-{}", *count - 1) }
    };
    headings.iter().map(anchor).collect()
}

/// `docs/` of the repository.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs")
}

/// All pages, `SUMMARY.md` among them, in the order of their paths.
pub(crate) fn pages() -> Vec<Page> {
    let (root, mut pages) = (folder(), Vec::new());
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // What mdBook has built, if somebody has.
                if path != root.join("book") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).unwrap();
                pages.push(
                    Page::parse(path.strip_prefix(&root).unwrap(), text).unwrap_or_else(|wrong| panic!("{wrong}")),
                );
            }
        }
    }
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    pages
}

#[test]
fn blocks_come_with_their_marks() {
    let text = "# One `--thing` at a time\n\n<!-- scene: shop -->\n<!-- exit: 3 -->\n```console\n$ false\n```\n\n# One\n\n# One\n\n```text\nx\n```\n";
    let page = Page::parse(Path::new("x.md"), text.to_owned()).unwrap();
    assert_eq!(page.anchors, ["one---thing-at-a-time", "one", "one-1"]);
    assert_eq!(page.scene.as_deref(), Some("shop"));
    let [console, text] = page.blocks.as_slice() else { panic!("{:?}", page.blocks) };
    assert_eq!((console.language.as_str(), console.text.as_str(), console.line), ("console", "$ false\n", 5));
    assert_eq!((console.marks["exit"].as_str(), text.marks.len()), ("3", 0));
    assert!(Page::parse(Path::new("x.md"), "<!-- exti: 3 -->\n".to_owned()).is_err());
}
