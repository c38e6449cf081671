//! Schemas of either dialect by chance, such as a file can hold.

use std::collections::BTreeMap;

use gizer_schema::{Dialect, Field, Fields, Node, ScalarType, Schema};
use proptest::prelude::*;

/// A schema with an `_id`, of either dialect. It reads back from its file; tables need not follow from it.
pub(crate) fn schema() -> impl Strategy<Value = Schema> {
    prop_oneof![
        fields(classic_field().boxed()).prop_map(|fields| with_id(Dialect::Classic, fields)),
        (any::<bool>(), fields(gizer_field().boxed()))
            .prop_map(|(exact_types, fields)| with_id(Dialect::Gizer { exact_types }, fields)),
    ]
}

fn with_id(dialect: Dialect, mut fields: Fields) -> Schema {
    fields.insert("_id".to_owned(), ScalarType::Int.into());
    Schema { collection: "posts".to_owned(), dialect, table: None, fields }
}

fn fields(field: BoxedStrategy<Field>) -> impl Strategy<Value = Fields> {
    prop::collection::btree_map("[a-d]|_a|\\$as|x\\.y", field, 0..5)
}

fn classic_type() -> impl Strategy<Value = ScalarType> {
    prop::sample::select(ScalarType::CLASSIC.to_vec())
}

fn classic_field() -> impl Strategy<Value = Field> {
    let leaf = prop_oneof![
        4 => classic_type().prop_map(Field::from),
        1 => Just(Field::from(Node::object_id_pair())),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            fields(inner.clone().boxed()).prop_map(|fields| Node::Document(fields).into()),
            inner.prop_map(|element| Node::Array(Box::new(element)).into()),
        ]
    })
}

fn gizer_field() -> impl Strategy<Value = Field> {
    let types: Vec<ScalarType> = ScalarType::ALL.iter().copied().filter(|ty| *ty != ScalarType::Key).collect();
    let elements: Vec<ScalarType> =
        types.iter().copied().filter(|ty| !matches!(ty, ScalarType::Json | ScalarType::TinyInt)).collect();
    let leaf = prop_oneof![
        5 => prop::sample::select(types).prop_map(Node::Scalar),
        1 => prop::sample::select(elements).prop_map(Node::List),
        1 => Just(Node::Ignored),
    ];
    (leaf.prop_map(Field::from), seen(), any::<bool>()).prop_map(|(field, seen, pinned)| {
        let pinned = pinned && matches!(field.node, Node::Scalar(_));
        Field { seen, pinned, ..field }
    }).prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            3 => fields(inner.clone().boxed()).prop_map(|fields| Node::Document(fields).into()),
            2 => inner.clone().prop_map(|element| Node::Array(Box::new(element)).into()),
            1 => inner.prop_map(|element| Node::Array(Box::new(Node::NestedTable(Box::new(element)).into())).into()),
        ]
    })
}

fn seen() -> impl Strategy<Value = BTreeMap<String, u64>> {
    prop::collection::btree_map("INT|STRING", 1..100u64, 0..2)
}
