//! Fewer events, as long as a plan still fails: delta debugging (Zeller, Hildebrandt 2002).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::plan::Plan;

/// A smaller plan that fails, too, as far as one is found in time. A plan may fail now and then only: one that does not is taken
/// for one that cannot.
pub(crate) async fn shrink(plan: &Plan, limit: Duration, mut fails: impl AsyncFnMut(&Plan) -> bool) -> Plan {
    let end = Instant::now() + limit;
    let mut kept: Vec<usize> = plan.numbers().into_iter().collect();
    let mut parts = 2;
    while !kept.is_empty() && Instant::now() < end {
        let size = kept.len().div_ceil(parts);
        let mut smaller = None;
        // The last events first: nothing after a failure is needed for it.
        for start in (0..kept.len()).step_by(size).rev() {
            if Instant::now() >= end {
                break;
            }
            let left = start..(start + size).min(kept.len());
            let fewer: Vec<usize> = kept[..left.start].iter().chain(&kept[left.end..]).copied().collect();
            if fails(&plan.with(&as_set(&fewer))).await {
                smaller = Some(fewer);
                break;
            }
        }
        match smaller {
            Some(fewer) => {
                kept = fewer;
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(kept.len()),
        }
    }
    plan.with(&as_set(&kept))
}

fn as_set(numbers: &[usize]) -> BTreeSet<usize> {
    numbers.iter().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::super::draw::Length;
    use super::*;

    /// Fails if two events meet, of which one is in the first round and one is a later round's.
    #[tokio::test]
    async fn what_does_not_matter_is_left_out() {
        let plan = Plan::draw(2, Length::Short);
        let numbers: Vec<usize> = plan.numbers().into_iter().collect();
        let needed = [numbers[3], numbers[numbers.len() - 5]];
        let mut tries = 0;
        let shrunk = shrink(&plan, Duration::from_secs(60), async |plan| {
            tries += 1;
            needed.iter().all(|number| plan.numbers().contains(number))
        });
        assert_eq!(shrunk.await.numbers(), BTreeSet::from(needed));
        assert!(tries < 100, "{tries}");
    }

    #[tokio::test]
    async fn shrinking_ends_in_time() {
        let plan = Plan::draw(2, Length::Short);
        let shrunk = shrink(&plan, Duration::ZERO, async |_| true).await;
        assert_eq!(shrunk.numbers(), plan.numbers());
    }
}
