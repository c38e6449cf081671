//! The tables that follow from a schema: the classic mapping.
//!
//! A collection is a root table; each array and each map is a child table. [`Layout`] holds the tables in path order (a parent
//! comes before its children) and with them the [`DocumentPlan`]: the tree of the schema in which every leaf
//! knows its column, and every array and map its table. DDL, COPY and comparison read the tables; flattening and rebuilding
//! walk the plan.

mod build;
mod growth;
mod likely_maps;
mod prefix;

use thiserror::Error;

use crate::column_type::ColumnType;
use crate::model::{Dialect, Schema};
use crate::names::{MAX_IDENTIFIER_BYTES, shortened};

pub use growth::{Growth, NoGrowth};
pub use likely_maps::LikelyMap;

/// Index of a table in [`Layout::tables`]; 0 is the root table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub usize);

/// Index of a column in [`Table::columns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId(pub usize);

/// Index of a path in [`Layout::paths`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub usize);

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnSource {
    /// The value at this path; of an array of scalars, its elements.
    Field(PathId),
    /// The root's key, in a child table.
    RootKey,
    /// The position in an enclosing array, from 1, or the key of an entry of an enclosing map: how many of the arrays and
    /// maps of the table's path are outside of it.
    Position(usize),
    /// Everything of the row that has no column of its own, or does not fit it.
    Extra,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name in PostgreSQL.
    pub name: String,
    /// Its type.
    pub ty: ColumnType,
    /// What it holds.
    pub source: ColumnSource,
}

/// The table of a collection, of an array or of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name in PostgreSQL, without the schema.
    pub name: String,
    /// The path of its array or map; `None` for the root table.
    pub path: Option<PathId>,
    /// The table of the enclosing array or map, or the root table; `None` for the root table itself.
    pub parent: Option<TableId>,
    /// Columns in their order: data and root key by name, then positions from the outermost to `idx`, then `_extra`.
    pub columns: Vec<Column>,
    /// Where the root's key is.
    pub key: ColumnId,
    /// How many columns are positions: the depth of the table below the root.
    pub positions: usize,
    /// Whether the last column is `_extra`.
    pub has_extra: bool,
}

impl Table {
    /// How many columns there are before the positions: data and the root key.
    pub fn data_columns(&self) -> usize {
        self.columns.len() - self.positions - usize::from(self.has_extra)
    }

    /// The columns of its positions, outermost first: `bigint` of an array, `text` of a map.
    pub fn position_columns(&self) -> &[Column] {
        let data = self.data_columns();
        &self.columns[data..data + self.positions]
    }

    /// Whether a position is the key of a map: its table is that of a map or below one.
    pub fn has_map_keys(&self) -> bool {
        self.position_columns().iter().any(|column| column.ty == ColumnType::Text)
    }

    /// The columns that identify a row: the root key, then the positions.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        std::iter::once(&self.columns[self.key.0]).chain(self.position_columns())
    }
}

/// A path of the schema, as reports name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// Field names from the root, without positions: `comments`, `items`, `data`.
    pub fields: Vec<String>,
    /// Whether it is that of the entries of the map with this path.
    pub is_entry: bool,
    /// What the schema expects there: the name of a type, `DOCUMENT`, `ARRAY` or `MAP`.
    pub expected: &'static str,
}

impl PathInfo {
    /// The field names joined by dots: `comments.items.data`; of a map's entries `scores{}`.
    pub fn dotted(&self) -> String {
        self.fields.join(".") + if self.is_entry { "{}" } else { "" }
    }

    /// What the path's hash is made of: no field name holds a zero, so that no two paths have one identity.
    fn identity(&self) -> String {
        self.fields.join("\0")
    }
}

/// Which field identifies a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource {
    /// `_id`: unique, never missing. The only one with which changes can be followed.
    UnderscoreId,
    /// `id`, in a schema without `_id`: neither unique nor always there, as far as MongoDB is concerned.
    Id,
}

impl KeySource {
    /// The field's name in documents.
    pub fn field(self) -> &'static str {
        match self {
            KeySource::UnderscoreId => "_id",
            KeySource::Id => "id",
        }
    }
}

/// The root key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The field it comes from.
    pub source: KeySource,
    /// Type of its column in all tables.
    pub ty: ColumnType,
}

/// What happens to the fields of one document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DocumentPlan {
    /// In byte order of their names.
    pub fields: Vec<FieldPlan>,
}

/// What happens to one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPlan {
    /// Its name in documents.
    pub name: String,
    /// Its path.
    pub path: PathId,
    /// What happens to it.
    pub plan: Plan,
}

