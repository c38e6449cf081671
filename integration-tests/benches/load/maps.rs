//! Loads of documents keyed by identifiers, next to arrays of the same entries.

use std::fmt::Write as _;

use bson::{Bson, Document, RawDocumentBuf, doc};
use integration_tests::bench::{Bed, Result, Sample, Scene, Series, Spread, load, note, report};
use serde_json::{Value, json};

/// The collections, named by what their documents have.
const COLLECTIONS: [&str; 2] = ["arrays", "maps"];

/// The root table, its entries, and what is in an array of each entry.
const TABLES: usize = 3;

/// Documents that are inserted with one message.
const BATCH: u64 = 1_000;

/// Loads of both collections, in turn.
#[derive(Debug)]
pub(crate) struct Maps {
    documents: u64,
    rows: u64,
    all: [Series; 2],
}

/// Loads arrays and maps of the same entries, one after the other in each round.
///
/// # Errors
/// The servers' and gizer's; if the tables or rows of one are not as many as those of the other.
pub(crate) async fn measure(bed: &Bed, documents: u64, rounds: u32) -> Result<Maps> {
    let scene = bed.scene("maps").await?;
    for name in COLLECTIONS {
        fill(&scene, name, documents).await?;
    }
    note("gizer schema infer");
    scene.infer().await?;
    let mut found = Maps { documents, rows: 0, all: COLLECTIONS.map(Series::new) };
    for name in COLLECTIONS {
        let tables = scene.layout(name)?.tables.len();
        if tables != TABLES {
            return Err(format!("expected {TABLES} tables for {name}, got {tables}").into());
        }
        found.rows = load(bed, &scene, name, &[]).await?.rows;
    }
    for round in 1..=rounds {
        for series in &mut found.all {
            let loaded = load(bed, &scene, series.title, &[]).await?;
            if (loaded.documents, loaded.rows) != (documents, found.rows) {
                return Err(format!("expected {documents} documents and {} rows, got {loaded:?}", found.rows).into());
            }
            note(format!("round {round} of {rounds}: {}: {:.2} s", series.title, loaded.sample.usage.wall));
            series.samples.push(loaded.sample);
        }
    }
    Ok(found)
}

async fn fill(scene: &Scene, name: &str, documents: u64) -> Result<()> {
    note(format!("inserting {documents} documents into {name}"));
    let collection = scene.collection(name);
    for start in (0..documents).step_by(BATCH as usize) {
        let numbers = start..documents.min(start + BATCH);
        let batch: std::result::Result<Vec<RawDocumentBuf>, _> =
            numbers.map(|number| RawDocumentBuf::try_from(&document(name, number))).collect();
        collection.insert_many(batch?).await?;
    }
    Ok(())
}

/// A document with four entries, under names of 32 hexadecimal digits or in an array.
fn document(collection: &str, number: u64) -> Document {
    let entries = (0..4).map(|entry| {
        let id = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ entry;
        let tier = doc! { "active": entry % 2 == 0, "benefits": ["concierge", "24 hour line"], "tier": "Gold" };
        (format!("{id:016x}{:016x}", !id), tier)
    });
    let tiers: Bson = if collection == "maps" {
        Bson::from(entries.map(|(id, tier)| (id, tier.into())).collect::<Document>())
    } else {
        entries.map(|(id, tier)| Bson::from(doc! { "id": id }.into_iter().chain(tier).collect::<Document>())).collect()
    };
    doc! { "_id": number as i64, "tiers": tiers }
}

impl Maps {
    /// How often longer the maps took than the arrays: medians, and round by round.
    fn ratio(&self, of: fn(&Sample) -> f64) -> Spread {
        let [arrays, maps] = &self.all;
        let pairs = arrays.samples.iter().zip(&maps.samples);
        let by_round = Spread::of(pairs.map(|(array, map)| of(map) / of(array)));
        Spread { median: maps.spread(of).median / arrays.spread(of).median, ..by_round }
    }

    /// As text.
    pub(crate) fn text(&self) -> String {
        let (documents, rows) = (report::thousands(self.documents as f64), report::thousands(self.rows as f64));
        let mut text = format!("\nMaps and arrays of the same entries, {documents} documents, {rows} rows each:\n");
        for series in &self.all {
            let _ = writeln!(text, "{:<39} {} s", series.title, series.wall().text());
        }
        let _ = writeln!(
            text,
            "maps/arrays: {} of the time, {} of gizer's processor time",
            self.ratio(|sample| sample.usage.wall).text(),
            self.ratio(|sample| sample.usage.gizer).text(),
        );
        text.push_str(&report::effort(39, &self.all));
        text
    }

    /// For the file of figures.
    pub(crate) fn json(&self) -> Value {
        json!({
            "documents": self.documents, "rows": self.rows, "series": self.all.each_ref().map(Series::json),
            "maps_to_arrays": self.ratio(|sample| sample.usage.wall).json(),
        })
    }
}
