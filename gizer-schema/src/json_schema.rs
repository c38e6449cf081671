//! The JSON Schema of schema files, so that editors complete and check them.
//!
//! It says of the shape what [`file::parse`](crate::file::parse) takes, in both dialects. What only the whole of a file
//! tells is not in it: names given away twice, a `KEY` that is not `_id`, a schema without `_id`
//! ([`LayoutError`](crate::LayoutError)), and fields that are in one object twice, which JSON Schema cannot see.

use serde_json::{Value as Json, json};

use crate::column_type::ScalarType;

/// The dialect of JSON Schema: draft 2020-12.
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Names of directives; whatever else begins with one `$` is none.
const DIRECTIVES: [&str; 7] = ["$as", "$type", "$items", "$values", "$name", "$pinned", "$seen"];

/// A field's own name in gizer's dialect: a `$` in front is doubled.
const FIELD_NAME: &str = r"^($|[^$]|\$\$)";

/// The JSON Schema, draft 2020-12, of schema files in either dialect.
pub fn json_schema() -> Json {
    json!({
        "$schema": DRAFT,
        "title": "gizer schema file",
        "description": "What the documents of a MongoDB collection look like, and so which PostgreSQL tables they become.",
        "type": "object",
        "if": { "required": ["$gizer"] },
        "then": { "$ref": "#/$defs/gizer" },
        "else": { "$ref": "#/$defs/classic" },
        // Said here too, so that an editor offers the frame in an empty file.
        "properties": { "$gizer": version() },
        "$defs": {
            "gizer": frame(),
            "fields": fields(),
            "field": field(),
            "list": list(),
            "object": object(),
            "type": types(ScalarType::ALL),
            "classic": classic_fields(),
            "classicField": classic_field(),
            "classicType": types(ScalarType::CLASSIC),
        },
    })
}

fn version() -> Json {
    json!({
        "description": "The version of gizer's dialect. Without it the file is of the classic dialect: an object of fields.",
    })
}

fn frame() -> Json {
    json!({
        "type": "object",
        "properties": {
            "$gizer": { "const": 1 },
            "collection": {
                "description": "Name of the collection, with its database in front or without.",
                "type": "string",
            },
            "$name": {
                "description": "The name of the collection's own table. Without: that of the collection.",
                "type": "string",
            },
            "exact_types": {
                "description": "Whether a number that is stored in a column of another numeric type keeps its own type in _extra. \
                                Without: no.",
                "type": "boolean",
            },
            "fields": { "$ref": "#/$defs/fields" },
        },
        "required": ["$gizer", "fields"],
        "additionalProperties": false,
    })
}

fn fields() -> Json {
    json!({
        "description": "The fields of the documents by name. One is _id. A name that begins with $ is written with one $ more.",
        "type": "object",
        "patternProperties": { FIELD_NAME: { "$ref": "#/$defs/field" } },
        "additionalProperties": false,
    })
}

fn field() -> Json {
    json!({
        "description": "A type; an object, for a nested document or with directives ($as, $type, …); or a list of one, for an array.",
        "anyOf": [
            { "$ref": "#/$defs/type" },
            { "$ref": "#/$defs/object" },
            { "$ref": "#/$defs/list" },
        ],
    })
}

fn list() -> Json {
    json!({
        "description": "An array: its elements become rows of a child table. The one value says what each of them is; [] says \
                        that none was ever seen.",
        "type": "array",
        "items": { "$ref": "#/$defs/field" },
        "maxItems": 1,
    })
}

fn object() -> Json {
    // What an object says decides what may be next to it.
    let only = |names: &[&str]| json!({ "propertyNames": { "enum": names } });
    let says = |policy: &str| json!({ "properties": { "$as": { "const": policy } }, "required": ["$as"] });
    let when = |condition: Json, then: Json| json!({ "if": condition, "then": then });
    let nothing_but_fields = json!({ "not": { "anyOf": [
        { "required": ["$type"] }, { "required": ["$items"] }, { "required": ["$values"] }, { "required": ["$name"] },
    ] } });
    let array = json!({
        "required": ["$type"],
        "propertyNames": { "enum": ["$as", "$type", "$name", "$seen"] },
        // Elements of an array in one column have a type that says what they are.
        "properties": { "$type": { "not": any_case(&[ScalarType::Json, ScalarType::Key, ScalarType::TinyInt]) } },
    });
    let table = json!({ "required": ["$items"], "propertyNames": { "enum": ["$as", "$items", "$name", "$seen"] } });
    let map = json!({ "required": ["$values"], "propertyNames": { "enum": ["$as", "$values", "$name", "$seen"] } });
    let without_policy = |directive: &str| json!({ "required": [directive], "not": { "required": ["$as"] } });
    json!({
        "type": "object",
        "properties": directives(),
        "patternProperties": { FIELD_NAME: { "$ref": "#/$defs/field" } },
        "additionalProperties": false,
        "allOf": [
            when(says("json"), only(&["$as", "$name", "$pinned", "$seen"])),
            when(says("ignore"), only(&["$as", "$seen"])),
            when(says("array"), array),
            when(says("table"), table),
            when(says("map"), map),
            // Only a map has values.
            when(json!({ "required": ["$values"] }), says("map")),
            when(says("columns"), nothing_but_fields),
            when(without_policy("$type"), only(&["$type", "$name", "$pinned", "$seen"])),
            when(without_policy("$items"), only(&["$items", "$name", "$seen"])),
            // A nested document has no column or table whose name could be chosen.
            when(json!({ "required": ["$name"] }), json!({ "anyOf": [
                { "required": ["$as"] }, { "required": ["$type"] }, { "required": ["$items"] },
            ] })),
            // Only the type of a value can be pinned.
            when(json!({ "required": ["$pinned"] }), json!({ "anyOf": [{ "required": ["$type"] }, says("json")] })),
        ],
    })
}

