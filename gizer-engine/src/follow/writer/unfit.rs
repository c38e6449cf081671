//! Records values without a place in the schema.

use gizer_flatten::Tally;
use gizer_pg::state::{self, UnfitCount};
use gizer_schema::Layout;

use super::{BatchWriter, Purpose};
use crate::failure::Failure;
use crate::unfit::{of_mismatch, of_unknown};

impl BatchWriter<'_> {
    /// Records them in the open transaction. For staging tables the load reports them instead.
    pub(super) async fn record_unfit(&mut self) -> Result<(), Failure> {
        if let Purpose::Load { .. } = self.purpose {
            return Ok(());
        }
        for (member, tables) in self.tables.iter().enumerate() {
            let Some(tally) = self.batch.done.tallies.get(&tables.name) else { continue };
            let counts = unfit_counts(tally, &tables.layout);
            let new = state::count_unfit(self.session, &tables.name, &counts, tally.unknown_beyond()).await?;
            self.batch.new_unfit.extend(new.into_iter().map(|number| (member, counts[number].clone())));
            let applied = self.batch.applied.entry(member).or_default();
            let sum = |unknown: bool| {
                counts.iter().filter(|count| count.expected.is_none() == unknown).map(|count| count.count).sum::<u64>()
            };
            applied.unknown += sum(true) + tally.unknown_beyond();
            applied.unfit += sum(false);
        }
        Ok(())
    }
}

/// The counts of a tally, by path and type.
fn unfit_counts(tally: &Tally, layout: &Layout) -> Vec<UnfitCount> {
    let (mismatches, unknown) = (tally.mismatches(layout), tally.unknown_by_kind());
    mismatches.iter().map(of_mismatch).chain(unknown.iter().map(of_unknown)).collect()
}
