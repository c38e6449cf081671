//! Failures of some collections in a run that went on.

use std::fmt::Write;

use gizer_schema::names::shortened;

use crate::failure::{Failure, FailureKind};

/// Failures of collections, and the one that ended the run, if any.
#[derive(Debug, Default, Clone)]
pub struct Failures {
    each: Vec<(String, Failure)>,
    end: Option<Failure>,
    /// Collections not started.
    not_begun: Vec<String>,
}

impl Failures {
    /// Adds a collection's failure.
    pub fn add(&mut self, collection: impl Into<String>, failure: Failure) {
        self.each.push((collection.into(), failure));
    }

    /// Records that the run ended before these collections were started; `failure` is the reason,
    /// unless it is that of the last failed collection.
    pub fn end_run(&mut self, failure: Option<Failure>, not_begun: impl IntoIterator<Item = String>) {
        self.end = failure;
        self.not_begun.extend(not_begun);
    }

    /// Takes out transient failures: the reason, and the failed or unstarted collections.
    pub fn take_passing(&mut self) -> Option<(Failure, Vec<String>)> {
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

    /// Adds failures of a later attempt.
    pub fn extend(&mut self, later: Failures) {
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

    /// Failures with their collections.
    pub fn by_collection(&self) -> impl Iterator<Item = (&str, &Failure)> {
        self.each.iter().map(|(name, failure)| (name.as_str(), failure))
    }

    /// The failure that ended the run, if any.
    pub fn ending(&self) -> Option<&Failure> {
        self.end.as_ref().or_else(|| self.iter().find(|failure| failure.ends_run))
    }

    /// The first failure.
    pub fn into_first(self) -> Option<Failure> {
        self.each.into_iter().map(|(_, failure)| failure).chain(self.end).next()
    }

    /// All failures, with the one that ended the run last.
    pub fn iter(&self) -> impl Iterator<Item = &Failure> {
        self.each.iter().map(|(_, failure)| failure).chain(&self.end)
    }

    /// Their overall kind, if there are any.
    pub fn kind(&self) -> Option<FailureKind> {
        self.decisive().map(|failure| failure.kind)
    }

    /// The decisive failure: the one that ended the run, or else the first.
    pub fn decisive(&self) -> Option<&Failure> {
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

    /// What ended the run, if not a collection's failure.
    pub fn end(&self) -> Option<&Failure> {
        self.end.as_ref()
    }

    /// Collections not started because the run ended.
    pub fn not_begun(&self) -> &[String] {
        &self.not_begun
    }
}
