//! What could not be done for some collections, while it did it for others.

use std::fmt::Write;

use gizer_schema::names::shortened;

use crate::failure::{Failure, FailureKind};

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

    /// Adds those of a later attempt.
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

    /// Of what kind they are together, if there is any.
    pub fn kind(&self) -> Option<FailureKind> {
        self.decisive().map(|failure| failure.kind)
    }

    /// The one that says how it all ended: what ended the run, or else the first.
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

    /// What ended the run, apart from the failure of a collection.
    pub fn end(&self) -> Option<&Failure> {
        self.end.as_ref()
    }

    /// Collections whose turn never came, because the run ended before.
    pub fn not_begun(&self) -> &[String] {
        &self.not_begun
    }
}
