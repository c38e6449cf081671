//! Numbers that look random and are the same on every machine.

/// SplitMix64 (Steele, Lea, Flood 2014): small, quick, and every seed gives a sequence of its own.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of one thing: the `number`-th order of a shop, say. No thing needs another one's sequence, so that
    /// any part of a shop can be made by itself.
    pub fn of(seed: u64, kind: u64, number: u64) -> Self {
        let mut sequence = Self(seed);
        let mut sequence = Self(sequence.next() ^ kind);
        Self(sequence.next() ^ number)
    }

    /// Any number.
    #[allow(clippy::should_implement_trait, reason = "a sequence without an end needs no Option")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A number below `limit`, all as likely as each other.
    pub fn below(&mut self, limit: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(limit);
        (product >> 64) as u64
    }

    /// A number below `limit`, small ones more likely than large ones: the first quarter comes up half of the time.
    pub fn skewed_below(&mut self, limit: u64) -> u64 {
        let fraction = self.below(1 << 32);
        let squared = u128::from(fraction * fraction);
        ((squared * u128::from(limit)) >> 64) as u64
    }

    /// A number from `first` to `last`, all as likely as each other.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of the choices, all as likely as each other.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// One of the choices, the first ones more often.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick_skewed<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.skewed_below(choices.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_splitmix64() {
        // From the reference implementation, seed 1234567.
        let mut random = Random(1_234_567);
        let numbers = [random.next(), random.next(), random.next()];
        assert_eq!(numbers, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn numbers_stay_below_their_limit_and_reach_all_below_it() {
        let mut random = Random::of(1, 2, 3);
        let mut seen = [[0; 4]; 2];
        for _ in 0..10_000 {
            seen[0][random.below(4) as usize] += 1;
            seen[1][random.skewed_below(4) as usize] += 1;
        }
        assert!(seen[0].iter().all(|&times| (2_300..2_700).contains(&times)), "{seen:?}");
        assert!((4_800..5_200).contains(&seen[1][0]) && seen[1][3] > 1_000, "{seen:?}");
    }
}
