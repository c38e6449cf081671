//! Values on a benchmark's command line.

/// `50000`, `50_000`, `50k` or `1.6M`.
///
/// # Errors
/// What was expected.
pub fn count(text: &str) -> Result<u64, String> {
    let expected = || format!("expected a number from 1, such as 400k or 1.6M, got {text:?}");
    let (number, unit) = match text.as_bytes().last() {
        Some(b'k') => (&text[..text.len() - 1], 1e3),
        Some(b'M') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let number: f64 = number.replace('_', "").parse().map_err(|_| expected())?;
    let count = (number * unit).round();
    if (1.0..1e10).contains(&count) { Ok(count as u64) } else { Err(expected()) }
}

/// A setting of a server, `NAME=VALUE`.
///
/// # Errors
/// What was expected.
pub fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("expected NAME=VALUE, got {text:?}"))?;
    Ok((name.to_owned(), value.to_owned()))
}
