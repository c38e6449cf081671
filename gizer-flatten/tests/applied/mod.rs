//! Edits applied to a document, plainly, by the rules of [`Edits`].
//!
//! The tests against real servers include this file too: there it is held against what the server makes of them.

use bson::{Bson, Document};
use gizer_flatten::change::{Edit, EditAction, Edits, Step};

pub(crate) fn apply(document: &mut Document, edits: &Edits) {
    let (edits, rule): (_, fn(&mut Bson, &[Step], &EditAction)) = match edits {
        Edits::Diff(edits) => (edits, diff),
        Edits::Modifiers(edits) => (edits, modify),
        Edits::Paths(_) | Edits::Unknown => panic!("an update that the server wrote is not known"),
    };
    let mut root = Bson::Document(std::mem::take(document));
    for Edit { path, action } in edits {
        rule(&mut root, path, action);
    }
    let Bson::Document(root) = root else { panic!("the document itself became {root}") };
    *document = root;
}

fn value(action: &EditAction) -> Option<Bson> {
    let (EditAction::Set(bytes) | EditAction::Insert(bytes)) = action else { return None };
    let alone = Document::from_reader(&bytes[..]).expect("a document of one field");
    alone.into_iter().next().map(|(_, value)| value)
}

/// The rule of `$v: 2`.
fn diff(target: &mut Bson, path: &[Step], action: &EditAction) {
    match (path, target) {
        ([], Bson::Array(array)) => match action {
            EditAction::Resize(length) => array.resize(*length as usize, Bson::Null),
            other => panic!("{other:?} of an array as a whole"),
        },
        ([Step::Field(name)], Bson::Document(document)) if !matches!(action, EditAction::Resize(_)) => {
            // An insert goes to the end.
            if !matches!(action, EditAction::Set(_)) {
                document.remove(name);
            }
            if let Some(value) = value(action) {
                document.insert(name, value);
            }
        }
        ([Step::Field(name), rest @ ..], Bson::Document(document)) => {
            if let Some(inner) = document.get_mut(name) {
                diff(inner, rest, action);
            }
        }
        ([Step::Index(index), rest @ ..], Bson::Array(array)) => {
            let index = *index as usize;
            if rest.is_empty() && !matches!(action, EditAction::Resize(_)) {
                array.resize(array.len().max(index + 1), Bson::Null);
                array[index] = value(action).expect("only values in the places of an array");
            } else if let Some(inner) = array.get_mut(index) {
                diff(inner, rest, action);
            } else {
                array.resize(index + 1, Bson::Null);
            }
        }
        ([Step::FieldOrIndex { .. }, ..], _) => panic!("a diff knows what is an index"),
        (_, other) => *other = Bson::Null,
    }
}

/// The rule of `$v: 1`.
fn modify(target: &mut Bson, path: &[Step], action: &EditAction) {
    let (step, rest) = path.split_first().expect("a path");
    match target {
        Bson::Document(document) => {
            let (Step::Field(name) | Step::FieldOrIndex { name, .. }) = step else { panic!("a path of names") };
            match (document.get_mut(name), value(action)) {
                (Some(inner), _) if !rest.is_empty() => modify(inner, rest, action),
                (None, Some(value)) => drop(document.insert(name, made(rest, value))),
                (Some(inner), Some(value)) => *inner = value,
                (Some(_), None) => drop(document.remove(name)),
                (None, None) => {}
            }
        }
        Bson::Array(array) => {
            let Step::FieldOrIndex { index, .. } = step else { return };
            let index = *index as usize;
            match (array.get_mut(index), value(action)) {
                (Some(inner), _) if !rest.is_empty() => modify(inner, rest, action),
                (None, Some(value)) => {
                    array.resize(index, Bson::Null);
                    array.push(made(rest, value));
                }
                (Some(inner), value) => *inner = value.unwrap_or(Bson::Null),
                (None, None) => {}
            }
        }
        _ => {}
    }
}

/// A value behind a path that leads nowhere yet: documents all the way.
fn made(path: &[Step], value: Bson) -> Bson {
    path.iter().rev().fold(value, |value, step| {
        let (Step::Field(name) | Step::FieldOrIndex { name, .. }) = step else { panic!("a path of names") };
        Bson::Document(Document::from_iter([(name.clone(), value)]))
    })
}
