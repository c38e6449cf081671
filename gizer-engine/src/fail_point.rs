//! Crash points for tests.

/// Kills the program if `GIZER_FAIL_POINT` names this point. Does nothing in a release build.
pub(crate) fn fail_point(name: &str) {
    #[cfg(debug_assertions)]
    if std::env::var("GIZER_FAIL_POINT").is_ok_and(|wanted| wanted == name) {
        std::process::abort();
    }
    #[cfg(not(debug_assertions))]
    let _ = name;
}
