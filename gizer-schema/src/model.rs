//! The schema of a collection: a tree of fields with types.

use std::collections::BTreeMap;
use std::fmt;

/// Fields of a document by name, in byte order of their names ("path order").
pub type Fields = BTreeMap<String, Node>;

/// What is known of one field, or of the elements of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A value that goes into one column.
    Scalar(ScalarType),
    /// A nested document: its fields become columns of the same table.
    ///
    /// The two fields `oid: STRING` and `bsontype: INT` stand for an ObjectId in two columns
    /// (see [`Node::is_object_id_pair`]).
    Document(Fields),
    /// An array: its elements become rows of a child table.
    Array(Box<Node>),
}

impl Node {
    /// Whether this is the classic form of an ObjectId: `{"oid": "STRING", "bsontype": "INT"}`.
    pub fn is_object_id_pair(&self) -> bool {
        match self {
            Node::Document(fields) => {
                fields.len() == 2
                    && fields.get("oid") == Some(&Node::Scalar(ScalarType::String))
                    && fields.get("bsontype") == Some(&Node::Scalar(ScalarType::Int))
            }
            _ => false,
        }
    }

    /// The classic form of an ObjectId.
    pub fn object_id_pair() -> Node {
        Node::Document(Fields::from([
            ("oid".to_owned(), Node::Scalar(ScalarType::String)),
            ("bsontype".to_owned(), Node::Scalar(ScalarType::Int)),
        ]))
    }
}

/// The types a schema file knows; each has one PostgreSQL type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScalarType {
    /// `STRING`: `text`.
    String,
    /// `INT`: `integer`.
    Int,
    /// `BIGINT` (also written `LONG`): `bigint`.
    BigInt,
    /// `DOUBLE`: `double precision`.
    Double,
    /// `BOOLEAN`: `boolean`.
    Boolean,
    /// `TIMESTAMP`: `timestamp with time zone`.
    Timestamp,
    /// `TINYINT`: `smallint`; in a schema file it says that only null was seen.
    TinyInt,
}

impl ScalarType {
    /// All types, in the order in which messages list them.
    pub const ALL: [ScalarType; 7] = [
        ScalarType::String,
        ScalarType::Int,
        ScalarType::BigInt,
        ScalarType::Double,
        ScalarType::Boolean,
        ScalarType::Timestamp,
        ScalarType::TinyInt,
    ];

    /// The name in schema files and reports.
    pub fn name(self) -> &'static str {
        match self {
            ScalarType::String => "STRING",
            ScalarType::Int => "INT",
            ScalarType::BigInt => "BIGINT",
            ScalarType::Double => "DOUBLE",
            ScalarType::Boolean => "BOOLEAN",
            ScalarType::Timestamp => "TIMESTAMP",
            ScalarType::TinyInt => "TINYINT",
        }
    }

    /// The type with this name, in any case; `LONG` is `BIGINT`.
    pub fn from_name(name: &str) -> Option<ScalarType> {
        if name.eq_ignore_ascii_case("LONG") {
            return Some(ScalarType::BigInt);
        }
        ScalarType::ALL.into_iter().find(|t| t.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for ScalarType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The schema of one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// Name of the collection, without its database.
    pub collection: String,
    /// The fields of its documents.
    pub fields: Fields,
}
