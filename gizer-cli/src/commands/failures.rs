//! What a command could not do for some collections, while it did it for others.

use std::fmt::Write;

use gizer_schema::names::shortened;
use serde_json::{Value, json};

use crate::exit::{ExitCode, Failure, FailureKind, failure_json};
use crate::report::{self, counted};

/// Failures, each of one collection, and the one that ended the run, if one did.
#[derive(Debug, Default, Clone)]
pub struct Failures {
    each: Vec<(String, Failure)>,
    end: Option<Failure>,
    /// Collections whose turn never came.
    not_begun: Vec<String>,
}

impl Failures {
    /// One more collection failed.
    pub fn add(&mut self, collection: impl Into<String>, failure: Failure) {
        self.each.push((collection.into(), failure));
    }

    /// The run ended before the turn of these collections came; `failure` is why, unless it is that of the collection
    /// that failed last.
    pub fn end_run(&mut self, failure: Option<Failure>, not_begun: impl IntoIterator<Item = String>) {
        self.end = failure;
        self.not_begun.extend(not_begun);
    }

    /// Takes out what may succeed a little later: why, and for which collections, those among them whose turn never came.
    pub(super) fn take_passing(&mut self) -> Option<(Failure, Vec<String>)> {
        if self.iter().any(|failure| failure.ends_run && !failure.passes) {
            return None;
        }
        let first = self.iter().find(|failure| failure.passes)?.clone();
        let (passing, lasting) = std::mem::take(&mut self.each).into_iter().partition(|(_, failure)| failure.passes);
        self.each = lasting;
        let passing: Vec<(String, Failure)> = passing;
        let names = passing.into_iter().map(|(name, _)| name).chain(self.not_begun.drain(..)).collect();
        self.end = None;
        Some((first, names))
    }

    /// Adds those of a later attempt.
    pub(super) fn extend(&mut self, later: Failures) {
        self.each.extend(later.each);
        self.end = later.end.or(self.end.take());
        self.not_begun.extend(later.not_begun);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty() && self.end.is_none()
    }

    /// The collections that failed.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.each.iter().map(|(name, _)| name.as_str())
    }

    /// Why a collection failed.
    pub fn of(&self, collection: &str) -> Option<&Failure> {
        self.each.iter().find(|(name, _)| name == collection).map(|(_, failure)| failure)
    }

    /// Each with its collection.
    pub fn by_collection(&self) -> impl Iterator<Item = (&str, &Failure)> {
        self.each.iter().map(|(name, failure)| (name.as_str(), failure))
    }

    /// The one that ended the run, if one did.
    pub fn ending(&self) -> Option<&Failure> {
        self.end.as_ref().or_else(|| self.iter().find(|failure| failure.ends_run))
    }

    /// The first one.
    pub fn into_first(self) -> Option<Failure> {
        self.each.into_iter().map(|(_, failure)| failure).chain(self.end).next()
    }

    /// All of them, the one that ended the run last.
    pub fn iter(&self) -> impl Iterator<Item = &Failure> {
        self.each.iter().map(|(_, failure)| failure).chain(&self.end)
    }

    /// How the process ends: what ended the run decides, or else the first failure.
    pub fn exit(&self) -> ExitCode {
        self.decisive().map_or(ExitCode::Done, ExitCode::of)
    }

    /// Of what kind they are together, if there is any.
    pub(super) fn kind(&self) -> Option<FailureKind> {
        self.decisive().map(|failure| failure.kind)
    }

    fn decisive(&self) -> Option<&Failure> {
        self.iter().find(|failure| failure.ends_run).or(self.end.as_ref()).or_else(|| self.iter().next())
    }

    /// All of them in one line: `posts: why; tags: why`.
    pub fn in_a_line(&self) -> String {
        let mut line = String::new();
        for (name, failure) in &self.each {
            let name = shortened(name);
            let _ = write!(line, "{}{name}: {failure}", if line.is_empty() { "" } else { "; " });
        }
        if let Some(end) = &self.end {
            let _ = write!(line, "{}{end}", if line.is_empty() { "" } else { "; " });
        }
        line
    }

    /// Says each on standard error, with what can be done.
    pub fn print(&self) {
        for (name, failure) in &self.each {
            report::problem(Some(&shortened(name)), failure);
        }
        if let Some(failure) = &self.end {
            report::problem(None, failure);
        }
        if !self.each.is_empty() && !self.not_begun.is_empty() {
            let names: Vec<_> = self.not_begun.iter().map(|name| shortened(name)).collect();
            report::note(format!("gizer: not begun: {}", names.join(", ")));
        }
    }

    /// Adds `failed`, a list by collection, and `error`, as of any command that fails, to a command's object.
    pub fn add_to(&self, object: &mut Value) {
        let Some(decisive) = self.decisive() else { return };
        let failed = |(name, failure): &(String, Failure)| json!({"name": name, "message": failure.message, "remedy": failure.remedy, "exit_code": ExitCode::of(failure) as u8});
        let not_begun = |name: &String| {
            let message = "not begun: the run ended before";
            json!({"name": name, "message": message, "remedy": null, "exit_code": ExitCode::of(decisive) as u8})
        };
        let failed: Vec<Value> = self.each.iter().map(failed).chain(self.not_begun.iter().map(not_begun)).collect();
        object["failed"] = failed.into();
        object["error"] = match self.each.len() {
            0 | 1 => failure_json(decisive),
            many => {
                let many = counted(many as u64, "collection", "collections");
                let message = format!("{many} failed: {}", self.in_a_line());
                failure_json(&Failure { message, remedy: None, ..Failure::new(decisive.kind, "") })
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_decides_unless_one_ended_the_run() {
        let mut failures = Failures::default();
        assert_eq!(failures.exit(), ExitCode::Done);
        failures.add("a", Failure::usage("wrong"));
        failures.add("b", Failure::failed("full"));
        assert_eq!((failures.exit(), failures.in_a_line()), (ExitCode::Usage, "a: wrong; b: full".to_owned()));
        failures.add("c", Failure::new(FailureKind::Interrupted, "stop"));
        failures.end_run(None, ["d".to_owned()]);
        assert_eq!(failures.exit(), ExitCode::Interrupted);
        let mut object = json!({"collections": []});
        failures.add_to(&mut object);
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
        assert_eq!((failures.exit(), failures.in_a_line()), (ExitCode::Failed, "a: wrong; no server".to_owned()));
        assert_eq!(failures.into_first().unwrap().message, "wrong");
    }
}
