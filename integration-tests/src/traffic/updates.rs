//! Updates of one document, or of many: operators and pipelines.

use bson::{Bson, Document, doc};

use super::body::{ARRAYS, CHANGEABLE, ELEMENTS, Kind, NUMBERS, SCALARS, STATES, decimal, other_value, value};
use crate::random::Random;

/// What an update command is told: how to change a document, and what must be so for positional operators.
#[derive(Debug, Clone)]
pub(super) struct Update {
    /// Beside the `_id`, what the document must match.
    pub(super) also: Document,
    /// Operators, or a pipeline.
    pub(super) change: Bson,
    /// For `$[name]` in a path.
    pub(super) array_filters: Vec<Bson>,
}

impl Update {
    fn by(operators: Document) -> Self {
        Self { also: Document::new(), change: operators.into(), array_filters: Vec::new() }
    }
}

/// Any update. MongoDB may refuse it, where what it meets is of another type.
pub(super) fn update(random: &mut Random) -> Update {
    match random.below(20) {
        0..3 => Update::by(set_and_unset(random)),
        3..6 => Update::by(element(random)),
        6..9 => Update::by(push(random)),
        9..11 => Update::by(pull(random)),
        11 => Update::by(rename(random)),
        12..14 => Update::by(arithmetic(random)),
        14..16 => Update { also: Document::new(), change: pipeline(random), array_filters: Vec::new() },
        16..18 => Update::by(flip(random)),
        18 => positional(random),
        _ => Update::by(emptied_or_filled(random)),
    }
}

fn set_and_unset(random: &mut Random) -> Document {
    let mut set = Document::new();
    for _ in 0..random.between(1, 3) {
        let (path, kind) = random.pick(&SCALARS);
        set.insert(path, value(kind, random));
    }
    let mut operators = Document::new();
    let (path, _) = random.pick(&SCALARS);
    if random.percent(60) && !set.contains_key(path) {
        operators.insert("$unset", doc! { path: 1 });
    }
    operators.insert("$set", set);
    operators
}

fn element(random: &mut Random) -> Document {
    let (path, kind) = random.pick(&ELEMENTS);
    if random.percent(25) {
        return doc! { "$unset": { path: "" }, "$set": { "state": random.pick(&STATES) } };
    }
    doc! { "$set": { path: value(kind, random) } }
}

fn push(random: &mut Random) -> Document {
    let (path, _, kind) = random.pick(&ARRAYS);
    match random.below(4) {
        0 => doc! { "$push": { path: value(kind, random) } },
        1 => {
            let choices: Vec<Bson> = (0..random.between(1, 2)).map(|_| value(kind, random)).collect();
            doc! { "$addToSet": { path: { "$each": choices } } }
        }
        _ => {
            let each: Vec<Bson> = (0..random.between(0, 3)).map(|_| value(kind, random)).collect();
            let mut push = doc! { "$each": each };
            if random.percent(50) {
                push.insert("$position", random.between(0, 2) as i32);
            }
            if random.percent(50) {
                push.insert("$slice", random.pick(&[-3, -1, 0, 2, 4]));
            }
            if random.percent(20) && kind != Kind::Item && kind != Kind::Part {
                push.insert("$sort", random.pick(&[1, -1]));
            }
            doc! { "$push": { path: push } }
        }
    }
}

fn pull(random: &mut Random) -> Document {
    let (path, _, kind) = random.pick(&ARRAYS);
    match (random.below(3), kind) {
        (0, _) => doc! { "$pop": { path: random.pick(&[1, -1]) } },
        (1, Kind::Item) => doc! { "$pull": { path: { "quantity": { "$gte": random.below(500) as i32 } } } },
        (1, Kind::Part) => doc! { "$pull": { path: { "weight": { "$lt": 100 } } } },
        (1, Kind::Int) => doc! { "$pull": { path: { "$lt": random.below(500) as i32 } } },
        (_, kind) => doc! { "$pullAll": { path: [value(kind, random), value(kind, random)] } },
    }
}