fn directives() -> Json {
    let said = [
        json!({
            "description": "The policy: what becomes of it.",
            "enum": ["columns", "table", "array", "map", "json", "ignore"],
            "enumDescriptions": [
                "A nested document: its fields become columns of the same table. What an object of fields is by itself.",
                "An array, with $items: its elements become rows of a child table. What a list is by itself; in a list: an array \
                 directly in an array, which is JSON otherwise.",
                "An array of values, with $type: one column, a PostgreSQL array.",
                "A document whose field names are data, with $values: its entries become rows of a child table, with the name as \
                 their key.",
                "Whatever it holds: one jsonb column, canonical Extended JSON.",
                "It is not copied at all.",
            ],
        }),
        json!({
            "description": "The type of a value, or of the elements of \"$as\": \"array\".",
            "$ref": "#/$defs/type",
        }),
        json!({
            "description": "What the elements of an array are.",
            "$ref": "#/$defs/field",
        }),
        json!({
            "description": "What the values of a map are.",
            "$ref": "#/$defs/field",
        }),
        json!({
            "description": "The name of the column, or of an array's or a map's table, in place of the one that follows from the path.",
            "type": "string",
        }),
        json!({
            "description": "Whether the type of a value stays when the schema grows, whatever comes.",
            "type": "boolean",
        }),
        json!({
            "description": "What inference saw, by type, where it was not all of one kind. For people: it changes nothing.",
            "type": "object",
            "additionalProperties": { "type": "integer", "minimum": 0 },
        }),
    ];
    DIRECTIVES.into_iter().map(str::to_owned).zip(said).collect::<serde_json::Map<_, _>>().into()
}

fn classic_fields() -> Json {
    json!({
        "description": "The fields of the documents by name. One is _id.",
        "type": "object",
        "additionalProperties": { "$ref": "#/$defs/classicField" },
    })
}

fn classic_field() -> Json {
    json!({
        "description": "A type; an object, for a nested document; or a list, for an array: its first element says what each is. An \
                        ObjectId is {\"oid\": \"STRING\", \"bsontype\": \"INT\"}.",
        "anyOf": [
            { "$ref": "#/$defs/classicType" },
            { "$ref": "#/$defs/classic" },
            // Whatever comes behind the first is skipped, as the classic tool did.
            { "type": "array", "prefixItems": [{ "$ref": "#/$defs/classicField" }] },
        ],
    })
}

/// The enumeration is what editors complete; the pattern takes the same names in any case, and `LONG`.
fn types(types: &[ScalarType]) -> Json {
    let names: Vec<&str> = types.iter().map(|ty| ty.name()).collect();
    let descriptions: Vec<&str> = types.iter().map(|ty| ty.description()).collect();
    json!({
        "description": "A type; each is one PostgreSQL type.",
        "type": "string",
        "anyOf": [{ "enum": names, "enumDescriptions": descriptions }, any_case(types)],
    })
}

/// Names of types in any case. ECMA-262 has no flag for that inside of a pattern.
fn any_case(types: &[ScalarType]) -> Json {
    let mut names: Vec<&str> = types.iter().map(|ty| ty.name()).collect();
    if types.contains(&ScalarType::BigInt) {
        names.push("LONG");
    }
    let either = |letter: char| format!("[{}{}]", letter.to_ascii_uppercase(), letter.to_ascii_lowercase());
    let patterns: Vec<String> = names.iter().map(|name| name.chars().map(either).collect()).collect();
    json!({ "pattern": format!("^({})$", patterns.join("|")) })
}
