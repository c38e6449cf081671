//! Environment variables that look like settings and are none.

use super::{SETTINGS, password};

/// What all variables of settings begin with.
const PREFIX: &str = "GIZER_";

/// What the variables of gizer's own tests go on with, which their runs of gizer inherit.
const TESTS: &str = "RIG_";

/// Those of the names that begin like a setting's variable and belong to none, each with the nearest one that does.
///
/// They are worth a warning and not an error: some other program may use the same beginning.
pub fn unknown_variables(names: impl IntoIterator<Item = String>) -> Vec<(String, Option<String>)> {
    let choices = [super::POSTGRES_SECTION_VARIABLE, super::CACHE_SECTION_VARIABLE].map(str::to_owned);
    let passwords = password::SECTIONS.into_iter().map(password::variable);
    let known = SETTINGS.iter().map(super::Setting::variable).chain(choices).chain(passwords);
    let known: Vec<String> = known.map(|name| name.replacen(PREFIX, "", 1)).collect();
    let mut unknown = Vec::new();
    for name in names {
        let Some(own) = name.strip_prefix(PREFIX) else { continue };
        if !own.starts_with(TESTS) && known.iter().all(|known| known != own) {
            let near = nearest_of(own, &known).map(|near| format!("{PREFIX}{near}"));
            unknown.push((name, near));
        }
    }
    unknown.sort_unstable();
    unknown
}

/// The likeliest of the known names, if it is like enough to be meant.
pub fn nearest_of(name: &str, known: &[String]) -> Option<String> {
    let (distance, nearest) = known.iter().map(|known| (strsim::levenshtein(name, known), known)).min()?;
    (distance <= (name.chars().count() / 3).max(2)).then(|| nearest.clone())
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
