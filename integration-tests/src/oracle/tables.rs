//! The tables that follow from a schema file.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::Error;

/// Longest identifier that PostgreSQL does not cut, in bytes.
const LONGEST_NAME: usize = 63;

/// What becomes of a collection's documents.
#[derive(Debug)]
pub(super) struct Mapping {
    /// Parents before their children; the first one is the root table.
    pub(super) tables: Vec<Table>,
    /// What becomes of the fields of a document.
    pub(super) root: Vec<(String, Content)>,
    /// The field that identifies a document.
    pub(super) key_field: &'static str,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    /// In their order.
    pub(super) columns: Vec<Column>,
    /// The column of the root key.
    pub(super) key: String,
    /// The columns of the positions, outermost first.
    pub(super) positions: Vec<String>,
    /// Which columns identify a row: that of the root key, and those of the positions.
    pub(super) key_columns: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) ty: Type,
}

/// Type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    SmallInt,
    Integer,
    BigInt,
    Double,
    Boolean,
    Timestamp,
    Json,
}

impl Type {
    fn of_schema(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "STRING" => Self::Text,
            "INT" => Self::Integer,
            "BIGINT" | "LONG" => Self::BigInt,
            "DOUBLE" => Self::Double,
            "BOOLEAN" => Self::Boolean,
            "TIMESTAMP" => Self::Timestamp,
            "TINYINT" => Self::SmallInt,
            _ => return None,
        })
    }

    /// As PostgreSQL's `format_type` names it.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::SmallInt => "smallint",
            Self::Integer => "integer",
            Self::BigInt => "bigint",
            Self::Double => "double precision",
            Self::Boolean => "boolean",
            Self::Timestamp => "timestamp with time zone",
            Self::Json => "jsonb",
        }
    }
}

/// What becomes of a value.
#[derive(Debug)]
pub(super) enum Content {
    /// It goes into a column of the row.
    Column(Column),
    /// Its fields go into columns of the row.
    Fields(Vec<(String, Content)>),
    /// As an ObjectId it goes into the columns of these two fields.
    ObjectId(Vec<(String, Content)>),
    /// Its elements become rows of a table.
    Rows { table: usize, element: Box<Content> },
}

/// A name on the way from the root to a value.
#[derive(Debug, Clone, Copy)]
struct Step<'s> {
    name: &'s str,
    is_array: bool,
}

impl Mapping {
    pub(super) fn new(collection: &str, schema_file: &str) -> Result<Self, Error> {
        let problem = |problem: String| Error::Schema { collection: collection.into(), problem };
        let schema: Value = serde_json::from_str(schema_file).map_err(|error| problem(error.to_string()))?;
        let fields = schema.as_object().ok_or_else(|| problem(format!("expected an object, got {schema}")))?;
        let key_field = ["_id", "id"].into_iter().find(|name| fields.contains_key(*name));
        let key_field = key_field.ok_or_else(|| problem("expected a field _id or id, found neither".into()))?;
        let (key, key_type) = match &fields[key_field] {
            pair if is_object_id(pair) => ("id_oid", Type::Text),
            value => {
                ("id", scalar(value).ok_or_else(|| problem(format!("expected a scalar {key_field}, got {value}")))?)
            }
        };
        let mut walk = Walk { collection, key: Column { name: key.into(), ty: key_type }, tables: Vec::new() };
        walk.tables.push(Table {
            name: collection.into(),
            columns: Vec::new(),
            key: key.into(),
            positions: Vec::new(),
            key_columns: Vec::new(),
        });
        let root = walk.fields(fields, 0, &[], &[])?;
        let mut mapping = Self { tables: walk.tables, root, key_field };
        mapping.put_columns_in_order();
        mapping.refuse_what_is_unsupported(collection, key_type)?;
        Ok(mapping)
    }

    /// Data columns and the root key by name, then positions.
    fn put_columns_in_order(&mut self) {
        for table in &mut self.tables {
            table.columns.sort_by(|one, other| one.name.cmp(&other.name));
            let position = |name: &String| Column { name: name.clone(), ty: Type::BigInt };
            table.columns.extend(table.positions.iter().map(position));
            let is_key = |column: &Column| column.name == table.key || table.positions.contains(&column.name);
            table.key_columns = (0..table.columns.len()).filter(|&at| is_key(&table.columns[at])).collect();
        }
    }

    fn refuse_what_is_unsupported(&self, collection: &str, key_type: Type) -> Result<(), Error> {
        let unsupported = |problem| Err(Error::Unsupported { collection: collection.into(), problem });
        if key_type == Type::Timestamp {
            return unsupported("a key of type TIMESTAMP".into());
        }
        let mut tables = HashSet::new();
        for table in &self.tables {
            let mut columns = HashSet::new();
            let table_name = (&table.name, tables.insert(&table.name));
            let column_names = table.columns.iter().map(|column| (&column.name, columns.insert(&column.name)));
            for (name, is_new) in std::iter::once(table_name).chain(column_names) {
                if !is_new || name.is_empty() || name.len() > LONGEST_NAME {
                    return unsupported(format!("{name:?} in table {} is taken, empty or too long", table.name));
                }
            }
        }
        Ok(())
    }
}

struct Walk<'s> {
    collection: &'s str,
    /// The root key, as it is named in the root table.
    key: Column,
    tables: Vec<Table>,
}

