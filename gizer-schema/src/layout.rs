//! The tables that follow from a schema: the classic mapping.
//!
//! A collection is a root table; each array is a child table. [`Layout`] holds the tables in path order (a parent
//! stands before its children) and beside them the [`DocumentPlan`]: the tree of the schema in which every leaf
//! knows its column and every array its table. DDL, COPY and comparison read the tables; flattening and rebuilding
//! walk the plan.

use thiserror::Error;

use crate::model::{Dialect, Field, Fields, Node, ScalarType, Schema};
use crate::names::{Taken, join, part, singular};

/// Index of a table in [`Layout::tables`]; 0 is the root table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub usize);

/// Index of a column in [`Table::columns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId(pub usize);

/// Index of a path in [`Layout::paths`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub usize);

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

impl ColumnType {
    /// The type in DDL.
    pub fn pg_name(self) -> &'static str {
        match self {
            ColumnType::Text => "TEXT",
            ColumnType::Integer => "INTEGER",
            ColumnType::BigInt => "BIGINT",
            ColumnType::Double => "FLOAT8",
            ColumnType::Boolean => "BOOLEAN",
            ColumnType::TimestampTz => "TIMESTAMP WITH TIME ZONE",
            ColumnType::SmallInt => "SMALLINT",
            ColumnType::ObjectId | ColumnType::Key => "TEXT",
            ColumnType::Numeric => "NUMERIC",
            ColumnType::Bytea => "BYTEA",
            ColumnType::Uuid => "UUID",
            ColumnType::Json => "JSONB",
            ColumnType::List(element) => match ColumnType::from(element) {
                ColumnType::Text | ColumnType::ObjectId | ColumnType::Key => "TEXT[]",
                ColumnType::Integer => "INTEGER[]",
                ColumnType::BigInt => "BIGINT[]",
                ColumnType::Double => "FLOAT8[]",
                ColumnType::Boolean => "BOOLEAN[]",
                ColumnType::TimestampTz => "TIMESTAMP WITH TIME ZONE[]",
                ColumnType::SmallInt => "SMALLINT[]",
                ColumnType::Numeric => "NUMERIC[]",
                ColumnType::Bytea => "BYTEA[]",
                ColumnType::Uuid => "UUID[]",
                // No schema file gets so far: it cannot say that an array is of arrays.
                ColumnType::Json | ColumnType::List(_) => "JSONB[]",
            },
        }
    }

    /// Whether its PostgreSQL type is `text`, which keys compare by `COLLATE "C"`.
    pub fn is_text(self) -> bool {
        matches!(self, ColumnType::Text | ColumnType::ObjectId | ColumnType::Key)
    }

    /// The type in schema files and reports.
    pub fn schema_name(self) -> &'static str {
        match self {
            ColumnType::Text => "STRING",
            ColumnType::Integer => "INT",
            ColumnType::BigInt => "BIGINT",
            ColumnType::Double => "DOUBLE",
            ColumnType::Boolean => "BOOLEAN",
            ColumnType::TimestampTz => "TIMESTAMP",
            ColumnType::SmallInt => "TINYINT",
            ColumnType::ObjectId => "OBJECTID",
            ColumnType::Numeric => "DECIMAL",
            ColumnType::Bytea => "BINARY",
            ColumnType::Uuid => "UUID",
            ColumnType::Json => "JSON",
            ColumnType::Key => "KEY",
            ColumnType::List(_) => "ARRAY",
        }
    }
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

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnSource {
    /// The value at this path; of an array of scalars, its elements.
    Field(PathId),
    /// The root's key, in a child table.
    RootKey,
    /// The position in an enclosing array, from 1: how many of the table's path's arrays are outside of it.
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

/// The table of a collection or of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name in PostgreSQL, without the schema.
    pub name: String,
    /// The path of its array; `None` for the root table.
    pub path: Option<PathId>,
    /// The table of the enclosing array, or the root table; `None` for the root table itself.
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

    /// The columns that identify a row: the root key, then the positions.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        let data = self.data_columns();
        std::iter::once(&self.columns[self.key.0]).chain(&self.columns[data..data + self.positions])
    }
}

/// A path of the schema, as reports name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// Field names from the root, without positions: `comments`, `items`, `data`.
    pub fields: Vec<String>,
    /// What the schema expects there: the name of a type, `DOCUMENT` or `ARRAY`.
    pub expected: &'static str,
}

