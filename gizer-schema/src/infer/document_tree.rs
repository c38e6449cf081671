//! The documents of a schema with what is in them: which of them are to become JSON.
//!
//! The widest first, with all that is in them, so that they are few. The last of them, of which not all is too much, stays where a
//! few documents in it are enough.

use std::cmp::Reverse;

use super::narrow::Measure;
use super::row_width::RowWidth;
use crate::column_type::ScalarType;
use crate::model::{Fields, Node};

/// Documents in another that become JSON in its place at most.
const MAX_IN_PLACE_OF_ONE: usize = 20;

/// A document below others.
#[derive(Debug)]
pub(super) struct WeighedDocument {
    pub(super) path: Vec<String>,
    /// Whether it is what is in the array or map at that path.
    pub(super) inside: bool,
    children: Vec<usize>,
    /// What it has, documents in it included.
    all: RowWidth,
}

/// All documents in some fields; for tables, also those in arrays and maps.
pub(super) struct DocumentTree<'m> {
    measure: &'m Measure,
    documents: Vec<WeighedDocument>,
    outermost: Vec<usize>,
    /// What the fields have, documents included.
    all: RowWidth,
    /// What there is in the place of a document that became JSON.
    json: RowWidth,
}

/// Documents that become JSON.
struct Chosen {
    documents: Vec<usize>,
    /// What the fields have then.
    rest: RowWidth,
}

impl<'m> DocumentTree<'m> {
    pub(super) fn of(fields: &Fields, measure: &'m Measure) -> DocumentTree<'m> {
        let (documents, outermost, all) = Default::default();
        let json = measure.of(&ScalarType::Json.into());
        let mut tree = DocumentTree { measure, documents, outermost, all, json };
        (tree.outermost, tree.all) = tree.add(fields, &mut Vec::new());
        tree
    }

    /// Adds the documents in these fields. Returns the outermost of them, and what all the fields have.
    fn add(&mut self, fields: &Fields, path: &mut Vec<String>) -> (Vec<usize>, RowWidth) {
        let (mut outermost, mut all) = (Vec::new(), RowWidth::default());
        for (name, field) in fields {
            path.push(name.clone());
            all += self.measure.of(field);
            let (node, inside) = match &field.node {
                Node::Array(inside) | Node::NestedTable(inside) | Node::Map(inside)
                    if matches!(self.measure, Measure::Tables) =>
                {
                    (&inside.node, true)
                }
                node => (node, false),
            };
            if let Node::Document(inner) = node {
                let at = self.add_document(inner, path, inside);
                outermost.push(at);
                all += self.documents[at].all;
            }
            path.pop();
        }
        (outermost, all)
    }

    fn add_document(&mut self, fields: &Fields, path: &mut Vec<String>, inside: bool) -> usize {
        let (children, all) = self.add(fields, path);
        self.documents.push(WeighedDocument { path: path.clone(), inside, children, all });
        self.documents.len() - 1
    }

    /// Which documents become JSON so that there is no more than `limit`, and whether that is enough.
    pub(super) fn choose(&self, limit: usize) -> (impl Iterator<Item = &WeighedDocument>, bool) {
        let chosen = self.choose_among(&self.outermost, self.all, limit, usize::MAX);
        let is_enough = chosen.rest.bytes() <= limit;
        (chosen.documents.into_iter().map(|at| &self.documents[at]), is_enough)
    }

    /// The same among some documents, of which `most` are taken, where the fields have `rest`.
    fn choose_among(&self, among: &[usize], mut rest: RowWidth, limit: usize, most: usize) -> Chosen {
        let mut documents = Vec::new();
        let mut widest = among.to_vec();
        widest.sort_by_key(|at| (Reverse(self.documents[*at].all.bytes()), &self.documents[*at].path));
        for at in widest {
            let document = &self.documents[at];
            if rest.bytes() <= limit || documents.len() == most || document.all.bytes() <= self.json.bytes() {
                break;
            }
            let mut without = rest - document.all;
            without += self.json;
            if without.bytes() < limit {
                let most = (most - documents.len()).min(MAX_IN_PLACE_OF_ONE);
                let inside = self.choose_among(&document.children, rest, limit, most);
                if inside.rest.bytes() <= limit {
                    documents.extend(inside.documents);
                    rest = inside.rest;
                    break;
                }
            }
            documents.push(self.innermost_with_all_of(at));
            rest = without;
        }
        Chosen { documents, rest }
    }

    /// The document, or one in it that has all that is counted.
    fn innermost_with_all_of(&self, mut at: usize) -> usize {
        let document = |at: usize| &self.documents[at];
        while let Some(child) = document(at).children.iter().find(|child| document(**child).all == document(at).all) {
            at = *child;
        }
        at
    }
}
