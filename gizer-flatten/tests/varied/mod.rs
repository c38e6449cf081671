//! Schemas made different at random: documents as maps, values as jsonb or left out, arrays in arrays as tables.
//!
//! The fuzz targets and the tests against real servers include this file too.

use bson::{Bson, Document};
use gizer_schema::{Field, Fields, Node, ScalarType, Schema, pin_names};

/// Changes the policies of a schema that was inferred; names are pinned.
pub(crate) fn vary(schema: &mut Schema, choices: impl IntoIterator<Item = u8>) {
    let choices: Vec<u8> = choices.into_iter().collect();
    let mut choices = choices.into_iter().cycle();
    vary_fields(&mut schema.fields, &mut choices);
    pin_names(schema, None).expect("tables follow from any policies");
}

fn vary_fields(fields: &mut Fields, choices: &mut impl Iterator<Item = u8>) {
    for (name, field) in fields {
        if name != "_id" {
            vary_field(field, choices, false);
        }
    }
}

fn vary_field(field: &mut Field, choices: &mut impl Iterator<Item = u8>, nested: bool) {
    let choice = choices.next().unwrap_or_default();
    // What it was called is of no use any more.
    field.name = None;
    field.node = match (&field.node, choice % 16) {
        (_, 0) => Node::Scalar(ScalarType::Json),
        (_, 1) => Node::Ignored,
        (Node::Document(fields), 2..10) => {
            let value = fields.values().nth(usize::from(choice / 16) % fields.len().max(1)).cloned();
            Node::Map(Box::new(value.unwrap_or_else(|| ScalarType::Json.into())))
        }
        (Node::Array(element), 2..10) if nested => Node::NestedTable(element.clone()),
        // Without a map around it there is no such table.
        (other, _) => other.clone(),
    };
    match &mut field.node {
        Node::Document(fields) => vary_fields(fields, choices),
        // What is in the jsonb of an array in an array has no policy.
        Node::Array(_) if nested => {}
        Node::Array(inner) | Node::NestedTable(inner) | Node::Map(inner) => vary_field(inner, choices, true),
        _ => {}
    }
}

/// A document without what its schema leaves out.
pub(crate) fn copied(schema: &Schema, document: Document) -> Document {
    copied_fields(&schema.fields, document)
}

fn copied_fields(fields: &Fields, document: Document) -> Document {
    let copied = document.into_iter().filter_map(|(name, value)| match fields.get(&name) {
        None => Some((name, value)),
        Some(field) => {
            let was_empty = matches!(&value, Bson::Document(inner) if inner.is_empty());
            let value = copied_value(&field.node, value, false)?;
            // No column shows that it was there.
            let is_gone =
                matches!((&field.node, &value), (Node::Document(_), Bson::Document(inner)) if inner.is_empty());
            (was_empty || !is_gone).then_some((name, value))
        }
    });
    copied.collect()
}

fn copied_value(node: &Node, value: Bson, nested: bool) -> Option<Bson> {
    // An element or an entry stays, and is null.
    let inside = |inner: &Field, value: Bson| copied_value(&inner.node, value, true).unwrap_or(Bson::Null);
    Some(match (node, value) {
        (Node::Ignored, _) => return None,
        (Node::Document(fields), Bson::Document(document)) => copied_fields(fields, document).into(),
        (Node::Array(_), value) if nested => value,
        (Node::Array(inner) | Node::NestedTable(inner), Bson::Array(elements)) => {
            elements.into_iter().map(|element| inside(inner, element)).collect::<Vec<Bson>>().into()
        }
        (Node::Map(inner), Bson::Document(entries)) => {
            entries.into_iter().map(|(key, value)| (key, inside(inner, value))).collect::<Document>().into()
        }
        (_, value) => value,
    })
}