impl PathInfo {
    /// The field names joined by dots: `comments.items.data`.
    pub fn dotted(&self) -> String {
        self.fields.join(".")
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
pub enum LayoutError {
    /// Nothing identifies a document.
    #[error(
        "the schema of {collection} has neither a field _id nor a field id: expected one that identifies a document"
    )]
    NoKey {
        /// The collection.
        collection: String,
    },
    /// The key is of a kind that the classic mapping has no column for.
    #[error("{collection}.{field} is {came} in the schema: expected one value of a type, or an ObjectId")]
    UnusableKey {
        /// The collection.
        collection: String,
        /// `_id` or `id`.
        field: &'static str,
        /// What it is: `a document` or `an array`.
        came: &'static str,
    },
    /// PostgreSQL takes at most 32 columns in an index ("Limits"): the root key and 31 positions.
    #[error(
        "table {table} is {positions} arrays deep: expected at most {MAX_POSITIONS}, because its key has a column for each"
    )]
    TooDeep {
        /// The table.
        table: String,
        /// Arrays from the root.
        positions: usize,
    },
    /// A name that the schema file chose cannot be had.
    #[error("{collection}: the name {name:?} of {path} is taken, longer than 63 bytes, or empty")]
    NameTaken {
        /// The collection.
        collection: String,
        /// The name.
        name: String,
        /// Whose it should be.
        path: String,
    },
    /// The type is only for `_id`.
    #[error("{collection}.{path} is KEY in the schema: only _id can be")]
    MisplacedKey {
        /// The collection.
        collection: String,
        /// Where it stands.
        path: String,
    },
    /// PostgreSQL has a limit of 1,600 columns a table ("Limits" in its documentation).
    #[error("table {table} would have {columns} columns: PostgreSQL takes at most {MAX_COLUMNS}")]
    TooManyColumns {
        /// The table.
        table: String,
        /// How many columns follow from the schema.
        columns: usize,
    },
}

/// Most columns PostgreSQL allows in an index, without the root key.
const MAX_POSITIONS: usize = 31;

/// Most columns PostgreSQL allows in a table.
const MAX_COLUMNS: usize = 1_600;

