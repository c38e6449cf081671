//! Numbers that look random and are the same in every run.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A number below `limit`, all as likely as each other.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }

    /// A number from 0, below 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The numbers below `limit` in random order.
    pub(crate) fn order(&mut self, limit: usize) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..limit).collect();
        for i in (1..limit).rev() {
            numbers.swap(i, self.below(i + 1));
        }
        numbers
    }
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
        let fraction = random.fraction();
        self.up_to.partition_point(|&up_to| up_to <= fraction).min(self.up_to.len() - 1)
    }
}