/// What happens to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// It goes into a column of the current table.
    Column(ColumnId),
    /// An ObjectId in two columns; may also come as a sub-document `{oid, bsontype}`.
    ObjectIdPair {
        /// Column of the 24 hex digits.
        oid: ColumnId,
        /// Column of the constant 7.
        bsontype: ColumnId,
        /// The two as fields of a sub-document.
        fields: DocumentPlan,
    },
    /// Its fields go into columns of the current table.
    Document(DocumentPlan),
    /// It is not copied.
    Ignored,
    /// Its elements become rows of this table.
    Table {
        /// The child table.
        table: TableId,
        /// What happens to each element, in the child table.
        element: Box<Plan>,
    },
    /// Its entries become rows of this table, in byte order of their names.
    Map {
        /// The child table.
        table: TableId,
        /// The path of the entries.
        entries: PathId,
        /// What happens to the value of each entry, in the child table.
        value: Box<Plan>,
    },
}

/// What has a child table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    Array,
    Map,
}

impl Container {
    /// What stands in paths and names for an array or a map directly inside, which has no name.
    pub(crate) fn name_of_inner_table(self) -> &'static str {
        match self {
            Container::Array => "item",
            Container::Map => "value",
        }
    }

    /// The name of its own position, and the end of that in the tables below.
    fn position_name(self) -> &'static str {
        match self {
            Container::Array => "idx",
            Container::Map => "key",
        }
    }
}

/// The tables of a collection and how documents go into them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Name of the collection.
    pub collection: String,
    /// The dialect of its schema: what becomes of values that do not fit.
    pub dialect: Dialect,
    /// The root key.
    pub key: Key,
    /// Tables in path order; `[0]` is the root table.
    pub tables: Vec<Table>,
    /// How a document goes into the root table.
    pub document: DocumentPlan,
    /// All paths, for reports.
    pub paths: Vec<PathInfo>,
}

/// A schema from which no tables follow.
#[derive(Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum LayoutError {
    /// Nothing identifies a document.
    #[error(
        "the schema of {collection} has neither a field _id nor a field id: expected one that identifies a document"
    )]
    NoKey { collection: String },
    /// The key is of a kind that the classic mapping has no column for.
    #[error("{collection}.{field} is {came} in the schema: expected one value of a type, or an ObjectId")]
    UnusableKey { collection: String, field: &'static str, came: &'static str },
    /// PostgreSQL takes at most 32 columns in an index ("Limits"): the root key and 31 positions.
    #[error(
        "table {table} is {positions} arrays or maps deep: expected at most {MAX_POSITIONS}, because its key has a column for each"
    )]
    TooDeep { table: String, positions: usize },
    /// A name that the schema file chose cannot be had.
    #[error(
        "{collection}: the name {:?} of {} is taken, longer than 63 bytes, empty, or holds a NUL",
        shortened(name),
        shortened(path)
    )]
    NameTaken { collection: String, name: String, path: String },
    /// The type is only for `_id`.
    #[error("{collection}.{} is KEY in the schema: only _id can be", shortened(path))]
    MisplacedKey { collection: String, path: String },
    /// PostgreSQL has a limit of 1,600 columns a table ("Limits" in its documentation).
    #[error("table {table} would have {columns} columns: PostgreSQL takes at most {MAX_COLUMNS}")]
    TooManyColumns { table: String, columns: usize },
    /// A prefix that is empty, so that the tables would be those of the collection itself, or holds a NUL.
    #[error(
        "the prefix {:?} cannot begin names of tables: expected some characters, and no NUL among them",
        shortened(prefix)
    )]
    UnusablePrefix { prefix: String },
    /// PostgreSQL would cut the name, and two names might become one.
    #[error(
        "with its prefix the table {} has a name of {bytes} bytes: expected at most {MAX_IDENTIFIER_BYTES}",
        shortened(table)
    )]
    PrefixTooLong { table: String, bytes: usize },
}

/// Most columns PostgreSQL allows in an index, without the root key.
pub(crate) const MAX_POSITIONS: usize = 31;

/// Most columns PostgreSQL allows in a table.
pub(crate) const MAX_COLUMNS: usize = 1_600;

impl Layout {
    /// Works out the tables of a schema.
    ///
    /// # Errors
    /// [`LayoutError`] if nothing can serve as the root key, or a table would have more columns than PostgreSQL takes.
    pub fn new(schema: &Schema) -> Result<Layout, LayoutError> {
        build::layout(schema)
    }

    /// The same tables under names that begin with `prefix`, for a copy next to the tables of the collection. Names of
    /// columns stay as they are, that of the root's key in child tables too, so that SQL needs other table names only.
    ///
    /// [`Layout::collection`] becomes `<prefix>$<collection>`, which no collection in MongoDB can be called: whatever is
    /// kept by the collection's name is kept apart from that of the collection itself, and of any other.
    ///
    /// # Errors
    /// [`LayoutError::PrefixTooLong`] if a name would have more than 63 bytes; [`LayoutError::UnusablePrefix`].
    pub fn prefixed(&self, prefix: &str) -> Result<Layout, LayoutError> {
        prefix::prefixed(self, prefix)
    }

    /// The table with this index.
    pub fn table(&self, id: TableId) -> &Table {
        &self.tables[id.0]
    }

    /// The path with this index.
    pub fn path(&self, id: PathId) -> &PathInfo {
        &self.paths[id.0]
    }
}