impl Layout {
    /// Works out the tables of a schema.
    ///
    /// # Errors
    /// [`LayoutError`] if nothing can serve as the root key, or a table would have more columns than PostgreSQL takes.
    pub fn new(schema: &Schema) -> Result<Layout, LayoutError> {
        let (source, ty) = root_key(schema)?;
        let classic = schema.dialect == Dialect::Classic;
        // `_id` and `id` both become `id`.
        let pair = classic && schema.fields[source.field()].node.is_object_id_pair();
        let key_field = if pair { "id_oid" } else { "id" };
        let mut build = Build {
            collection: &schema.collection,
            classic,
            child_key: join([schema.collection.as_str(), key_field]),
            key_type: ty,
            tables: Vec::new(),
            table_names: Taken::default(),
            paths: Vec::new(),
        };
        let root_name = build.table_names.take(&schema.collection, &schema.collection);
        build.tables.push(DraftTable::new(root_name, None, None));
        build.reserve_table_names(&schema.fields, &mut Vec::new())?;
        let mut trail = Trail::default();
        let mut document = build.document(TableId(0), &schema.fields, &mut trail);
        build.check_keys(&document)?;

        let key_plan = document.fields.iter().find(|f| f.name == source.field()).map(|f| &f.plan);
        let key_column = match key_plan {
            Some(Plan::Column(column) | Plan::ObjectIdPair { oid: column, .. }) => *column,
            _ => unreachable!("root_key() has checked that the key is a value or an ObjectId"),
        };
        let mut tables = Vec::new();
        let mut orders = Vec::new();
        for draft in std::mem::take(&mut build.tables) {
            let (table, order) = draft.finish(&build, key_column)?;
            tables.push(table);
            orders.push(order);
        }
        renumber(&mut document, 0, &orders);
        if let Some(table) = tables.iter().find(|t| t.columns.len() > MAX_COLUMNS) {
            return Err(LayoutError::TooManyColumns { table: table.name.clone(), columns: table.columns.len() });
        }
        if let Some(table) = tables.iter().find(|t| t.positions > MAX_POSITIONS) {
            return Err(LayoutError::TooDeep { table: table.name.clone(), positions: table.positions });
        }
        Ok(Layout {
            collection: schema.collection.clone(),
            dialect: schema.dialect,
            key: Key { source, ty },
            tables,
            document,
            paths: build.paths,
        })
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

fn root_key(schema: &Schema) -> Result<(KeySource, ColumnType), LayoutError> {
    let source = [KeySource::UnderscoreId, KeySource::Id]
        .into_iter()
        .find(|source| schema.fields.contains_key(source.field()))
        .ok_or_else(|| LayoutError::NoKey { collection: schema.collection.clone() })?;
    let unusable =
        |came| LayoutError::UnusableKey { collection: schema.collection.clone(), field: source.field(), came };
    match &schema.fields[source.field()].node {
        Node::Scalar(scalar) => Ok((source, (*scalar).into())),
        pair if schema.dialect == Dialect::Classic && pair.is_object_id_pair() => Ok((source, ColumnType::Text)),
        Node::Document(_) => Err(unusable("a document")),
        Node::Ignored => Err(unusable("ignored")),
        Node::Array(_) | Node::NestedTable(_) | Node::List(_) => Err(unusable("an array")),
    }
}

/// Where the walk through the schema is.
#[derive(Default)]
struct Trail<'a> {
    /// All field names from the root.
    path: Vec<&'a str>,
    /// Whether the name at the same place in `path` is an array's.
    arrays: Vec<bool>,
    /// How many names of `path` lie outside of the current table.
    outside: usize,
    /// Path ids of the enclosing arrays, outermost first.
    positions: Vec<PathId>,
}

struct DraftTable {
    name: String,
    path: Option<PathId>,
    parent: Option<TableId>,
    /// In path order.
    columns: Vec<DraftColumn>,
    /// Paths of the enclosing arrays, the table's own last; empty for the root table.
    positions: Vec<PathId>,
}

struct DraftColumn {
    wanted: String,
    /// Whether the schema file says so, and not the mapping.
    chosen: bool,
    path: PathId,
    ty: ColumnType,
}

impl DraftTable {
    fn new(name: String, path: Option<PathId>, parent: Option<TableId>) -> Self {
        DraftTable { name, path, parent, columns: Vec::new(), positions: Vec::new() }
    }

    /// Gives the columns their names and their order; returns also where each drafted column went.
    fn finish(self, build: &Build<'_>, root_key_column: ColumnId) -> Result<(Table, Vec<ColumnId>), LayoutError> {
        let mut taken = Taken::with_system_columns();
        let is_root = self.parent.is_none();
        let mut tail = self.positions(build, &mut taken);
        let positions = tail.len();
        if !build.classic {
            let name = taken.take("_extra", "\0extra");
            tail.push(Column { name, ty: ColumnType::Json, source: ColumnSource::Extra });
        }
        let key = (!is_root).then(|| Column {
            name: taken.take(&build.child_key, "_id"),
            ty: build.key_type,
            source: ColumnSource::RootKey,
        });
        let drafts = self.columns.len();
        let mut head: Vec<(usize, Column)> = Vec::with_capacity(drafts + 1);
        // What was chosen comes first: a mapped name gives way to it.
        let (chosen, mapped): (Vec<_>, Vec<_>) = self.columns.into_iter().enumerate().partition(|(_, d)| d.chosen);
        for (draft, DraftColumn { wanted, chosen, path, ty }) in chosen.into_iter().chain(mapped) {
            let name = taken.take(&wanted, &build.paths[path.0].identity());
            if chosen && name != wanted {
                return Err(build.name_taken(wanted, path));
            }
            head.push((draft, Column { name, ty, source: ColumnSource::Field(path) }));
        }
        head.extend(key.map(|key| (drafts, key)));
        head.sort_by(|a, b| a.1.name.cmp(&b.1.name));
        let mut order = vec![ColumnId(0); drafts + 1];
        for (at, (draft, _)) in head.iter().enumerate() {
            order[*draft] = ColumnId(at);
        }
        let key = if is_root { order[root_key_column.0] } else { order[drafts] };
        let columns = head.into_iter().map(|(_, column)| column).chain(tail).collect();
        let (name, path, parent) = (self.name, self.path, self.parent);
        let table = Table { name, path, parent, columns, key, positions, has_extra: !build.classic };
        Ok((table, order))
    }

