//! Reads canonical Extended JSON of [`RawJson`](crate::RawJson) back into its original bytes.
//!
//! The `bson` crate reads it into values that lose something: it sorts regular expression options,
//! and changes the inner length of binary subtype 2.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use gizer_schema::raw::Kind;
use serde_json::{Map, Value as Json};

use super::value::{BuiltFields, BuiltValue, text_bytes};
use crate::extjson::OLD_BINARY;

/// A value kept as JSON, or as `{"$bson": …}`; `None` if it is neither.
pub(crate) fn value(json: &Json) -> Option<BuiltValue> {
    match only(json, "$bson") {
        Some(base64) => BuiltValue::only_field_of(&BASE64.decode(base64.as_str()?).ok()?),
        None => extended(json),
    }
}

fn extended(json: &Json) -> Option<BuiltValue> {
    Some(match json {
        Json::Null => BuiltValue::NULL,
        Json::Bool(value) => BuiltValue::raw(Kind::Boolean, [u8::from(*value)]),
        // Numbers have a wrapper.
        Json::Number(_) => return None,
        Json::String(text) => BuiltValue::text(Kind::String, text)?,
        Json::Array(elements) => BuiltValue::Array(elements.iter().map(extended).collect::<Option<_>>()?),
        Json::Object(fields) if fields.keys().any(|name| name.starts_with('$')) => wrapped(fields)?,
        Json::Object(fields) => BuiltValue::Document(document(fields)?),
    })
}

fn document(fields: &Map<String, Json>) -> Option<BuiltFields> {
    let field = |(name, value): (&String, &Json)| Some((name.clone(), extended(value)?));
    fields.iter().map(field).collect::<Option<_>>().map(BuiltFields)
}

fn wrapped(fields: &Map<String, Json>) -> Option<BuiltValue> {
    if let Some([code, scope]) = both(fields, ["$code", "$scope"]) {
        return code_with_scope(code.as_str()?, scope.as_object()?);
    }
    let (name, inner) = fields.iter().next().filter(|_| fields.len() == 1)?;
    let text = || inner.as_str();
    Some(match name.as_str() {
        "$numberInt" => BuiltValue::raw(Kind::Int32, text()?.parse::<i32>().ok()?.to_le_bytes()),
        "$numberLong" => BuiltValue::raw(Kind::Int64, text()?.parse::<i64>().ok()?.to_le_bytes()),
        "$numberDouble" => BuiltValue::raw(Kind::Double, text()?.parse::<f64>().ok()?.to_le_bytes()),
        "$numberDecimal" => BuiltValue::raw(Kind::Decimal128, text()?.parse::<bson::Decimal128>().ok()?.bytes()),
        "$oid" => BuiltValue::raw(Kind::ObjectId, oid(inner)?),
        "$date" => {
            let millis: i64 = only(inner, "$numberLong")?.as_str()?.parse().ok()?;
            BuiltValue::raw(Kind::DateTime, millis.to_le_bytes())
        }
        "$binary" => {
            let [base64, subtype] = both(inner.as_object()?, ["base64", "subType"])?;
            let subtype = u8::from_str_radix(subtype.as_str()?, 16).ok()?;
            let bytes = BASE64.decode(base64.as_str()?).ok()?;
            if subtype == OLD_BINARY {
                let length = i32::try_from(bytes.len()).ok()?.to_le_bytes();
                return BuiltValue::binary(subtype, &[&length[..], &bytes].concat());
            }
            BuiltValue::binary(subtype, &bytes)?
        }
        "$regularExpression" => {
            let [pattern, options] = both(inner.as_object()?, ["pattern", "options"])?;
            BuiltValue::raw(Kind::Regex, [pattern.as_str()?, "\0", options.as_str()?, "\0"].concat())
        }
        "$dbPointer" => {
            let [namespace, id] = both(inner.as_object()?, ["$ref", "$id"])?;
            let namespace = text_bytes(namespace.as_str()?)?;
            BuiltValue::raw(Kind::DbPointer, [&namespace[..], &oid(only(id, "$oid")?)?].concat())
        }
        "$timestamp" => {
            let [seconds, increment] = both(inner.as_object()?, ["t", "i"])?;
            let [seconds, increment] = [seconds, increment].map(|n| u32::try_from(n.as_u64()?).ok());
            BuiltValue::raw(Kind::Timestamp, (u64::from(seconds?) << 32 | u64::from(increment?)).to_le_bytes())
        }
        "$code" => BuiltValue::text(Kind::JavaScript, text()?)?,
        "$symbol" => BuiltValue::text(Kind::Symbol, text()?)?,
        "$undefined" => BuiltValue::raw(Kind::Undefined, []),
        "$maxKey" => BuiltValue::raw(Kind::MaxKey, []),
        "$minKey" => BuiltValue::raw(Kind::MinKey, []),
        _ => return None,
    })
}

/// Length of the whole, code, scope.
fn code_with_scope(code: &str, scope: &Map<String, Json>) -> Option<BuiltValue> {
    let (_, scope) = BuiltValue::Document(document(scope)?).encode()?;
    let code = text_bytes(code)?;
    let length = i32::try_from(4 + code.len() + scope.len()).ok()?.to_le_bytes();
    Some(BuiltValue::raw(Kind::CodeWithScope, [&length, &code[..], &scope].concat()))
}

/// The value of the only field of an object, if it has this name.
fn only<'j>(json: &'j Json, name: &str) -> Option<&'j Json> {
    let fields = json.as_object()?;
    fields.get(name).filter(|_| fields.len() == 1)
}

/// The values of an object that has these two fields and no other.
fn both<'j>(fields: &'j Map<String, Json>, [one, other]: [&str; 2]) -> Option<[&'j Json; 2]> {
    (fields.len() == 2).then_some([fields.get(one)?, fields.get(other)?])
}

fn oid(json: &Json) -> Option<[u8; 12]> {
    Some(json.as_str()?.parse::<bson::oid::ObjectId>().ok()?.bytes())
}
