//! How time and peak memory of a load grow with the number of documents.

use std::fs;
use std::path::Path;

use integration_tests::bench::report::MIB;
use integration_tests::bench::{Bed, Result, Spread, load, note};
use serde_json::{Value, json};

use crate::plot::{self, Panel, Point};
use crate::report;

/// Loads of one number of documents.
#[derive(Debug)]
pub(crate) struct Size {
    documents: u64,
    /// Seconds.
    wall: Spread,
    /// MiB.
    peak: Spread,
}

/// Loads a collection of orders that grows from one size to the next.
///
/// # Errors
/// Sizes that do not ascend; the servers' and gizer's.
pub(crate) async fn measure(bed: &Bed, sizes: &[u64], rounds: u32) -> Result<Vec<Size>> {
    if !sizes.is_sorted_by(|one, next| one < next) {
        return Err(format!("expected ascending sizes, got {sizes:?}").into());
    }
    let scene = bed.scene("growth").await?;
    let mut all = Vec::new();
    let mut filled = 0;
    for &documents in sizes {
        note(format!("growth: inserting up to {documents} orders"));
        scene.fill_orders(filled..documents).await?;
        if filled == 0 {
            // One schema for all sizes, and a first load that does not count.
            scene.infer().await?;
            load(bed, &scene, "orders", &[]).await?;
        }
        filled = documents;
        let mut samples = Vec::new();
        for _ in 0..rounds {
            let loaded = load(bed, &scene, "orders", &[]).await?;
            if loaded.documents != documents {
                return Err(format!("expected {documents} documents, gizer has read {}", loaded.documents).into());
            }
            note(format!("growth: {documents} orders: {:.2} s", loaded.sample.usage.wall));
            samples.push(loaded.sample);
        }
        all.push(Size {
            documents,
            wall: Spread::of(samples.iter().map(|sample| sample.usage.wall)),
            peak: Spread::of(samples.iter().map(|sample| sample.peak.unwrap_or_default() as f64 / MIB)),
        });
    }
    Ok(all)
}

/// Draws both panels into a file.
///
/// # Errors
/// The file's.
pub(crate) fn write_plot(sizes: &[Size], path: &Path) -> Result<()> {
    let points = |of: fn(&Size) -> Spread| {
        sizes.iter().map(|size| Point { x: size.documents as f64, y: of(size) }).collect::<Vec<Point>>()
    };
    let svg = plot::svg(&[
        Panel { title: "Time of gizer load", unit: "seconds", points: points(|size| size.wall) },
        Panel { title: "Peak memory of gizer load", unit: "MiB", points: points(|size| size.peak) },
    ]);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, svg).map_err(|error| format!("could not write {}: {error}", path.display()).into())
}

/// As text.
pub(crate) fn text(sizes: &[Size]) -> String {
    report::loads("Growth:", sizes.iter().map(|size| ("orders", size.documents, size.wall, size.peak)))
}

/// For the file of figures.
pub(crate) fn json(sizes: &[Size]) -> Value {
    let size = |size: &Size| json!({"documents": size.documents, "wall_s": size.wall.json(), "gizer_peak_mib": size.peak.json()});
    sizes.iter().map(size).collect()
}