    fn positions(&self, build: &Build<'_>, taken: &mut Taken) -> Vec<Column> {
        let mut columns = Vec::new();
        for (depth, path) in self.positions.iter().enumerate() {
            let array = &build.paths[path.0];
            let own = depth + 1 == self.positions.len();
            let wanted = if own { "idx".to_owned() } else { position_name(build.collection, array) };
            let name = taken.take(&wanted, &format!("{}\0[]", array.identity()));
            columns.push(Column { name, ty: ColumnType::BigInt, source: ColumnSource::Position(depth) });
        }
        columns
    }
}

/// `posts_comments_items_idx`: the collection and the whole path, unshortened.
fn position_name(collection: &str, array: &PathInfo) -> String {
    join([collection].into_iter().chain(array.fields.iter().map(|name| part(name))).chain(["idx"]))
}

struct Build<'s> {
    collection: &'s str,
    classic: bool,
    child_key: String,
    key_type: ColumnType,
    tables: Vec<DraftTable>,
    table_names: Taken,
    paths: Vec<PathInfo>,
}

impl<'s> Build<'s> {
    /// Gives away the names of tables that the schema file chose, before any that the mapping wants.
    fn reserve_table_names(&mut self, fields: &'s Fields, path: &mut Vec<&'s str>) -> Result<(), LayoutError> {
        for (name, field) in fields {
            path.push(name);
            if let (Some(chosen), Node::Array(_)) = (&field.name, &field.node)
                && self.table_names.take(chosen, "") != *chosen
            {
                let (collection, name) = (self.collection.to_owned(), chosen.clone());
                return Err(LayoutError::NameTaken { collection, name, path: path.join(".") });
            }
            let mut node = &field.node;
            while let Node::Array(element) | Node::NestedTable(element) = node {
                node = &element.node;
            }
            if let Node::Document(inner) = node {
                self.reserve_table_names(inner, path)?;
            }
            path.pop();
        }
        Ok(())
    }

    /// `KEY` can only be the `_id` of the document itself.
    fn check_keys(&self, document: &DocumentPlan) -> Result<(), LayoutError> {
        let id = document.fields.iter().find(|field| field.name == "_id").map(|field| field.path);
        let columns = self.tables.iter().flat_map(|table| &table.columns);
        match columns.into_iter().find(|column| column.ty == ColumnType::Key && Some(column.path) != id) {
            None => Ok(()),
            Some(column) => {
                let path = self.paths[column.path.0].dotted();
                Err(LayoutError::MisplacedKey { collection: self.collection.to_owned(), path })
            }
        }
    }

    fn name_taken(&self, name: String, path: PathId) -> LayoutError {
        LayoutError::NameTaken { collection: self.collection.to_owned(), name, path: self.paths[path.0].dotted() }
    }

    fn document(&mut self, table: TableId, fields: &'s Fields, trail: &mut Trail<'s>) -> DocumentPlan {
        let mut plans = Vec::with_capacity(fields.len());
        for (name, field) in fields {
            trail.path.push(name);
            trail.arrays.push(matches!(field.node, Node::Array(_)));
            let path = self.path(trail, &field.node);
            let plan = match &field.node {
                Node::Array(element) => self.array(table, path, element, field.name.as_deref(), trail),
                _ => self.value(table, path, field, trail),
            };
            plans.push(FieldPlan { name: name.clone(), path, plan });
            trail.path.pop();
            trail.arrays.pop();
        }
        DocumentPlan { fields: plans }
    }

    /// A field that is no array, or an element of an array.
    fn value(&mut self, table: TableId, path: PathId, field: &'s Field, trail: &mut Trail<'s>) -> Plan {
        let chosen = field.name.as_deref();
        match &field.node {
            Node::Scalar(scalar) => Plan::Column(self.column(table, path, (*scalar).into(), chosen, trail)),
            Node::Document(fields) => {
                let document = self.document(table, fields, trail);
                match document.fields.as_slice() {
                    // In byte order of the names: `bsontype`, `oid`.
                    [FieldPlan { plan: Plan::Column(bsontype), .. }, FieldPlan { plan: Plan::Column(oid), .. }]
                        if self.classic && field.node.is_object_id_pair() =>
                    {
                        Plan::ObjectIdPair { oid: *oid, bsontype: *bsontype, fields: document }
                    }
                    _ => Plan::Document(document),
                }
            }
            // An array directly in an array is kept as JSON in the value column of the outer one.
            Node::Array(_) => Plan::Column(self.column(table, path, ColumnType::Json, chosen, trail)),
            Node::List(scalar) => Plan::Column(self.column(table, path, ColumnType::List(*scalar), chosen, trail)),
            Node::Ignored => Plan::Ignored,
            Node::NestedTable(element) => {
                // It has no name of its own, and goes by that of what is in its outer array.
                trail.path.push("item");
                trail.arrays.push(true);
                let path = self.path(trail, &field.node);
                let plan = self.array(table, path, element, chosen, trail);
                trail.path.pop();
                trail.arrays.pop();
                plan
            }
        }
    }

