//! A collection that changes its shape over time.
//!
//! Fields come, and what they hold changes its type and back.

use bson::{Bson, Document, doc};

use super::{Content, Field, IDS, Key, NAMES, Scalar, Shape, content, value_of};
use crate::random::Random;
use crate::traffic::step;

/// What its sequence of random numbers is for.
const GROWTH: u64 = 0x6772_6f77;

/// Fields of a document, or of one inside it, from which on no more come.
const MAX_FIELDS: usize = 8;

/// A collection, and how far its shape has changed.
#[derive(Debug, Clone)]
pub struct Growing {
    random: Random,
    shape: Shape,
    /// Fields that hold something else at the moment, and what they held first.
    turned: Vec<(&'static str, Content)>,
}

impl Growing {
    /// That of a seed, as it begins: with two fields.
    pub fn of(seed: u64) -> Self {
        let field = |name, scalar| Field { name, content: Content::Scalar(scalar), json: false };
        let fields = vec![field("d", Scalar::Int), field("node", Scalar::Text)];
        let shape = Shape { name: "growing".to_owned(), inferred: false, key: Key::Int, fields };
        Self { random: Random::of(seed, GROWTH, 0), shape, turned: Vec::new() }
    }

    /// The shape at the moment.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// A command for one shard. The shape may change before.
    pub fn command(&mut self, shard: u64, shards: u64) -> Document {
        let changed = match self.random.below(100) {
            0..12 => Some(add_field(&mut self.shape.fields, &mut self.random)),
            12..22 => Some(self.turn()),
            22..28 => self.turn_back(),
            28..31 => return self.nulls(),
            _ => None,
        };
        match changed {
            Some(field) => self.fill(field, shard, shards),
            None => self.shape.command(&mut self.random, shard, shards),
        }
    }

    fn any_field(&mut self) -> usize {
        self.random.below(self.shape.fields.len() as u64) as usize
    }

    /// From now on a field holds something else; gives which one.
    fn turn(&mut self) -> usize {
        let at = self.any_field();
        let new = match self.random.percent(75) {
            true => Content::Scalar(self.random.pick(&Scalar::ALL)),
            false => content(&mut self.random, 1),
        };
        let Field { name, content, .. } = &mut self.shape.fields[at];
        let first = std::mem::replace(content, new);
        if self.turned.iter().all(|(turned, _)| turned != name) {
            self.turned.push((name, first));
        }
        at
    }

    /// The field that was turned last holds again what it held first; gives which one, if any.
    fn turn_back(&mut self) -> Option<usize> {
        let (name, first) = self.turned.pop()?;
        let at = self.shape.fields.iter().position(|field| field.name == name)?;
        self.shape.fields[at].content = first;
        Some(at)
    }

    /// A field is null in all documents.
    fn nulls(&mut self) -> Document {
        let at = self.any_field();
        let set = doc! { "$set": { self.shape.fields[at].name: Bson::Null } };
        step::update(&self.shape.name, vec![doc! { "q": {}, "u": set, "multi": true }])
    }

    /// Several documents get what a field holds now.
    fn fill(&mut self, field: usize, shard: u64, shards: u64) -> Document {
        let random = &mut self.random;
        let Field { name, content, .. } = &self.shape.fields[field];
        let updates = (0..random.between(3, 10)).map(|_| {
            let id = self.shape.key.of(random.below(IDS) * shards + shard);
            doc! { "q": { "_id": id }, "u": { "$set": { *name: value_of(content, random) } } }
        });
        step::update(&self.shape.name, updates.collect())
    }
}

/// Adds a field to these or below them; gives the field that holds it or is it.
fn add_field(fields: &mut Vec<Field>, random: &mut Random) -> usize {
    let at = random.below(fields.len() as u64) as usize;
    let is_below = random.percent(50);
    if let Some(below) = fields_in(&mut fields[at].content).filter(|below| is_below && !below.is_empty()) {
        add_field(below, random);
        return at;
    }
    let name = random.pick(&NAMES);
    if fields.len() >= MAX_FIELDS || fields.iter().any(|field| field.name == name) {
        return at;
    }
    fields.push(Field { name, content: content(random, 2), json: false });
    fields.len() - 1
}

/// The fields of documents that this holds, directly or as elements and entries.
fn fields_in(content: &mut Content) -> Option<&mut Vec<Field>> {
    match content {
        Content::Scalar(_) => None,
        Content::Fields(fields) => Some(fields),
        Content::List(inside) | Content::Map(inside) => fields_in(inside),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_follow_from_the_seed() {
        let commands = |seed| {
            let mut growing = Growing::of(seed);
            format!("{:?}", (0..200).map(|_| growing.command(0, 1)).collect::<Vec<_>>())
        };
        assert_eq!(commands(3), commands(3));
        assert_ne!(commands(3), commands(4));
    }

    #[test]
    fn fields_come_at_every_depth_and_change_what_they_hold_and_back() {
        let (mut text, mut backs) = (String::new(), 0);
        for seed in 0..20 {
            let mut growing = Growing::of(seed);
            let mut turned = 0;
            for _ in 0..150 {
                growing.command(0, 1);
                backs += usize::from(growing.turned.len() < turned);
                turned = growing.turned.len();
            }
            assert!(growing.shape.fields.len() > 3, "{growing:?}");
            text += &format!("{:?}\n", growing.shape.fields);
        }
        assert!(backs > 20, "{backs}");
        for kind in ["Fields([", "List(Fields", "Map(Fields", "List(Scalar", "Map(Scalar"] {
            assert!(text.contains(kind), "no field has {kind}: {text}");
        }
    }
}
