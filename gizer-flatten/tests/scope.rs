//! Whatever an update changes in the rows of a document is in its scope.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod applied;
#[allow(dead_code, reason = "only the documents are of use here")]
mod generated;
#[allow(dead_code, reason = "only the policies are of use here")]
mod varied;

use bson::{Bson, Document, doc};
use gizer_flatten::change::{Edit, EditAction, Edits, Step};
use gizer_flatten::{Flattener, Row, RowSink, Scope};
use gizer_schema::infer::Inference;
use gizer_schema::raw::RawDoc;
use gizer_schema::{DocumentPlan, Layout, Plan, TableId, file};
use proptest::prelude::*;

/// Rows as text, by table.
struct Rows(Vec<Vec<String>>);

impl RowSink for Rows {
    fn begin_document(&mut self) {}

    fn row(&mut self, row: Row<'_>) {
        let mut extra = Vec::new();
        row.extra.write_to(&mut extra);
        // As jsonb has it, the order of fields means nothing.
        let mut extra: serde_json::Value = serde_json::from_slice(&extra).unwrap();
        extra.sort_all_objects();
        self.0[row.table.0].push(format!("{:?} {extra}", row.cells));
    }

    fn discard_document(&mut self) {}
}

fn rows(layout: &Layout, bytes: &[u8]) -> Vec<Vec<String>> {
    let mut rows = Rows(vec![Vec::new(); layout.tables.len()]);
    Flattener::new(layout).flatten([RawDoc::new(bytes).unwrap()], &mut rows, |_, _| {});
    rows.0
}

/// The tables whose rows differ.
fn changed(layout: &Layout, before: &[u8], after: &[u8]) -> Vec<TableId> {
    let (before, after) = (rows(layout, before), rows(layout, after));
    (0..before.len()).filter(|table| before[*table] != after[*table]).map(TableId).collect()
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn pick<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.below(choices.len())]
    }

    /// A document as the layout has it, mostly.
    fn document(&mut self, plan: &DocumentPlan) -> Document {
        let fields = plan.fields.iter().filter(|field| field.name != "_id");
        let mut document: Document = fields.map(|field| (field.name.clone(), self.value(&field.plan))).collect();
        let names: Vec<String> = document.keys().cloned().collect();
        if self.below(4) == 0 && !names.is_empty() {
            document.remove(self.pick(&names));
        }
        if self.below(8) == 0 {
            document.insert("unknown", self.stray());
        }
        document
    }

    fn value(&mut self, plan: &Plan) -> Bson {
        match plan {
            _ if self.below(10) == 0 => self.stray(),
            Plan::Document(plan) => self.document(plan).into(),
            Plan::Table { element, .. } => (0..self.below(4)).map(|_| self.value(element)).collect::<Vec<_>>().into(),
            Plan::Map { value, .. } => {
                (0..self.below(4)).map(|_| (self.name(), self.value(value))).collect::<Document>().into()
            }
            _ => self.below(5).to_string().parse::<i32>().unwrap().into(),
        }
    }

    fn stray(&mut self) -> Bson {
        let strays = [
            Bson::Null,
            Bson::Array(vec![]),
            Document::new().into(),
            5.into(),
            "text".into(),
            doc! {"a": [1, {"a": 2}], "0": 1, "b": {"a": [3]}}.into(),
            vec![Bson::from(1), vec![Bson::from(2), doc! {"a": 1}.into()].into(), Bson::Null].into(),
        ];
        self.pick(&strays).clone()
    }

    /// A value for somewhere: one that the layout has anywhere.
    fn any(&mut self, layout: &Layout) -> Bson {
        let mut value = Bson::Document(self.document(&layout.document));
        while self.below(3) > 0 {
            value = match value {
                Bson::Document(inner) if !inner.is_empty() => {
                    let values: Vec<Bson> = inner.into_iter().map(|(_, value)| value).collect();
                    self.pick(&values).clone()
                }
                Bson::Array(inner) if !inner.is_empty() => self.pick(&inner).clone(),
                other => return other,
            };
        }
        value
    }

    fn name(&mut self) -> String {
        (*self.pick(&["a", "b", "c", "d", "0", "1", "3", "unknown"])).to_owned()
    }

    /// A way into a document, mostly to something that is there.
    fn path(&mut self, document: &Document, diff: bool) -> Vec<Step> {
        let mut path = vec![self.field(document, diff)];
        let mut value = document.get(name_of(&path[0]));
        loop {
            let (step, next) = match value {
                Some(Bson::Document(inner)) if self.below(4) > 0 && (!diff || self.below(12) > 0) => {
                    let step = self.field(inner, diff);
                    let next = inner.get(name_of(&step));
                    (step, next)
                }
                Some(Bson::Array(inner)) if self.below(5) > 0 && self.below(12) > 0 => {
                    let index = self.below(inner.len() + 2);
                    (self.index(index, diff), inner.get(index))
                }
                // In a way that is not the value's.
                _ if self.below(5) == 0 && self.below(2) == 0 => (self.index(1, diff), None),
                _ if self.below(5) == 0 => (self.named(diff), None),
                _ => return path,
            };
            path.push(step);
            value = next;
        }
    }

    fn index(&mut self, index: usize, diff: bool) -> Step {
        let (name, index) = (index.to_string(), index as u32);
        if diff { Step::Index(index) } else { Step::FieldOrIndex { name, index } }
    }

    fn field(&mut self, document: &Document, diff: bool) -> Step {
        let names: Vec<&String> = document.keys().filter(|name| *name != "_id").collect();
        if names.is_empty() || self.below(8) == 0 {
            return self.named(diff);
        }
        step((*self.pick(&names)).clone(), diff)
    }

    fn named(&mut self, diff: bool) -> Step {
        let name = self.name();
        step(name, diff)
    }

    fn edit(&mut self, layout: &Layout, document: &Document, diff: bool) -> Edit {
        let path = self.path(document, diff);
        let set = doc! {"": self.any(layout)}.to_vec().unwrap().into();
        // A diff takes nothing out of an array, and what a modifier does to one as a whole, it sets.
        let in_array = matches!(path.last(), Some(Step::Index(_)));
        let action = match self.below(6) {
            0 if !in_array => EditAction::Unset,
            1 if diff => EditAction::Resize(self.below(3) as u32),
            2 if diff && !in_array => EditAction::Insert(set),
            _ => EditAction::Set(set),
        };
        Edit { path, action }
    }

    fn edits(&mut self, layout: &Layout, document: &Document) -> Edits {
        let diff = self.below(2) == 0;
        let edits = (0..=self.below(2)).map(|_| self.edit(layout, document, diff)).collect();
        if diff { Edits::Diff(edits) } else { Edits::Modifiers(edits) }
    }
}

