//! What a command could not do, as people and machines read it.

use gizer_engine::Failures;
use gizer_schema::names::shortened;
use serde_json::{Value, json};

use super::{counted, note, problem};
use crate::exit::{ExitCode, Failure, failure_json};

/// How the process ends: what ended the run decides, or else the first failure.
pub(crate) fn exit(failures: &Failures) -> ExitCode {
    failures.decisive().map_or(ExitCode::Done, ExitCode::of)
}

/// Says each on standard error, with what can be done.
pub(crate) fn failures(failures: &Failures) {
    let mut any = false;
    for (name, failure) in failures.by_collection() {
        any = true;
        problem(Some(&shortened(name)), failure);
    }
    if let Some(failure) = failures.end() {
        problem(None, failure);
    }
    if any && !failures.not_begun().is_empty() {
        let names: Vec<_> = failures.not_begun().iter().map(|name| shortened(name)).collect();
        note(format!("gizer: not begun: {}", names.join(", ")));
    }
}

/// Adds `failed`, a list by collection, and `error`, as of any command that fails, to a command's object.
pub(crate) fn add_failures(failures: &Failures, object: &mut Value) {
    let Some(decisive) = failures.decisive() else { return };
    let failed = |(name, failure): (&str, &Failure)| {
        let Failure { message, remedy, .. } = failure;
        json!({"name": name, "message": message, "remedy": remedy, "exit_code": ExitCode::of(failure) as u8})
    };
    let not_begun = |name: &String| {
        let message = "not begun: the run ended before";
        json!({"name": name, "message": message, "remedy": null, "exit_code": ExitCode::of(decisive) as u8})
    };
    let each: Vec<Value> = failures.by_collection().map(failed).collect();
    let error = match each.len() {
        0 | 1 => failure_json(decisive),
        many => {
            let many = counted(many as u64, "collection", "collections");
            let message = format!("{many} failed: {}", failures.in_a_line());
            failure_json(&Failure { message, remedy: None, ..Failure::new(decisive.kind, "") })
        }
    };
    object["failed"] = each.into_iter().chain(failures.not_begun().iter().map(not_begun)).collect();
    object["error"] = error;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::FailureKind;

    #[test]
    fn the_first_failure_decides_unless_one_ended_the_run() {
        let mut failures = Failures::default();
        assert_eq!(exit(&failures), ExitCode::Done);
        failures.add("a", Failure::usage("wrong"));
        failures.add("b", Failure::failed("full"));
        assert_eq!((exit(&failures), failures.in_a_line()), (ExitCode::Usage, "a: wrong; b: full".to_owned()));
        failures.add("c", Failure::new(FailureKind::Interrupted, "stop"));
        failures.end_run(None, ["d".to_owned()]);
        assert_eq!(exit(&failures), ExitCode::Interrupted);
        let mut object = json!({"collections": []});
        add_failures(&failures, &mut object);
        let names: Vec<&Value> = object["failed"].as_array().unwrap().iter().map(|each| &each["name"]).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        assert_eq!(object["error"]["exit_code"], 130);
        assert_eq!(object["error"]["message"], "3 collections failed: a: wrong; b: full; c: stop");
    }

    #[test]
    fn what_fails_for_the_run_as_a_whole_decides() {
        let mut failures = Failures::default();
        failures.add("a", Failure::usage("wrong"));
        failures.end_run(Some(Failure::failed("no server")), ["b".to_owned()]);
        assert_eq!((exit(&failures), failures.in_a_line()), (ExitCode::Failed, "a: wrong; no server".to_owned()));
        assert_eq!(failures.into_first().unwrap().message, "wrong");
    }
}
