//! What `status` takes.

use std::time::Duration;

use clap::Args;

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Lag is how far the position of a shard is behind the newest entry of its oplog; headroom is how long it takes until that
position is no longer in it, at the average write rate since its oldest entry. Where MongoDB does not answer
within 5 s, the rest is shown without them.

Examples:
  gizer status                                      one screen
  gizer status orders --runs 20                     this collection, and more of the last runs
  gizer status --check                              for a monitor: exit code 6, a line a warning
  gizer status --check --max-lag 5m --min-headroom 1d
  gizer status --format json                        for a script; docs: \"The JSON of gizer status\"

--check warns of a lag, a headroom, rejected documents and unverified time beyond the limits below; of a load that is due or
has died; of a last run that failed; of a last full audit that found differences; and if MongoDB does not answer.")]
pub struct StatusArgs {
    /// Collections [default: all].
    #[arg(value_name = "COLLECTION")]
    pub collections: Vec<String>,

    /// How many of the last runs to show.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub runs: u32,

    /// Say only what an operator should look at, a line each, and end with exit code 6 if there is anything.
    #[arg(long)]
    pub check: bool,

    /// The limits of --check.
    #[command(flatten)]
    pub limits: CheckLimits,
}

/// The limits beyond which there is a warning.
#[derive(Debug, Clone, Copy, Args)]
pub struct CheckLimits {
    /// With --check: the longest lag, such as 90s, 15m, 6h or 2d.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = parse_time, requires = "check")]
    pub max_lag: Duration,

    /// With --check: the least time until the position is no longer in the oplog.
    #[arg(long, value_name = "TIME", default_value = "6h", value_parser = parse_time, requires = "check")]
    pub min_headroom: Duration,

    /// With --check: the most documents of a collection that were rejected.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "check")]
    pub max_rejected: u64,

    /// With --check: the longest time up to which nothing is verified [default: not looked at].
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "check")]
    pub max_unverified: Option<Duration>,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a time such as 90s, 15m, 6h or 2d, got {text:?}");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let seconds = match unit.trim() {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(expected()),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("15m", 900), ("6h", 21_600), ("2 d", 172_800)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "-1h", "1w", "1.5h", "99999999999999999999d"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
