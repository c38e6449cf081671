//! Reading the classic dialect.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::ParseError;
use crate::column_type::ScalarType;
use crate::model::{Dialect, Field, Fields, Node, Schema};
use crate::names::shortened;

pub(super) fn parse(collection: &str, text: &str) -> Result<Schema, ParseError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let fields = reader.deserialize_map(ClassicFields)?;
    reader.end()?;
    Ok(Schema { collection: collection.to_owned(), dialect: Dialect::Classic, table: None, fields })
}

/// An object of fields.
struct ClassicFields;

impl<'de> Visitor<'de> for ClassicFields {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of fields and their types")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::new();
        while let Some(name) = map.next_key::<String>()? {
            if fields.contains_key(&name) {
                return Err(de::Error::custom(format!("the field {:?} is in this object twice", shortened(&name))));
            }
            let field = map.next_value_seed(ClassicField)?;
            fields.insert(name, field);
        }
        Ok(fields)
    }
}

struct ClassicField;

impl<'de> DeserializeSeed<'de> for ClassicField {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ClassicField {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a type name, an object (nested document) or a list (array)")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Field, E> {
        match name.parse::<ScalarType>().ok() {
            Some(scalar) if scalar.is_classic() => Ok(scalar.into()),
            Some(scalar) => Err(E::custom(format!(
                "the type {scalar} is not of the classic dialect: expected \"$gizer\": 1 at the top of the file"
            ))),
            None => Err(E::custom(format!(
                "unknown type {:?}: expected one of {} (or LONG)",
                shortened(name),
                classic_names()
            ))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Field, A::Error> {
        ClassicFields.visit_map(map).map(|fields| Node::Document(fields).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
        let element = seq.next_element_seed(ClassicField)?.unwrap_or_else(|| Node::Document(Fields::new()).into());
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Node::Array(Box::new(element)).into())
    }
}

fn classic_names() -> String {
    let names: Vec<&str> = ScalarType::CLASSIC.iter().map(|t| t.name()).collect();
    names.join(", ")
}
