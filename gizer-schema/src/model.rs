//! The schema of a collection: a tree of fields with types and policies.

use std::collections::BTreeMap;

use crate::column_type::ScalarType;

/// Fields of a document by name, in byte order of their names ("path order").
pub type Fields = BTreeMap<String, Field>;

/// A field, or the elements of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// What it is, and what becomes of it.
    pub node: Node,
    /// A chosen name: of a value's column, or of an array's table. Without one the classic mapping names it.
    pub name: Option<String>,
    /// What inference saw, by the names of reports, where it was not all of one kind. For people only.
    pub seen: BTreeMap<String, u64>,
    /// Whether a person has pinned its type: it does not widen when the schema grows.
    pub pinned: bool,
}

impl From<Node> for Field {
    fn from(node: Node) -> Field {
        Field { node, name: None, seen: BTreeMap::new(), pinned: false }
    }
}

impl From<ScalarType> for Field {
    fn from(scalar: ScalarType) -> Field {
        Node::Scalar(scalar).into()
    }
}

/// What a field is, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A value that goes into one column.
    Scalar(ScalarType),
    /// A nested document: its fields become columns of the same table.
    ///
    /// In the classic dialect the two fields `oid: STRING` and `bsontype: INT` stand for an ObjectId in two columns
    /// (see [`Node::is_object_id_pair`]).
    Document(Fields),
    /// An array: its elements become rows of a child table. Directly in an array, it is kept as JSON in the value
    /// column of the outer one.
    Array(Box<Field>),
    /// An array directly in an array that becomes rows of a table of its own.
    NestedTable(Box<Field>),
    /// An array of scalars in one column, as a PostgreSQL array.
    List(ScalarType),
    /// A document whose field names are data: its entries become rows of a child table, with the name as their key.
    Map(Box<Field>),
    /// Not copied at all, on request.
    Ignored,
}

impl Node {
    /// What reports say is expected: the name of a type, `DOCUMENT`, `ARRAY` or `MAP`.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Node::Scalar(scalar) => scalar.name(),
            Node::Document(_) => "DOCUMENT",
            Node::Array(_) | Node::NestedTable(_) | Node::List(_) => "ARRAY",
            Node::Map(_) => "MAP",
            Node::Ignored => "NOTHING",
        }
    }

    /// Whether this is the classic form of an ObjectId: `{"oid": "STRING", "bsontype": "INT"}`.
    pub fn is_object_id_pair(&self) -> bool {
        let is = |field: Option<&Field>, ty| field.is_some_and(|field| field.node == Node::Scalar(ty));
        match self {
            Node::Document(fields) => {
                fields.len() == 2
                    && is(fields.get("oid"), ScalarType::String)
                    && is(fields.get("bsontype"), ScalarType::Int)
            }
            _ => false,
        }
    }

    /// The classic form of an ObjectId.
    pub fn object_id_pair() -> Node {
        Node::Document(Fields::from([
            ("oid".to_owned(), ScalarType::String.into()),
            ("bsontype".to_owned(), ScalarType::Int.into()),
        ]))
    }
}

/// In which dialect a schema is written, and so what becomes of values that do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The classic tool's: what does not fit is NULL, and counted.
    Classic,
    /// gizer's own: every table has a column `_extra`, in which everything is kept that does not fit.
    Gizer {
        /// Whether a number that is stored in a column of another numeric type keeps its own type in `_extra`.
        exact_types: bool,
    },
}

impl Dialect {
    /// gizer's dialect as `infer` writes it.
    pub const NEW: Dialect = Dialect::Gizer { exact_types: false };
}

/// The schema of one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// Name of the collection, without its database.
    pub collection: String,
    /// How it is written.
    pub dialect: Dialect,
    /// A chosen name of the root table. Without one it is the collection's own.
    pub table: Option<String>,
    /// The fields of its documents.
    pub fields: Fields,
}
