//! Commands that change the documents of a random shape.

use bson::{Bson, Document, doc};

use super::keys::{key, odd_key, stepping_key};
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

    /// Operators for one path, or a pipeline.
    fn change(&self, random: &mut Random) -> Bson {
        let (path, content) = self.path(random);
        if let Content::Map(value) = content
            && random.percent(70)
        {
            return change_of_map(path, content, value, random);
        }
        let operators = match (random.below(8), content) {
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
        };
        operators.into()
    }

    /// A path to a field, to an element of an array, which may be past the end, or to an entry of a map.
    fn path(&self, random: &mut Random) -> Path<'_> {
        let (mut path, mut content) = named(&self.fields, random);
        while random.percent(65) {
            let (step, next): Path<'_> = match content {
                Content::Scalar(_) => break,
                Content::Fields(fields) => named(fields, random),
                Content::List(element) => (random.below(4).to_string(), element),
                Content::Map(value) => (stepping_key(random), value),
            };
            path = format!("{path}.{step}");
            content = next;
        }
        (path, content)
    }
}

/// What comes, goes and is renamed among the entries of a map.
fn change_of_map(path: String, map: &Content, value: &Content, random: &mut Random) -> Bson {
    let entry = format!("{path}.{}", stepping_key(random));
    match random.below(7) {
        0 => doc! { "$set": { entry: value_of(value, random) } }.into(),
        1 => doc! { "$unset": { entry: "" } }.into(),
        2 => doc! { "$rename": { entry: format!("{path}.{}", stepping_key(random)) } }.into(),
        3 => doc! { "$set": { path: value_of(map, random) } }.into(),
        // 4.4 refuses it.
        4 => doc! { "$set": { path: { "$x": value_of(value, random), key(random): value_of(value, random) } } }.into(),
        // A path cannot name what these two put in and take out; nothing of a pipeline may be refused, even of an array.
        5 => {
            let entries =
                doc! { "$arrayToObject": [[{ "k": odd_key(random), "v": { "$literal": value_of(value, random) } }]] };
            let merged = doc! { "$mergeObjects": [object(&path), entries] };
            Bson::Array(vec![doc! { "$set": { path: merged } }.into()])
        }
        _ => {
            let is_other = doc! { "$ne": ["$$this.k", odd_key(random)] };
            let others = doc! { "$filter": { "input": { "$objectToArray": object(&path) }, "cond": is_other } };
            Bson::Array(vec![doc! { "$set": { path: { "$arrayToObject": others } } }.into()])
        }
    }
}

/// The object at a path, or an empty one.
fn object(path: &str) -> Document {
    let at = format!("${path}");
    doc! { "$cond": [{ "$eq": [{ "$type": &at }, "object"] }, &at, {}] }
}

fn named<'f>(fields: &'f [Field], random: &mut Random) -> Path<'f> {
    const NONE: &Content = &Content::Scalar(Scalar::Int);
    let at = random.below(fields.len().max(1) as u64) as usize;
    fields.get(at).map_or(("a".to_owned(), NONE), |field| (field.name.to_owned(), &field.content))
}

#[cfg(test)]
mod tests {
    use super::super::MAPS;
    use super::*;

    #[test]
    fn commands_are_of_every_kind() {
        let shape = Shape::of(1, 0);
        let mut random = Random::of(1, 2, 3);
        let text: String = (0..3_000).map(|_| format!("{:?}\n", shape.command(&mut random, 0, 1))).collect();
        for kind in ["insert", "delete", "findAndModify", "multi", "$set", "$unset", "$rename", "$arrayToObject"] {
            assert!(text.contains(kind), "no command has {kind}");
        }
        for map in MAPS {
            for change in ["$set", "$unset", "$rename", "$push"] {
                let changed = format!("\"{change}\": Document({{\"{map}.");
                assert!(change == "$push" && map != "scores" || text.contains(&changed), "no command has {changed}");
            }
        }
    }
}
