//! Fills a MongoDB database with a made-up shop, or shows a document of it.
//!
//! ```text
//! fill-shop URI DATABASE [--orders N] [--posts M] [--products P] [--seed S]
//! fill-shop URI DATABASE --show COLLECTION FILTER
//! ```
//!
//! The first form inserts N orders, M posts and P products, none unless told; the same seed (1 unless told) gives the
//! same documents. Progress goes to standard error. The second form prints the first document that matches a filter;
//! both are Extended JSON.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use bson::{Document, RawDocumentBuf, doc};
use integration_tests::shop::{Documents, Filled, Shop, fill, outline};
use mongodb::options::ClientOptions;
use mongodb::{Client, Database};

const USAGE: &str = "usage: fill-shop URI DATABASE [--orders N] [--posts M] [--products P] [--seed S]
       fill-shop URI DATABASE --show COLLECTION FILTER";

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Command::parse(std::env::args().skip(1)) {
        Some(command) => command.run().await,
        None => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if standard error is closed.
            let _ = writeln!(io::stderr(), "fill-shop: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Command {
    uri: String,
    database: String,
    action: Action,
}

enum Action {
    Fill { orders: u64, posts: u64, products: u64, seed: u64 },
    Show { collection: String, filter: String },
}

impl Command {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let (uri, database) = (args.next()?, args.next()?);
        let (mut orders, mut posts, mut products, mut seed) = (0, 0, 0, 1);
        while let Some(option) = args.next() {
            let value = args.next()?;
            match option.as_str() {
                "--orders" => orders = value.parse().ok()?,
                "--posts" => posts = value.parse().ok()?,
                "--products" => products = value.parse().ok()?,
                "--seed" => seed = value.parse().ok()?,
                "--show" => {
                    let filter = args.next()?;
                    return Some(Self { uri, database, action: Action::Show { collection: value, filter } });
                }
                _ => return None,
            }
        }
        Some(Self { uri, database, action: Action::Fill { orders, posts, products, seed } })
    }

    async fn run(self) -> Result<(), Box<dyn Error>> {
        let mut options = ClientOptions::parse(&self.uri).await?;
        // A server that has gone is not waited for: whoever calls this has started it before.
        options.server_selection_timeout.get_or_insert(Duration::from_secs(5));
        let database = Client::with_options(options)?.database(&self.database);
        match self.action {
            Action::Fill { orders, posts, products, seed } => {
                let shop = Shop::new(seed);
                fill_collection(&database, "orders", shop.orders(0..orders)).await?;
                fill_collection(&database, "posts", shop.posts(0..posts)).await?;
                fill_collection(&database, "products", shop.products(0..products)).await
            }
            Action::Show { collection, filter } => show(&database, &collection, &filter).await,
        }
    }
}

async fn fill_collection(database: &Database, name: &str, documents: Documents) -> Result<(), Box<dyn Error>> {
    let wanted = documents.len();
    if wanted == 0 {
        return Ok(());
    }
    let on_terminal = io::stderr().is_terminal();
    let mut stderr = io::stderr();
    let progress = |filled: Filled| {
        if on_terminal {
            let _ = write!(stderr, "\r{name}: {} of {wanted}", filled.documents);
        }
    };
    let filled = fill(&database.collection::<RawDocumentBuf>(name), documents, progress).await?;
    let (documents, megabytes) = (filled.documents, filled.bytes as f64 / 1e6);
    let seconds = filled.elapsed.as_secs_f64();
    let return_to_start = if on_terminal { "\r" } else { "" };
    writeln!(
        io::stderr(),
        "{return_to_start}{name}: {documents} documents, {megabytes:.1} MB in {seconds:.1} s, {:.0} documents/s",
        documents as f64 / seconds
    )?;
    Ok(())
}

async fn show(database: &Database, collection: &str, filter: &str) -> Result<(), Box<dyn Error>> {
    let filter: Document = serde_json::from_str(filter)?;
    let found = database.collection::<Document>(collection).find_one(filter.clone()).sort(doc! { "_id": 1 }).await?;
    let found =
        found.ok_or_else(|| format!("expected a document of {collection} that matches {filter}, found none"))?;
    writeln!(io::stdout(), "{}", outline(&found))?;
    Ok(())
}