/// As gizer-oplog decodes a name.
fn step(name: String, diff: bool) -> Step {
    match name.parse() {
        Ok(index) if !diff => Step::FieldOrIndex { name, index },
        _ => Step::Field(name),
    }
}

fn name_of(step: &Step) -> &str {
    match step {
        Step::Field(name) | Step::FieldOrIndex { name, .. } => name,
        Step::Index(_) => panic!("an index in a document"),
    }
}

/// How often something came up, so that nothing is tested in vain.
#[derive(Debug, Default)]
struct Seen {
    changes: usize,
    narrow: usize,
    /// Updates that changed rows of the root table, of child tables alone, and of both.
    root: usize,
    children: usize,
    both: usize,
}

fn check(layout: &Layout, id: &Bson, random: &mut Random, seen: &mut Seen) {
    let mut before = doc! {"_id": id.clone()};
    before.extend(random.document(&layout.document));
    let edits = random.edits(layout, &before);
    let mut after = before.clone();
    applied::apply(&mut after, &edits);
    let changed = changed(layout, &before.to_vec().unwrap(), &after.to_vec().unwrap());
    let scope = Scope::of(layout, &edits);
    for table in &changed {
        let name = &layout.table(*table).name;
        assert!(scope.contains(*table), "{name} is not in {scope:?}: {before} by {edits:?} is {after}");
    }
    seen.changes += usize::from(!changed.is_empty());
    seen.narrow += usize::from(!changed.is_empty() && scope != Scope::All);
    match (changed.contains(&TableId(0)), changed.len()) {
        (true, 1) => seen.root += 1,
        (false, 1..) => seen.children += 1,
        (true, 2..) => seen.both += 1,
        _ => {}
    }
}

