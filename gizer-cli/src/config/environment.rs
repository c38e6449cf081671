//! Environment variables that look like settings and are none.

use super::{SETTINGS, password};

/// What all variables of settings begin with.
const PREFIX: &str = "GIZER_";

/// What the variables of gizer's own tests begin with, which their runs of gizer inherit.
const TESTS_PREFIX: &str = "GIZER_RIG_";

/// Those of the names that begin like a setting's variable and belong to none, each with the nearest one that does.
///
/// They are worth a warning and not an error: some other program may use the same beginning.
pub fn unknown_variables(names: impl IntoIterator<Item = String>) -> Vec<(String, Option<String>)> {
    let choices = [super::POSTGRES_SECTION_VARIABLE, super::CACHE_SECTION_VARIABLE].map(str::to_owned);
    let passwords = password::SECTIONS.into_iter().map(password::variable);
    let known: Vec<String> = SETTINGS.iter().map(super::Setting::variable).chain(choices).chain(passwords).collect();
    let mut unknown: Vec<(String, Option<String>)> = names
        .into_iter()
        .filter(|name| name.starts_with(PREFIX) && !name.starts_with(TESTS_PREFIX) && !known.contains(name))
        .map(|name| {
            let near = nearest(&name, PREFIX.len(), &known);
            (name, near)
        })
        .collect();
    unknown.sort_unstable();
    unknown
}

/// The likeliest of the known names, if it is like enough to be meant.
pub fn nearest_of(name: &str, known: &[String]) -> Option<String> {
    nearest(name, 0, known)
}

/// The likeliest of the known names, if it is like enough to be meant. All have the same first `prefix` bytes.
pub(super) fn nearest(name: &str, prefix: usize, known: &[String]) -> Option<String> {
    let own = &name[prefix..];
    let distance = |known: &String| (strsim::levenshtein(own, &known[prefix..]), known.clone());
    let (distance, nearest) = known.iter().map(distance).min()?;
    (distance <= (own.chars().count() / 3).max(2)).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_are_no_settings_are_named_with_the_near_one() {
        let names = [
            "GIZER_POSTGRES_SHEMA",
            "GIZER_MONGO_URI",
            "GIZER_RIG_KEEP",
            "GIZER_CACHE_PASSWORD",
            "GIZER_HOME",
            "HOME",
            "GIZER_",
        ];
        let unknown = unknown_variables(names.map(str::to_owned));
        let near = |name: &str| Some(name.to_owned());
        assert_eq!(
            unknown,
            [
                ("GIZER_".to_owned(), None),
                ("GIZER_HOME".to_owned(), None),
                ("GIZER_POSTGRES_SHEMA".to_owned(), near("GIZER_POSTGRES_SCHEMA")),
            ]
        );
    }
}
