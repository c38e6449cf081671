//! Random documents and random updates of them.

use bson::{Bson, DateTime, Document, doc};

/// Marsaglia's xorshift64.
pub(super) struct Random(pub(super) u64);

/// Names that look like parts of the oplog's format, and like places in arrays.
const NAMES: [&str; 14] = ["a", "b", "d", "i", "l", "s", "u", "sa", "u0", "0", "1", "2", "01", "name"];

impl Random {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    pub(super) fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    pub(super) fn name(&mut self) -> String {
        self.pick(&NAMES).to_owned()
    }

    pub(super) fn document(&mut self, depth: usize) -> Document {
        (0..self.below(6)).map(|_| (self.name(), self.value(depth))).collect()
    }

    pub(super) fn value(&mut self, depth: usize) -> Bson {
        match self.below(if depth == 0 { 8 } else { 14 }) {
            0 | 1 => Bson::Int32(self.below(5) as i32),
            2 => Bson::Int64(self.below(1 << 40) as i64),
            3 => Bson::Double(self.below(100) as f64 / 8.0),
            4 => Bson::Null,
            5 => Bson::DateTime(DateTime::from_millis(self.below(1 << 40) as i64)),
            // Long enough for a diff to be shorter than the document.
            6 | 7 => Bson::String("x".repeat(self.below(60))),
            8..=10 => Bson::Document(self.document(depth - 1)),
            _ => Bson::Array((0..self.below(6)).map(|_| self.value(depth - 1)).collect()),
        }
    }

    /// A path into a document, mostly to something that is there; zeros may lead in a place of an array.
    fn path(&mut self, document: &Document) -> String {
        let mut path = self.one_of(document.keys().filter(|name| *name != "_id"));
        let mut value = document.get(&path);
        while let (true, Some(inner)) = (self.below(4) > 0, value) {
            let (step, next) = match inner {
                Bson::Document(inner) => {
                    let name = self.one_of(inner.keys());
                    let value = inner.get(&name);
                    (name, value)
                }
                Bson::Array(array) => {
                    let index = self.below(array.len() + 2);
                    let zero = if self.below(6) == 0 { "0" } else { "" };
                    (format!("{zero}{index}"), array.get(index))
                }
                // What has no fields has no path below it; the server refuses it.
                _ => break,
            };
            path = format!("{path}.{step}");
            value = next;
        }
        if self.below(6) == 0 { format!("{path}.{}", self.name()) } else { path }
    }

    fn one_of<'n>(&mut self, names: impl Iterator<Item = &'n String>) -> String {
        let names: Vec<&String> = names.collect();
        if names.is_empty() || self.below(6) == 0 { self.name() } else { self.pick(&names).clone() }
    }

    /// An update with operators: one to three, on paths of their own.
    pub(super) fn modifiers(&mut self, document: &Document) -> Document {
        let mut update = Document::new();
        let paths = 1 + self.below(3);
        for _ in 0..paths {
            let mut path = self.path(document);
            // One place of an array, written in two ways in one update, ends MongoDB 6.0 by a failed invariant.
            if paths > 1 && path.split('.').skip(1).any(|step| step.len() > 1 && step.starts_with('0')) {
                path.truncate(path.find('.').unwrap_or(path.len()));
            }
            let (operator, operand) = self.modifier();
            let fields = update.entry(operator.to_owned()).or_insert_with(|| Document::new().into());
            if let Bson::Document(fields) = fields {
                fields.insert(path, operand);
            }
        }
        update
    }

    fn modifier(&mut self) -> (&'static str, Bson) {
        let few = |random: &mut Random| -> Vec<Bson> { (0..=random.below(3)).map(|_| random.value(1)).collect() };
        match self.below(16) {
            0..=3 => ("$set", self.value(2)),
            4..=6 => ("$unset", Bson::Boolean(true)),
            7 => ("$inc", Bson::Int32(self.below(9) as i32 - 4)),
            8 => ("$mul", Bson::Int32(self.below(4) as i32)),
            9 => ("$push", self.value(2)),
            10 => {
                let slice = self.below(9) as i32 - 4;
                let position = self.below(5) as i32 - 2;
                ("$push", doc! { "$each": few(self), "$slice": slice, "$position": position }.into())
            }
            11 => ("$pull", self.pick(&[doc! { "$in": [0, 1, 2, 3] }.into(), Bson::Null, Bson::Int32(1)])),
            12 => ("$pop", Bson::Int32(self.pick(&[-1, 1]))),
            13 => ("$addToSet", doc! { "$each": few(self) }.into()),
            14 => ("$rename", Bson::String(self.name())),
            _ => (self.pick(&["$max", "$min"]), self.value(1)),
        }
    }

    /// The document with something changed anywhere in it: what the server makes of the difference is up to it.
    pub(super) fn mutated(&mut self, document: &Document) -> Document {
        let mut mutated = document.clone();
        let id = mutated.remove("_id");
        for _ in 0..=self.below(3) {
            self.mutate(&mut mutated);
        }
        id.map(|id| ("_id".to_owned(), id)).into_iter().chain(mutated).collect()
    }

    fn mutate(&mut self, document: &mut Document) {
        let name = self.one_of(document.keys());
        match self.below(10) {
            0 | 1 => drop(document.remove(&name)),
            2 => drop(document.insert(name, self.value(2))),
            // To the end.
            3 => {
                if let Some(value) = document.remove(&name) {
                    document.insert(name, value);
                }
            }
            _ => match document.get_mut(&name) {
                Some(Bson::Document(inner)) => self.mutate(inner),
                Some(Bson::Array(array)) => self.mutate_array(array),
                Some(value) => *value = self.value(0),
                None => drop(document.insert(name, self.value(2))),
            },
        }
    }

    fn mutate_array(&mut self, array: &mut Vec<Bson>) {
        let index = self.below(array.len() + 1);
        match (self.below(6), array.get_mut(index)) {
            (0, _) => array.truncate(index),
            (_, None) => array.push(self.value(2)),
            (1, Some(value)) => *value = self.value(2),
            (_, Some(Bson::Document(inner))) => self.mutate(inner),
            (_, Some(Bson::Array(inner))) => self.mutate_array(inner),
            (_, Some(value)) => *value = self.value(0),
        }
        if self.below(4) == 0 {
            array.truncate(self.below(array.len() + 1));
        }
    }
}
