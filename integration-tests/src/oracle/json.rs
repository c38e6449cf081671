//! Canonical Extended JSON, for the columns that hold it.

use bson::Bson;
use serde_json::{Value, json};

/// The value as canonical Extended JSON, with doubles as [`with_plain_doubles`] has them; `None` for text that `jsonb`
/// does not take.
pub(super) fn canonical(value: &Bson) -> Option<Value> {
    Some(match value {
        Bson::Null => Value::Null,
        Bson::String(text) => (!text.contains('\0')).then(|| json!(text))?,
        Bson::Boolean(value) => json!(value),
        Bson::Int32(number) => json!({ "$numberInt": number.to_string() }),
        Bson::Int64(number) => json!({ "$numberLong": number.to_string() }),
        Bson::Double(number) => double(*number),
        Bson::DateTime(time) => json!({ "$date": { "$numberLong": time.timestamp_millis().to_string() } }),
        Bson::Array(elements) => Value::Array(elements.iter().map(canonical).collect::<Option<_>>()?),
        Bson::Document(fields) => {
            let field = |(name, value): (&String, &Bson)| {
                (!name.contains('\0')).then_some(())?;
                Some((name.clone(), canonical(value)?))
            };
            Value::Object(fields.iter().map(field).collect::<Option<_>>()?)
        }
        // Of the other types, Extended JSON has but one form, and the driver knows it.
        other => serde_json::to_value(other).ok()?,
    })
}

/// The same JSON, with every `$numberDouble` by its bits: one double can be written in several ways.
pub(super) fn with_plain_doubles(value: Value) -> Value {
    match value {
        Value::Array(elements) => elements.into_iter().map(with_plain_doubles).collect(),
        Value::Object(fields) => {
            let number = fields.get("$numberDouble").and_then(Value::as_str).and_then(|text| text.parse().ok());
            match number {
                Some(number) if fields.len() == 1 => double(number),
                _ => fields.into_iter().map(|(name, value)| (name, with_plain_doubles(value))).collect(),
            }
        }
        other => other,
    }
}

/// In Extended JSON, unlike in a column of doubles, there is but one NaN.
fn double(number: f64) -> Value {
    let number = if number.is_nan() { f64::NAN } else { number };
    json!({ "$numberDouble": format!("{number:?}"), "bits": number.to_bits() })
}

#[cfg(test)]
mod tests {
    use bson::spec::BinarySubtype;
    use bson::{Binary, DateTime, doc};

    use super::*;

    #[test]
    fn canonical_form_keeps_types_and_compares_doubles_by_value() {
        let old = Binary { subtype: BinarySubtype::BinaryOld, bytes: b"abc".to_vec() };
        let value = doc! { "a": [1, 2i64, 0.5, "x", true, Bson::MinKey], "b": old, "t": DateTime::from_millis(-5) };
        let stored = json!({
            "t": { "$date": { "$numberLong": "-5" } },
            "b": { "$binary": { "base64": "YWJj", "subType": "02" } },
            "a": [
                { "$numberInt": "1" }, { "$numberLong": "2" }, { "$numberDouble": "5E-1" }, "x", true, { "$minKey": 1 },
            ],
        });
        assert_eq!(canonical(&value.into()), Some(with_plain_doubles(stored)));
        let minus_zero = with_plain_doubles(json!({ "$numberDouble": "-0.0" }));
        assert_ne!(canonical(&0.0.into()), Some(minus_zero));
        assert_eq!(canonical(&"a\0".into()), None);
    }
}
