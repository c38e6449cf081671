//! Types: what schema files call them, and the columns that they become.
//!
//! A new type begins here. What fits it is in `column_type.rs` of gizer-flatten, its PostgreSQL type in that of gizer-pg;
//! the compiler names the encoders and the oracles of gizer-verify.

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// The types a schema file knows; each has one PostgreSQL type.
///
/// Names are read in any case.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Display, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "UPPERCASE", ascii_case_insensitive)]
pub enum ScalarType {
    /// `STRING`: `text`.
    String,
    /// `INT`: `integer`.
    Int,
    /// `BIGINT` (also written `LONG`): `bigint`.
    #[strum(to_string = "BIGINT", serialize = "LONG")]
    BigInt,
    /// `DOUBLE`: `double precision`.
    Double,
    /// `BOOLEAN`: `boolean`.
    Boolean,
    /// `TIMESTAMP`: `timestamp with time zone`.
    Timestamp,
    /// `TINYINT`: `smallint`; in a schema file it says that only null was seen.
    TinyInt,
    /// `OBJECTID`: `text`, 24 lower-case hex digits. Not in the classic dialect, nor are all that follow.
    ObjectId,
    /// `DECIMAL`: `numeric`.
    Decimal,
    /// `BINARY`: `bytea`; binary of subtype 0.
    Binary,
    /// `UUID`: `uuid`; binary of subtype 4.
    Uuid,
    /// `JSON`: `jsonb`, canonical Extended JSON of any value.
    Json,
    /// `KEY`: `text`, any `_id` in its tagged form (see `TaggedKey` of gizer-flatten). Only for `_id`.
    Key,
}

impl ScalarType {
    /// All types, in the order in which messages list them: those of the classic dialect first.
    pub const ALL: &'static [ScalarType] = ScalarType::VARIANTS;

    /// The types of the classic dialect.
    pub const CLASSIC: &'static [ScalarType] = ScalarType::VARIANTS.split_at(ScalarType::ObjectId as usize).0;

    /// Whether the classic dialect has this type.
    pub fn is_classic(self) -> bool {
        ScalarType::CLASSIC.contains(&self)
    }

    /// The name in schema files and reports.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// What editors show next to the name.
    pub(crate) fn description(self) -> &'static str {
        match self {
            ScalarType::String => "text: a string that is UTF-8, without NUL",
            ScalarType::Int => "integer: a whole number from −2147483648 to 2147483647",
            ScalarType::BigInt => "bigint: a whole number of 64 bits",
            ScalarType::Double => "double precision: a double, bit for bit, or a number that a double holds exactly",
            ScalarType::Boolean => "boolean",
            ScalarType::Timestamp => "timestamp with time zone: a date from 4713 BC to 294276 AD",
            ScalarType::TinyInt => "smallint: only null was seen",
            ScalarType::ObjectId => "text: an ObjectId's 24 hex digits",
            ScalarType::Decimal => "numeric: decimal128 and other numbers",
            ScalarType::Binary => "bytea: binary of subtype 0",
            ScalarType::Uuid => "uuid: binary of subtype 4",
            ScalarType::Json => "jsonb: any value as canonical Extended JSON",
            ScalarType::Key => "text: any _id in its tagged form, also where ids are of several types; only for _id",
        }
    }

    /// Its PostgreSQL type in DDL, and that of an array of it.
    fn pg_names(self) -> (&'static str, &'static str) {
        match self {
            ScalarType::String | ScalarType::ObjectId | ScalarType::Key => ("TEXT", "TEXT[]"),
            ScalarType::Int => ("INTEGER", "INTEGER[]"),
            ScalarType::BigInt => ("BIGINT", "BIGINT[]"),
            ScalarType::Double => ("FLOAT8", "FLOAT8[]"),
            ScalarType::Boolean => ("BOOLEAN", "BOOLEAN[]"),
            ScalarType::Timestamp => ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP WITH TIME ZONE[]"),
            ScalarType::TinyInt => ("SMALLINT", "SMALLINT[]"),
            ScalarType::Decimal => ("NUMERIC", "NUMERIC[]"),
            ScalarType::Binary => ("BYTEA", "BYTEA[]"),
            ScalarType::Uuid => ("UUID", "UUID[]"),
            ScalarType::Json => ("JSONB", "JSONB[]"),
        }
    }
}

/// The times that `timestamptz` holds, in milliseconds since 1970-01-01 UTC. They go from 4713 BC to 294276 AD
/// (`MIN_TIMESTAMP` and `END_TIMESTAMP` of PostgreSQL's `datatype/timestamp.h`). BSON's dates go beyond.
pub const TIMESTAMP_MILLIS: std::ops::Range<i64> = -210_866_803_200_000..9_224_318_016_000_000;

/// PostgreSQL type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ColumnType {
    Text,
    Integer,
    BigInt,
    Double,
    Boolean,
    TimestampTz,
    SmallInt,
    /// `text`: an ObjectId's 24 lower-case hex digits.
    ObjectId,
    Numeric,
    /// `bytea`: binary of subtype 0.
    Bytea,
    /// `uuid`: binary of subtype 4.
    Uuid,
    /// `jsonb`: a sub-tree as canonical Extended JSON.
    Json,
    /// `text`: any `_id` in its tagged form.
    Key,
    /// A PostgreSQL array of the type's column type.
    List(ScalarType),
}

impl From<ScalarType> for ColumnType {
    fn from(scalar: ScalarType) -> Self {
        match scalar {
            ScalarType::String => ColumnType::Text,
            ScalarType::Int => ColumnType::Integer,
            ScalarType::BigInt => ColumnType::BigInt,
            ScalarType::Double => ColumnType::Double,
            ScalarType::Boolean => ColumnType::Boolean,
            ScalarType::Timestamp => ColumnType::TimestampTz,
            ScalarType::TinyInt => ColumnType::SmallInt,
            ScalarType::ObjectId => ColumnType::ObjectId,
            ScalarType::Decimal => ColumnType::Numeric,
            ScalarType::Binary => ColumnType::Bytea,
            ScalarType::Uuid => ColumnType::Uuid,
            ScalarType::Json => ColumnType::Json,
            ScalarType::Key => ColumnType::Key,
        }
    }
}

impl ColumnType {
    /// The type in a schema file; `None` of an array in one column.
    pub(crate) fn scalar(self) -> Option<ScalarType> {
        ScalarType::ALL.iter().copied().find(|scalar| ColumnType::from(*scalar) == self)
    }

    /// The type in DDL.
    pub fn pg_name(self) -> &'static str {
        match self {
            ColumnType::List(element) => element.pg_names().1,
            other => other.scalar().map_or("", |scalar| scalar.pg_names().0),
        }
    }

    /// The type as PostgreSQL's `format_type` names it.
    pub fn catalog_name(self) -> String {
        self.pg_name().to_lowercase().replace("float8", "double precision")
    }

    /// Whether its PostgreSQL type is `text`, which keys compare by `COLLATE "C"`.
    pub fn is_text(self) -> bool {
        matches!(self, ColumnType::Text | ColumnType::ObjectId | ColumnType::Key)
    }

    /// The type in schema files and reports.
    pub fn schema_name(self) -> &'static str {
        self.scalar().map_or("ARRAY", ScalarType::name)
    }
}
