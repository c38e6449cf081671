//! The documents of a schema with what is in them, of which the widest can be taken out one after the other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::narrow::Measure;
use super::row_width::RowWidth;
use crate::model::{Fields, Node};

/// A document below others.
#[derive(Debug)]
pub(super) struct WeighedDocument {
    pub(super) path: Vec<String>,
    /// Whether it is what is in the array or map at that path.
    pub(super) inside: bool,
    parent: Option<usize>,
    children: Vec<usize>,
    /// What it has outside of documents in it.
    direct: RowWidth,
    all: RowWidth,
    /// Whether it, or one that it is in, has been taken out.
    is_gone: bool,
}

/// What the widest is chosen by: its own width, that with all in it, and the first path.
type Width = (usize, usize, Reverse<Vec<String>>);

/// All documents in some fields; for tables, also those in arrays and maps.
pub(super) struct DocumentTree {
    documents: Vec<WeighedDocument>,
    /// With widths that may be larger than they are by now.
    widest: BinaryHeap<(Width, usize)>,
    /// What the fields have, documents included.
    pub(super) all: RowWidth,
}

impl DocumentTree {
    pub(super) fn of(fields: &Fields, measure: &Measure) -> DocumentTree {
        let (documents, widest, all) = Default::default();
        let mut tree = DocumentTree { documents, widest, all };
        (_, tree.all) = tree.add(fields, measure, None, &mut Vec::new());
        tree.widest = (0..tree.documents.len()).map(|at| (tree.width(at), at)).collect();
        tree
    }

    /// Adds the documents in these fields. Returns what is direct, and all.
    fn add(
        &mut self,
        fields: &Fields,
        measure: &Measure,
        parent: Option<usize>,
        path: &mut Vec<String>,
    ) -> (RowWidth, RowWidth) {
        let (mut direct, mut all) = (RowWidth::default(), RowWidth::default());
        for (name, field) in fields {
            path.push(name.clone());
            let own = measure.of(field);
            direct += own;
            all += own;
            let (inner, inside) = match &field.node {
                Node::Document(inner) => (Some(inner), false),
                Node::Array(inside) | Node::NestedTable(inside) | Node::Map(inside)
                    if matches!(measure, Measure::Tables) =>
                {
                    match &inside.node {
                        Node::Document(inner) => (Some(inner), true),
                        _ => (None, true),
                    }
                }
                _ => (None, false),
            };
            if let Some(inner) = inner {
                all += self.add_document(inner, measure, parent, path, inside);
            }
            path.pop();
        }
        (direct, all)
    }

    fn add_document(
        &mut self,
        fields: &Fields,
        measure: &Measure,
        parent: Option<usize>,
        path: &mut Vec<String>,
        inside: bool,
    ) -> RowWidth {
        let at = self.documents.len();
        let (children, direct, all) = Default::default();
        self.documents.push(WeighedDocument {
            path: path.clone(),
            inside,
            parent,
            children,
            direct,
            all,
            is_gone: false,
        });
        if let Some(parent) = parent {
            self.documents[parent].children.push(at);
        }
        let (direct, all) = self.add(fields, measure, Some(at), path);
        (self.documents[at].direct, self.documents[at].all) = (direct, all);
        all
    }

    fn width(&self, at: usize) -> Width {
        let document = &self.documents[at];
        (document.direct.bytes(), document.all.bytes(), Reverse(document.path.clone()))
    }

    /// Takes out the widest, in the place of which there is `json` then; `None` if none is wider than that.
    pub(super) fn take_widest(&mut self, json: RowWidth) -> Option<&WeighedDocument> {
        loop {
            let (width, at) = self.widest.pop()?;
            if self.documents[at].is_gone || self.documents[at].all.bytes() <= json.bytes() {
                continue;
            }
            let now = self.width(at);
            if now != width {
                self.widest.push((now, at));
                continue;
            }
            self.take(at, json);
            return Some(&self.documents[at]);
        }
    }

    fn take(&mut self, at: usize, json: RowWidth) {
        let gone = self.documents[at].all;
        let mut around = self.documents[at].parent;
        if let Some(parent) = around {
            self.documents[parent].direct += json;
            self.widest.push((self.width(parent), parent));
        }
        while let Some(outer) = around {
            let all = &mut self.documents[outer].all;
            *all = *all - gone;
            *all += json;
            around = self.documents[outer].parent;
        }
        self.all = self.all - gone;
        self.all += json;
        let mut below = vec![at];
        while let Some(at) = below.pop() {
            self.documents[at].is_gone = true;
            below.append(&mut self.documents[at].children);
        }
    }
}
