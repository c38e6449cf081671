//! Peak memory of a load whose documents are as large as MongoDB allows.

use bson::{RawArrayBuf, RawDocumentBuf, cstr, rawdoc};
use integration_tests::bench::report::MIB;
use integration_tests::bench::{Bed, Result, Scene, Spread, load, note};
use serde_json::{Value, json};

use crate::report;

/// Bytes of the large field: the server takes documents of 16 MiB, with everything around it.
const FIELD_BYTES: usize = (16 << 20) - 1024;

/// Characters in a sub-document of the array, which has about 100,000.
const TEXT_BYTES: usize = 130;

/// What the large field of a document is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// One string.
    Text,
    /// An array of integers, about 1.4 million: as many rows.
    Numbers,
    /// An array of sub-documents, about 100,000: as many rows.
    Items,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Text, Kind::Numbers, Kind::Items];

    fn collection(self) -> &'static str {
        match self {
            Kind::Text => "big_texts",
            Kind::Numbers => "big_numbers",
            Kind::Items => "big_items",
        }
    }

    fn document(self, id: i32) -> RawDocumentBuf {
        let mut document = rawdoc! { "_id": id };
        match self {
            Kind::Text => document.append(cstr!("text"), "x".repeat(FIELD_BYTES)),
            Kind::Numbers => document.append(cstr!("numbers"), filled(|array, i| array.push(i))),
            Kind::Items => {
                let text = "x".repeat(TEXT_BYTES);
                document.append(
                    cstr!("items"),
                    filled(|array, i| array.push(rawdoc! { "number": i, "text": text.as_str() })),
                );
            }
        }
        document
    }
}

/// An array with as many elements as a document can hold.
fn filled(mut push: impl FnMut(&mut RawArrayBuf, i32)) -> RawArrayBuf {
    let mut array = RawArrayBuf::new();
    // Room for one element more, whatever its kind.
    let mut numbers = 0..;
    while array.as_bytes().len() + 2 * TEXT_BYTES < FIELD_BYTES
        && let Some(number) = numbers.next()
    {
        push(&mut array, number);
    }
    array
}

/// Loads of one collection.
#[derive(Debug)]
pub(crate) struct Big {
    collection: &'static str,
    documents: u64,
    rows: u64,
    /// Seconds.
    wall: Spread,
    /// MiB.
    peak: Spread,
}

/// Loads a collection of each kind, and one of all kinds with `documents` documents.
///
/// # Errors
/// The servers' and gizer's.
pub(crate) async fn measure(bed: &Bed, documents: u32, rounds: u32) -> Result<Vec<Big>> {
    let scene = bed.scene("big").await?;
    let documents = i32::try_from(documents)?;
    let mut collections = Vec::new();
    for kind in Kind::ALL {
        fill(&scene, kind.collection(), documents / 3, &[kind]).await?;
        collections.push(kind.collection());
    }
    fill(&scene, "big_mixed", documents, &Kind::ALL).await?;
    collections.push("big_mixed");
    note("gizer schema infer");
    scene.infer().await?;

    let mut all = Vec::new();
    for collection in collections {
        let mut loads = Vec::new();
        for _ in 0..rounds {
            let loaded = load(bed, &scene, collection, &[]).await?;
            note(format!("{collection}: {:.2} s", loaded.sample.usage.wall));
            loads.push(loaded);
        }
        let Some(last) = loads.last() else { continue };
        all.push(Big {
            collection,
            documents: last.documents,
            rows: last.rows,
            wall: Spread::of(loads.iter().map(|load| load.sample.usage.wall)),
            peak: Spread::of(loads.iter().map(|load| load.sample.peak.unwrap_or_default() as f64 / MIB)),
        });
    }
    Ok(all)
}

/// Inserts documents of these kinds in turn, one at a time: two do not fit into a message together with a third.
async fn fill(scene: &Scene, name: &str, documents: i32, kinds: &[Kind]) -> Result<()> {
    note(format!("inserting {documents} documents of 16 MiB into {name}"));
    let collection = scene.collection(name);
    for (id, kind) in (0..documents).zip(kinds.iter().cycle()) {
        collection.insert_one(kind.document(id)).await?;
    }
    Ok(())
}

/// As text.
pub(crate) fn text(all: &[Big]) -> String {
    let lines = all.iter().map(|big| (big.collection, big.documents, big.wall, big.peak));
    report::loads("Documents of 16 MiB:", lines)
}

/// For the file of figures.
pub(crate) fn json(all: &[Big]) -> Value {
    let big = |big: &Big| {
        json!({
            "collection": big.collection, "documents": big.documents, "rows": big.rows, "wall_s": big.wall.json(),
            "gizer_peak_mib": big.peak.json(),
        })
    };
    all.iter().map(big).collect()
}
