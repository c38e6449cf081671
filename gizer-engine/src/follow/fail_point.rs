//! Moments at which tests let gizer die.

/// Ends the program at once, as a crash would, if the environment variable `GIZER_FAIL_POINT` names this moment. In a release
/// build it does nothing.
pub(super) fn fail_point(name: &str) {
    #[cfg(debug_assertions)]
    if std::env::var("GIZER_FAIL_POINT").is_ok_and(|wanted| wanted == name) {
        std::process::abort();
    }
    #[cfg(not(debug_assertions))]
    let _ = name;
}