const NESTED: &str = r#"{"_id": "INT", "a": [{"a": "INT", "b": [{"a": "INT", "b": ["INT"]}], "c": {"a": ["INT"], "b": "INT"}}],
    "b": {"a": "INT", "b": {"c": [{"a": "INT"}], "d": "INT"}}, "c": "INT", "0": "INT", "d": ["INT"]}"#;

fn fixed() -> Vec<Layout> {
    let own = |fields: &str| format!(r#"{{"$gizer": 1, "fields": {fields}}}"#);
    let odd = r#"{"_id": "INT", "a": [{"$as": "table", "$items": {"a": "INT", "b": ["INT"]}}], "b": {"$as": "json"},
        "c": {"a": {"$as": "ignore"}, "b": ["INT"]}, "d": {"$as": "array", "$type": "INT"}}"#;
    let maps = r#"{"_id": "INT", "a": {"$as": "map", "$values": {"a": "INT", "b": ["INT"], "c": {"$as": "map", "$values": "INT"}}},
        "b": [{"a": {"$as": "map", "$values": "INT"}, "b": {"$as": "map", "$values": {"$as": "table", "$items": "INT"}}}],
        "c": {"a": {"$as": "map", "$values": {"$as": "map", "$values": {"a": ["INT"]}}}, "b": "INT"}, "0": "INT",
        "d": {"$as": "map", "$values": {"$as": "json"}}}"#;
    [NESTED.to_owned(), own(NESTED), own(odd), own(maps)]
        .map(|schema| Layout::new(&file::parse("cases", &schema).unwrap()).unwrap())
        .into()
}

#[test]
fn rows_that_differ_are_in_the_scope() {
    for layout in fixed() {
        let (mut random, mut seen) = (Random(0x9E37_79B9_7F4A_7C15), Seen::default());
        for _ in 0..6_000 {
            check(&layout, &1.into(), &mut random, &mut seen);
        }
        let Seen { changes, narrow, root, children, both } = seen;
        assert!(changes > 1_500 && narrow > 600 && root > 300 && children > 90 && both > 90, "{seen:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn rows_that_differ_are_in_the_scope_of_any_layout(
        documents in prop::collection::vec(generated::document(), 1..6),
        seed in 1u64..,
        exact in any::<bool>(),
        choices in prop::option::of(prop::collection::vec(any::<u8>(), 1..24)),
    ) {
        let mut inference = Inference::default();
        for document in &documents {
            inference.observe(RawDoc::new(&document.to_vec().unwrap()).unwrap()).unwrap();
        }
        let (mut schema, _) = inference.schema("cases");
        if let Some(choices) = choices {
            varied::vary(&mut schema, choices);
        }
        let text = file::write(&schema);
        let text = if exact { text.replacen("\"$gizer\": 1", "\"$gizer\": 1, \"exact_types\": true", 1) } else { text };
        let layout = Layout::new(&file::parse("cases", &text).unwrap()).unwrap();
        let mut random = Random(seed);
        for _ in 0..60 {
            check(&layout, documents[0].get("_id").unwrap(), &mut random, &mut Seen::default());
        }
    }
}

/// A document with a name twice is kept whole in `_extra` of its row, its arrays too.
#[test]
fn what_is_kept_whole_is_on_the_way() {
    let layout = fixed().swap_remove(1);
    let twice = |element: i32| {
        let mut bytes = doc! {"_id": 1, "x": 1, "y": 2, "d": [1, element]}.to_vec().unwrap();
        let at = bytes.windows(3).position(|name| name == b"\x10y\0").unwrap();
        bytes[at + 1] = b'x';
        bytes
    };
    let path = vec![Step::Field("d".to_owned()), Step::Index(1)];
    let edits = Edits::Diff(vec![Edit { path, action: EditAction::Set(doc! {"": 3}.to_vec().unwrap().into()) }]);
    let (changed, scope) = (changed(&layout, &twice(2), &twice(3)), Scope::of(&layout, &edits));
    assert_eq!(changed.len(), 2, "the root row and that of the element");
    assert!(changed.iter().all(|table| scope.contains(*table)) && scope != Scope::All, "{changed:?} {scope:?}");
}
