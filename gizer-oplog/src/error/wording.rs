//! Parts of messages.

pub(super) fn of_content(compressed: bool) -> &'static str {
    if compressed { " of its uncompressed content" } else { "" }
}

pub(super) fn user(authenticated: bool) -> &'static str {
    if authenticated { "the user" } else { "an unauthenticated user" }
}

/// `; none leads to a; none leads to b`, or nothing.
pub(super) fn each(before: &str, labels: &[String], after: &str) -> String {
    labels.iter().map(|label| format!("; {before}{label}{after}")).collect()
}

/// `; did you mean "a" or "b"?`, or nothing.
pub(super) fn did_you_mean(near: &[String]) -> String {
    let quoted: Vec<String> = near.iter().map(|name| format!("{name:?}")).collect();
    if quoted.is_empty() { String::new() } else { format!("; did you mean {}?", quoted.join(" or ")) }
}

/// `; readPreference=…`, or nothing.
pub(super) fn asked_for(read_preference: Option<&str>) -> String {
    read_preference.map(|asked| format!("; readPreference={asked} in the URI wants another member")).unwrap_or_default()
}