fn rename(random: &mut Random) -> Document {
    let (from, to) = random.pick(&[
        ("name", "note"),
        ("note", "name"),
        ("address.city", "address.town"),
        ("address.town", "address.city"),
        ("address", "place"),
        ("place", "address"),
        ("tags", "labels"),
        ("labels", "tags"),
        ("address.geo.lat", "rate"),
    ]);
    doc! { "$rename": { from: to } }
}

fn arithmetic(random: &mut Random) -> Document {
    let path = random.pick(&NUMBERS);
    match random.below(6) {
        0 => doc! { "$inc": { path: random.pick(&[1, -7, 1_000_000]) } },
        1 => doc! { "$inc": { path: random.below(1 << 40) as i64 } },
        2 => doc! { "$inc": { path: 0.5 }, "$set": { "state": random.pick(&STATES) } },
        3 => doc! { "$mul": { path: random.pick(&[2, -1, 0]) } },
        4 => doc! { "$mul": { path: decimal("1.10") } },
        _ => doc! { random.pick(&["$min", "$max"]): { path: random.below(500) as i32 } },
    }
}

/// Pipelines refuse almost nothing, whatever they meet: they make of it what they need.
pub(super) fn pipeline(random: &mut Random) -> Bson {
    let list = |path: &str| doc! { "$cond": [{ "$isArray": format!("${path}") }, format!("${path}"), []] };
    let stage = match random.below(8) {
        0 => doc! { "$set": { "count": random.below(99) as i32, "address.city": random.pick(&STATES) } },
        1 => doc! { "$unset": ["address.geo", "name"] },
        2 => doc! { "$set": { "tags": { "$slice": [list("tags"), random.between(1, 3) as i32] } } },
        3 => doc! { "$set": { "items": { "$concatArrays": [list("items"), [value(Kind::Item, random)]] } } },
        4 => {
            doc! { "$set": { "items": { "$slice": [list("items"), 1] }, "scores": { "$reverseArray": list("scores") } } }
        }
        5 => {
            let element = doc! { "$mergeObjects": [{ "quantity": random.below(9) as i32 }, { "$cond": [
            { "$eq": [{ "$type": "$$item" }, "object"] }, "$$item", {}] }] };
            doc! { "$set": { "items": { "$map": { "input": list("items"), "as": "item", "in": element } } } }
        }
        6 => doc! { "$set": { "items.sku": random.pick(&STATES) } },
        _ => {
            let mut whole = super::body::document(random);
            // What begins with a dollar would be read as an expression; nothing of a document does.
            whole.insert("_id", "$_id");
            doc! { "$replaceWith": whole }
        }
    };
    let mut stages = vec![Bson::from(stage)];
    if random.percent(25) {
        stages.push(doc! { "$unset": "items.parts" }.into());
    }
    stages.into()
}

fn flip(random: &mut Random) -> Document {
    let (path, kind) = random.pick(&CHANGEABLE);
    let new = if random.percent(60) { other_value(kind, random) } else { value(kind, random) };
    doc! { "$set": { path: new } }
}

fn emptied_or_filled(random: &mut Random) -> Document {
    let (path, kind, _) = random.pick(&ARRAYS);
    let new = if random.percent(50) { Bson::Array(Vec::new()) } else { value(kind, random) };
    doc! { "$set": { path: new } }
}

fn positional(random: &mut Random) -> Update {
    let number = random.below(500) as i32;
    match random.below(4) {
        0 => Update {
            also: doc! { "items": { "$elemMatch": { "quantity": { "$gte": number } } } },
            change: doc! { "$set": { "items.$.sku": "found", "items.$.parts": [] } }.into(),
            array_filters: Vec::new(),
        },
        1 => Update::by(doc! { "$inc": { "scores.$[]": 1 } }),
        2 => Update {
            also: doc! { "items": { "$type": "array" } },
            change: doc! { "$set": { "items.$[item].quantity": number } }.into(),
            array_filters: vec![doc! { "item.quantity": { "$lt": number } }.into()],
        },
        _ => Update {
            also: doc! { "items.parts": { "$type": "array" } },
            change: doc! { "$set": { "items.$[item].parts.$[part].code": "both" } }.into(),
            array_filters: vec![
                doc! { "item.parts.0": { "$exists": true } }.into(),
                doc! { "part.weight": { "$lt": 200 } }.into(),
            ],
        },
    }
}
