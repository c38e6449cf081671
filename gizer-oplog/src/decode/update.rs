//! Decodes updates of single fields (`op: "u"`), in both forms that servers write.
//!
//! `$v: 2`, the default since MongoDB 5.0, is a diff nested like the document; `$v: 1` has `$set`
//! and `$unset` with paths. Section letters and modifier names are looked for only where the format
//! has them, so fields may have any name.

use gizer_flatten::change::{Edit, EditAction, Edits, Step};
use gizer_schema::raw::{Element, Malformed, RawDoc};

use super::fields::{find, nested, number};
use super::operation::alone;

/// Documents nest at most 200 levels deep, and a diff as deep as its document. More is corruption.
const MAX_DEPTH: usize = 1_000;

/// Why there are no edits.
enum DiffError {
    /// The form is unknown.
    Unknown,
    Malformed(Malformed),
}

impl From<Malformed> for DiffError {
    fn from(error: Malformed) -> DiffError {
        DiffError::Malformed(error)
    }
}

/// Decodes `o` of an update that is not a replacement.
///
/// An unknown form is no error: the changed document is known all the same.
pub(super) fn decode(update: RawDoc<'_>) -> Result<Edits, Malformed> {
    match known(update) {
        Ok(edits) => Ok(edits),
        Err(DiffError::Unknown) => Ok(Edits::Unknown),
        Err(DiffError::Malformed(error)) => Err(error),
    }
}

fn known(update: RawDoc<'_>) -> Result<Edits, DiffError> {
    let version = find(update, b"$v")?.map(|version| number(&version)).transpose()?.flatten();
    match version {
        Some(1) => modifiers(update).map(Edits::Modifiers),
        Some(2) => {
            let root = find(update, b"diff")?.ok_or(DiffError::Unknown)?;
            let mut diff = Diff::default();
            diff.document(document(&root)?)?;
            Ok(Edits::Diff(diff.edits))
        }
        // Servers always write `$v`. Users of `applyOps` may omit it, and use any modifier.
        _ => Err(DiffError::Unknown),
    }
}

/// Walks a diff.
#[derive(Default)]
struct Diff {
    /// Where the walk is.
    path: Vec<Step>,
    edits: Vec<Edit>,
}

impl Diff {
    /// `{d: {…}, u: {…}, i: {…}, s<field>: <diff>, …}`.
    fn document(&mut self, diff: RawDoc<'_>) -> Result<(), DiffError> {
        for section in diff.elements() {
            let section = section?;
            match section.name {
                b"d" => self.each(&section, |_| EditAction::Unset)?,
                b"u" => self.each(&section, |value| EditAction::Set(alone(b"", value)))?,
                b"i" => self.each(&section, |value| EditAction::Insert(alone(b"", value)))?,
                [b's', name @ ..] => self.below(Step::Field(text(name)?.to_owned()), &section)?,
                _ => return Err(DiffError::Unknown),
            }
        }
        Ok(())
    }

    /// `{a: true, l: <length>, u<index>: <value>, s<index>: <diff>, …}`.
    fn array(&mut self, diff: RawDoc<'_>) -> Result<(), DiffError> {
        for section in diff.elements() {
            let section = section?;
            match section.name {
                b"a" => {}
                b"l" => {
                    let length = number(&section)?.and_then(|length| u32::try_from(length).ok());
                    let action = EditAction::Resize(length.ok_or(DiffError::Unknown)?);
                    self.edits.push(Edit { path: self.path.clone(), action });
                }
                [b'u', place @ ..] => self.edit(index(place)?, EditAction::Set(alone(b"", &section))),
                [b's', place @ ..] => self.below(index(place)?, &section)?,
                _ => return Err(DiffError::Unknown),
            }
        }
        Ok(())
    }

    /// A nested diff; that of an array begins with `a: true`.
    fn below(&mut self, step: Step, section: &Element<'_>) -> Result<(), DiffError> {
        let diff = document(section)?;
        if self.path.len() == MAX_DEPTH {
            return Err(Malformed { what: "a diff no deeper than a document can be", at: 0 }.into());
        }
        self.path.push(step);
        match diff.elements().next().transpose()? {
            Some(first) if first.name == b"a" => self.array(diff)?,
            _ => self.document(diff)?,
        }
        self.path.pop();
        Ok(())
    }

    fn each(&mut self, section: &Element<'_>, action: impl Fn(&Element<'_>) -> EditAction) -> Result<(), DiffError> {
        for field in document(section)?.elements() {
            let field = field?;
            self.edit(Step::Field(text(field.name)?.to_owned()), action(&field));
        }
        Ok(())
    }

    fn edit(&mut self, step: Step, action: EditAction) {
        let path = self.path.iter().cloned().chain([step]).collect();
        self.edits.push(Edit { path, action });
    }
}

fn index(digits: &[u8]) -> Result<Step, DiffError> {
    whole(text(digits)?).map(Step::Index).ok_or(DiffError::Unknown)
}

/// `{$v: 1, $set: {<path>: <value>, …}, $unset: {<path>: true, …}}`.
fn modifiers(update: RawDoc<'_>) -> Result<Vec<Edit>, DiffError> {
    let mut edits = Vec::new();
    for modifier in update.elements() {
        let modifier = modifier?;
        let unset = match modifier.name {
            b"$v" => continue,
            b"$set" => false,
            b"$unset" => true,
            _ => return Err(DiffError::Unknown),
        };
        for field in document(&modifier)?.elements() {
            let field = field?;
            let action = if unset { EditAction::Unset } else { EditAction::Set(alone(b"", &field)) };
            edits.push(Edit { path: text(field.name)?.split('.').map(step).collect(), action });
        }
    }
    Ok(edits)
}

fn step(name: &str) -> Step {
    match whole(name) {
        Some(index) => Step::FieldOrIndex { name: name.to_owned(), index },
        None => Step::Field(name.to_owned()),
    }
}

/// Parses digits; leading zeros are allowed, as by the server.
fn whole(digits: &str) -> Option<u32> {
    // `parse` would take a sign.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn document<'b>(element: &Element<'b>) -> Result<RawDoc<'b>, DiffError> {
    nested(element)?.ok_or(DiffError::Unknown)
}

fn text(name: &[u8]) -> Result<&str, DiffError> {
    str::from_utf8(name).map_err(|_| DiffError::Unknown)
}
