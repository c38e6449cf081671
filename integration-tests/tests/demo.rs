//! `scripts/demo` does what it says, and leaves nothing behind however it ends.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bson::Document;
use integration_tests::rig::{unique_name, wait_for, wait_until};
use integration_tests::shop::Shop;

type Outcome = Result<(), Box<dyn Error>>;

/// Enough for a build from nothing on a slow machine.
const LIMIT: Duration = Duration::from_secs(1_200);

/// How long servers may take to go.
const END_LIMIT: Duration = Duration::from_secs(60);

/// A run of the demo, in a folder for temporary files of its own.
struct Demo {
    child: Child,
    folder: PathBuf,
}

impl Demo {
    fn start(args: &[&str]) -> Result<Self, Box<dyn Error>> {
        let folder = std::env::temp_dir().join(unique_name("gizer-demo-test"));
        fs::create_dir(&folder)?;
        // PostgreSQL may run as another user, who needs to pass through.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        let output = File::create(folder.join("output"))?;
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("scripts").join("demo"));
        command.args(args).env("GIZER_PROFILE", "dev").env("TMPDIR", &folder);
        // What cargo tells a test of its package, build scripts would take for a reason to build all again.
        let of_this_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_TARGET_TMPDIR"];
        for (name, _) in std::env::vars_os() {
            if of_this_package.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // Ctrl-C on a terminal reaches the whole group.
        command.process_group(0);
        Ok(Self { child: command.spawn()?, folder })
    }

    fn output(&self) -> String {
        fs::read_to_string(self.folder.join("output")).unwrap_or_default()
    }

    /// Waits for its end, and returns its exit code.
    async fn wait(&mut self) -> Result<Option<i32>, Box<dyn Error>> {
        let status = wait_for("the demo to end", LIMIT, async || self.child.try_wait().transpose()).await??;
        Ok(status.code())
    }

    /// Every process that the demo started and that still runs, by its command line.
    fn processes(&self) -> Vec<String> {
        // A child inherits where temporary files go, whatever becomes of its parent.
        let mark = format!("TMPDIR={}", self.folder.display());
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let started_here = entries.filter(|entry| {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        });
        started_here
            .map(|entry| fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " "))
            .collect()
    }

    /// Files in its folder other than its output.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| !path.ends_with("output")).collect()
    }

    async fn expect_nothing_left(&self) -> Outcome {
        let gone = wait_until("all that the demo started to be gone", END_LIMIT, async || {
            self.processes().is_empty() && self.files().is_empty()
        });
        gone.await.map_err(|error| format!("{error}: {:?} {:?}", self.processes(), self.files()))?;
        Ok(())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Its servers end when it is gone. Both fail if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Items and tags of the demo's orders.
fn items_and_tags(orders: u64) -> (usize, usize) {
    let orders = Shop::new(1).orders(0..orders).map(|order| Document::try_from(order).unwrap());
    let items: Vec<Document> = orders
        .flat_map(|order| order.get_array("items").unwrap().clone())
        .map(|item| item.as_document().unwrap().clone())
        .collect();
    let tags = items.iter().map(|item| item.get_array("tags").map_or(0, Vec::len)).sum();
    (items.len(), tags)
}

/// Days of all products of the demo.
fn days_of_products() -> usize {
    let products = Shop::new(1).products(0..40).map(|product| Document::try_from(product).unwrap());
    products.map(|product| product.get_document("daily").map_or(0, Document::len)).sum()
}

#[tokio::test]
async fn the_demo_loads_a_shop_shows_it_and_leaves_nothing() -> Outcome {
    let mut demo = Demo::start(&["--orders", "300"])?;
    let code = demo.wait().await?;
    let output = demo.output();
    assert_eq!(code, Some(0), "{output}");
    let (items, tags) = items_and_tags(300);
    assert!(items < 1_000 && tags > 1_000, "{items} items, {tags} tags: the lines below are written for that");
    let tags = format!("{},{:03}", tags / 1_000, tags % 1_000);
    let days = days_of_products();
    let days = format!("{},{:03}", days / 1_000, days % 1_000);
    let words = [
        "MongoDB 6.0.27 at 127.0.0.1:",
        "PostgreSQL ",
        "orders: 300 documents, ",
        "posts: 30 documents, ",
        "products: 40 documents, ",
        "$ gizer schema infer ",
        " products.daily: map, 60 names in ",
        "CREATE TABLE \"public\".\"order_item_tags\" (",
        "$ gizer load ",
        &format!(" order_items {items} "),
        &format!(" order_item_tags {tags} "),
        &format!(" product_daily {days} "),
        " WHERE paid GROUP BY country ",
        " Germany │ ",
        " tag │ items │ pieces ",
        " kitchen │ ",
        " title │ comments │ last_word │ said ",
        " FROM product_daily ",
        " weekday │ views │ sold ",
        " Sunday │ ",
        "$ gizer status ",
        " init load 370 done ",
        "The servers have been ended, and nothing is left of them.",
    ];
    let on_one_line = output.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut rest = on_one_line.as_str();
    for words in words {
        rest = rest
            .split_once(words.trim_end())
            .unwrap_or_else(|| panic!("{words:?} is not there, or too early:\n{output}"))
            .1;
    }
    assert!(!output.contains('\u{1b}'), "colours are for terminals: {output}");
    demo.expect_nothing_left().await
}

#[tokio::test]
async fn an_interrupted_demo_leaves_nothing() -> Outcome {
    let mut demo = Demo::start(&["--orders", "100000"])?;
    wait_until("the demo to fill its shop", LIMIT, async || demo.output().contains("== A shop, made up")).await?;
    let interrupt = format!("kill -s INT -- -{}", demo.child.id());
    assert!(Command::new("sh").args(["-c", &interrupt]).status()?.success());
    assert_eq!(demo.wait().await?, Some(130), "{}", demo.output());
    assert!(demo.output().contains("stopped with exit code 130 at: A shop, made up"), "{}", demo.output());
    demo.expect_nothing_left().await
}

#[tokio::test]
async fn a_killed_demo_leaves_no_server() -> Outcome {
    let mut demo = Demo::start(&["--orders", "100000"])?;
    wait_until("the demo to fill its shop", LIMIT, async || demo.output().contains("== A shop, made up")).await?;
    demo.child.kill()?;
    demo.wait().await?;
    let gone = wait_until("the servers to be gone", END_LIMIT, async || demo.processes().is_empty());
    gone.await.map_err(|error| format!("{error}: {:?}", demo.processes()))?;
    Ok(())
}

#[tokio::test]
async fn a_kept_demo_says_how_to_use_and_how_to_end_it() -> Outcome {
    let mut demo = Demo::start(&["--orders", "100", "--keep"])?;
    let code = demo.wait().await?;
    let output = demo.output();
    assert_eq!(code, Some(0), "{output}");
    let line_with = |words: &str| output.lines().rev().find(|line| line.contains(words)).unwrap_or_default().trim();
    let use_it = line_with("gizer status").trim_start_matches("gizer");
    let shown = Command::new("sh").args(["-c", use_it]).output()?;
    assert!(String::from_utf8_lossy(&shown.stdout).contains("order_item_tags"), "{use_it}: {shown:?}");

    let end_it = line_with("kill ");
    assert!(Command::new("sh").args(["-c", end_it]).status()?.success(), "{end_it}");
    demo.expect_nothing_left().await
}