    fn array(
        &mut self,
        parent: TableId,
        path: PathId,
        element: &'s Field,
        chosen: Option<&str>,
        trail: &mut Trail<'s>,
    ) -> Plan {
        let name = match chosen {
            Some(chosen) => chosen.to_owned(),
            // Collections share a schema, so that the hash is also of the collection's name.
            None => {
                let identity = format!("{}\0{}", self.collection, self.paths[path.0].identity());
                self.table_names.take(&table_name(self.collection, trail), &identity)
            }
        };
        let table = TableId(self.tables.len());
        let mut draft = DraftTable::new(name, Some(path), Some(parent));
        trail.positions.push(path);
        draft.positions.clone_from(&trail.positions);
        self.tables.push(draft);

        let outside = std::mem::replace(&mut trail.outside, trail.path.len());
        let element = self.value(table, path, element, trail);
        trail.outside = outside;
        trail.positions.pop();
        Plan::Table { table, element: Box::new(element) }
    }

    fn column(
        &mut self,
        table: TableId,
        path: PathId,
        ty: ColumnType,
        chosen: Option<&str>,
        trail: &Trail<'_>,
    ) -> ColumnId {
        let inside = &trail.path[trail.outside..];
        // No name inside this table: the value column of an array of scalars has the array's own name.
        let names = if inside.is_empty() { &trail.path[trail.path.len() - 1..] } else { inside };
        let mapped = || join(names.iter().map(|name| part(name)));
        let wanted = chosen.map_or_else(mapped, str::to_owned);
        let columns = &mut self.tables[table.0].columns;
        columns.push(DraftColumn { wanted, chosen: chosen.is_some(), path, ty });
        ColumnId(columns.len() - 1)
    }

    fn path(&mut self, trail: &Trail<'_>, node: &Node) -> PathId {
        let expected = match node {
            Node::Scalar(scalar) => scalar.name(),
            Node::Document(_) => "DOCUMENT",
            Node::Array(_) | Node::NestedTable(_) | Node::List(_) => "ARRAY",
            Node::Ignored => "NOTHING",
        };
        self.paths.push(PathInfo { fields: trail.path.iter().map(|&name| name.to_owned()).collect(), expected });
        PathId(self.paths.len() - 1)
    }
}

/// `post_comment_items`: every array name but the last, the collection's among them, in its singular.
fn table_name(collection: &str, trail: &Trail<'_>) -> String {
    let last = trail.path.len() - 1;
    let names = trail.path.iter().enumerate().map(|(i, name)| {
        let name = part(name);
        if i < last && trail.arrays[i] { singular(name) } else { name.to_owned() }
    });
    let names: Vec<String> = std::iter::once(singular(collection)).chain(names).collect();
    join(names.iter().map(String::as_str))
}

/// Replaces drafted column numbers by final ones.
fn renumber(document: &mut DocumentPlan, table: usize, orders: &[Vec<ColumnId>]) {
    for field in &mut document.fields {
        renumber_plan(&mut field.plan, table, orders);
    }
}

fn renumber_plan(plan: &mut Plan, table: usize, orders: &[Vec<ColumnId>]) {
    match plan {
        Plan::Ignored => {}
        Plan::Column(column) => *column = orders[table][column.0],
        Plan::ObjectIdPair { oid, bsontype, fields } => {
            *oid = orders[table][oid.0];
            *bsontype = orders[table][bsontype.0];
            renumber(fields, table, orders);
        }
        Plan::Document(document) => renumber(document, table, orders),
        Plan::Table { table, element } => renumber_plan(element, table.0, orders),
    }
}
