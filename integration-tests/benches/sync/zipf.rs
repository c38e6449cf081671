//! Which documents are touched more often than others.

use integration_tests::random::Random;

/// What all random numbers here are of, among those of one seed.
const KIND: u64 = 1 << 32;

/// A sequence of random numbers, the same in every run.
pub(crate) fn random(seed: u64, number: u64) -> Random {
    Random::of(seed, KIND, number)
}

/// The numbers below `limit` in random order.
pub(crate) fn order(random: &mut Random, limit: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..limit).collect();
    for i in (1..limit).rev() {
        numbers.swap(i, random.below(i as u64 + 1) as usize);
    }
    numbers
}

/// Zipf's law with exponent 1: the chance of number n, from 0, is proportional to 1 / (n + 1).
#[derive(Debug)]
pub(crate) struct Zipf {
    /// For each number the chance of it or a smaller one.
    up_to: Vec<f64>,
}

impl Zipf {
    /// For the numbers below `limit`.
    pub(crate) fn new(limit: usize) -> Zipf {
        let sum: f64 = (1..=limit).map(|n| 1.0 / n as f64).sum();
        let mut all = 0.0;
        let up_to = (1..=limit).map(|n| {
            all += 1.0 / n as f64 / sum;
            all
        });
        Zipf { up_to: up_to.collect() }
    }

    /// The next number.
    pub(crate) fn pick(&self, random: &mut Random) -> usize {
        let fraction = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
        self.up_to.partition_point(|&up_to| up_to <= fraction).min(self.up_to.len() - 1)
    }
}
