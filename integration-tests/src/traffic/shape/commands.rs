//! Commands that change the documents of a random shape.

use bson::{Bson, Document, doc};

use super::values::stray;
use super::{Content, Field, IDS, Scalar, Shape, value_of};
use crate::random::Random;
use crate::traffic::step;

/// A path as an update has it, and what is there for the most part.
type Path<'s> = (String, &'s Content);

impl Shape {
    /// A command for one shard. MongoDB may refuse it, where what it meets is of another type.
    pub fn command(&self, random: &mut Random, shard: u64, shards: u64) -> Document {
        let id = |random: &mut Random| self.key.of(random.skewed_below(IDS) * shards + shard);
        match random.below(100) {
            0..15 => {
                let mut document = doc! { "_id": id(random) };
                document.extend(self.body(random));
                step::insert(&self.name, vec![document])
            }
            15..30 => {
                let replacement =
                    doc! { "q": { "_id": id(random) }, "u": self.body(random), "upsert": random.percent(60) };
                step::update(&self.name, vec![replacement])
            }
            30..40 => {
                let filters: Vec<Document> = (0..random.between(1, 3)).map(|_| doc! { "_id": id(random) }).collect();
                step::delete(&self.name, filters)
            }
            40..45 => {
                let multi = doc! { "q": {}, "u": self.change(random), "multi": true };
                step::update(&self.name, vec![multi])
            }
            45..50 => {
                doc! { "findAndModify": &self.name, "query": { "_id": id(random) }, "update": self.change(random), "upsert": true }
            }
            _ => {
                let update = |random: &mut Random| doc! { "q": { "_id": id(random) }, "u": self.change(random), "upsert": random.percent(10) };
                let updates = (0..random.between(1, 3)).map(|_| update(random)).collect();
                step::update(&self.name, updates)
            }
        }
    }

    /// Operators for one path.
    fn change(&self, random: &mut Random) -> Document {
        let (path, content) = self.path(random);
        match (random.below(8), content) {
            (0, _) => doc! { "$unset": { path: "" } },
            (1, _) => doc! { "$set": { path: stray(random) } },
            (2, _) => doc! { "$rename": { path: random.pick(&["unknown", "a", "b", "items"]) } },
            (3 | 4, Content::List(element)) => {
                let each: Vec<Bson> = (0..random.below(3)).map(|_| value_of(element, random)).collect();
                let mut push = doc! { "$each": each };
                if random.percent(50) {
                    push.insert("$position", random.below(3) as i32);
                    push.insert("$slice", random.pick(&[-2, 0, 3]));
                }
                doc! { "$push": { path: push } }
            }
            (5, Content::List(_)) => doc! { "$pop": { path: random.pick(&[1, -1]) } },
            (3..6, Content::Scalar(scalar)) if scalar.is_number() => {
                doc! { "$inc": { path: random.pick(&[1, -3, 1_000]) } }
            }
            (_, content) => doc! { "$set": { path: value_of(content, random) } },
        }
    }

    /// A path to a field, or to an element of an array, which may be past the end.
    fn path(&self, random: &mut Random) -> Path<'_> {
        let (mut path, mut content) = named(&self.fields, random);
        while random.percent(65) {
            let (step, next): Path<'_> = match content {
                Content::Scalar(_) => break,
                Content::Fields(fields) => named(fields, random),
                Content::List(element) => (random.below(4).to_string(), element),
            };
            path = format!("{path}.{step}");
            content = next;
        }
        (path, content)
    }
}

fn named<'f>(fields: &'f [Field], random: &mut Random) -> Path<'f> {
    const NONE: &Content = &Content::Scalar(Scalar::Int);
    let at = random.below(fields.len().max(1) as u64) as usize;
    fields.get(at).map_or(("a".to_owned(), NONE), |field| (field.name.to_owned(), &field.content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_of_every_kind() {
        let shape = Shape::of(1, 0);
        let mut random = Random::of(1, 2, 3);
        let text: String = (0..3_000).map(|_| format!("{:?}\n", shape.command(&mut random, 0, 1))).collect();
        for kind in ["insert", "delete", "findAndModify", "multi", "$set", "$unset", "$rename"] {
            assert!(text.contains(kind), "no command has {kind}");
        }
    }
}