impl<'s> Walk<'s> {
    /// `path` leads from the root to these fields, `inside` is the part of it that lies in this table.
    fn fields(
        &mut self,
        fields: &'s Map<String, Value>,
        table: usize,
        path: &[Step<'s>],
        inside: &[&'s str],
    ) -> Result<Vec<(String, Content)>, Error> {
        let mut contents = Vec::new();
        for (name, value) in fields {
            let path = [path, &[Step { name, is_array: value.is_array() }]].concat();
            let content = match value.as_array() {
                Some(elements) => self.array(elements.first(), &path)?,
                None => self.value(value, table, &path, &[inside, &[name]].concat())?,
            };
            contents.push((name.clone(), content));
        }
        Ok(contents)
    }

    fn value(
        &mut self,
        value: &'s Value,
        table: usize,
        path: &[Step<'s>],
        inside: &[&'s str],
    ) -> Result<Content, Error> {
        if let Some(fields) = value.as_object() {
            let contents = self.fields(fields, table, path, inside)?;
            return Ok(if is_object_id(value) { Content::ObjectId(contents) } else { Content::Fields(contents) });
        }
        // An array directly in an array is kept as JSON.
        let ty = if value.is_array() { Some(Type::Json) } else { scalar(value) };
        let ty = ty.ok_or_else(|| Error::Schema {
            collection: self.collection.into(),
            problem: format!("expected a type name, an object or a list, got {value}"),
        })?;
        // The elements of an array of scalars have no name of their own.
        let own = [path[path.len() - 1].name];
        let names = if inside.is_empty() { &own } else { inside };
        let names: Vec<&str> = names.iter().map(|name| shortened(name)).collect();
        let column = Column { name: names.join("_"), ty };
        self.tables[table].columns.push(column.clone());
        Ok(Content::Column(column))
    }

    /// `path` ends with the array.
    fn array(&mut self, element: Option<&'s Value>, path: &[Step<'s>]) -> Result<Content, Error> {
        let table = self.tables.len();
        let key = format!("{}_{}", self.collection, self.key.name);
        self.tables.push(Table {
            name: self.table_name(path),
            columns: vec![Column { name: key.clone(), ty: self.key.ty }],
            key,
            positions: self.position_names(path),
            key_columns: Vec::new(),
        });
        let element = match element {
            Some(element) => self.value(element, table, path, &[])?,
            None => Content::Fields(Vec::new()),
        };
        Ok(Content::Rows { table, element: Box::new(element) })
    }

    fn table_name(&self, path: &[Step<'_>]) -> String {
        let last = path.len() - 1;
        let mut names = vec![singular(self.collection)];
        for (at, step) in path.iter().enumerate() {
            let name = shortened(step.name);
            names.push(if step.is_array && at != last { singular(name) } else { name.to_owned() });
        }
        names.join("_")
    }

    fn position_names(&self, path: &[Step<'_>]) -> Vec<String> {
        let arrays = (0..path.len() - 1).filter(|&at| path[at].is_array);
        let outer = arrays.map(|at| {
            let names: Vec<&str> = path[..=at].iter().map(|step| shortened(step.name)).collect();
            format!("{}_{}_idx", self.collection, names.join("_"))
        });
        outer.chain(["idx".to_owned()]).collect()
    }
}

fn scalar(value: &Value) -> Option<Type> {
    value.as_str().and_then(Type::of_schema)
}

fn is_object_id(value: &Value) -> bool {
    let is = |field: &str, ty| value.get(field).and_then(scalar) == Some(ty);
    value.as_object().is_some_and(|fields| fields.len() == 2) && is("oid", Type::Text) && is("bsontype", Type::Integer)
}

/// A name loses one leading underscore, if anything is left then.
fn shortened(name: &str) -> &str {
    name.strip_prefix('_').filter(|rest| !rest.is_empty()).unwrap_or(name)
}

fn singular(name: &str) -> String {
    let mut name = name.to_lowercase();
    if name.ends_with('s') {
        name.pop();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables of the classic tool's own cases: names, columns in order, and their types.
    #[test]
    fn the_tables_are_those_of_the_classic_tool() {
        let mut tables_seen = 0;
        for file in ["mapping.json", "schema-only.json"] {
            let path = format!("{}/../testdata/classic/{file}", env!("CARGO_MANIFEST_DIR"));
            let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            for case in &cases {
                let mapping = Mapping::new(case["collection"].as_str().unwrap(), &case["schema"].to_string()).unwrap();
                let expected = case["tables"].as_object().unwrap();
                assert_eq!(mapping.tables.len(), expected.len());
                for table in &mapping.tables {
                    let expected = expected[&table.name]["columns"].as_array().unwrap();
                    let expected = expected.iter().map(|column| Column {
                        name: column["name"].as_str().unwrap().into(),
                        ty: Type::of_schema(column["schema_type"].as_str().unwrap()).unwrap(),
                    });
                    assert_eq!(table.columns, expected.collect::<Vec<_>>(), "{}", table.name);
                    tables_seen += 1;
                }
            }
        }
        assert!(tables_seen > 50, "{tables_seen}");
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let long = format!(r#"{{"_id": "INT", "{}": "INT"}}"#, "x".repeat(64));
        let cases = [
            (r#"{"a": "INT"}"#, "expected a field _id or id"),
            (r#"{"_id": "TIMESTAMP"}"#, "a key of type TIMESTAMP"),
            (r#"{"_id": ["INT"]}"#, "expected a scalar _id"),
            (r#"{"_id": "INT", "a": {"b": "INT"}, "a_b": "INT"}"#, "\"a_b\" in table c is taken"),
            (r#"{"_id": "INT", "a": "NUMBER"}"#, "expected a type name"),
            (&long, "too long"),
        ];
        for (schema, problem) in cases {
            let error = Mapping::new("c", schema).unwrap_err().to_string();
            assert!(error.contains(problem), "{schema}: {error}");
        }
    }
}
