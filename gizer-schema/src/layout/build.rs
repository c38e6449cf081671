//! Working out the tables of a schema: names, columns and their order.

use super::{
    Column, ColumnId, ColumnSource, ColumnType, Container, DocumentPlan, FieldPlan, Key, KeySource, Layout,
    LayoutError, MAX_COLUMNS, MAX_POSITIONS, PathId, PathInfo, Plan, Table, TableId,
};
use crate::model::{Dialect, Field, Fields, Node, Schema};
use crate::names::{Taken, join, part, singular};

pub(super) fn layout(schema: &Schema) -> Result<Layout, LayoutError> {
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
    let root_name = build.root_name(schema.table.as_deref())?;
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
        Node::Map(_) => Err(unusable("a map")),
        Node::Ignored => Err(unusable("ignored")),
        Node::Array(_) | Node::NestedTable(_) | Node::List(_) => Err(unusable("an array")),
    }
}

/// Where the walk through the schema is.
#[derive(Default)]
struct Trail<'a> {
    /// All field names from the root.
    path: Vec<&'a str>,
    /// What the name at the same place in `path` is of, if of an array or a map.
    containers: Vec<Option<Container>>,
    /// How many names of `path` lie outside of the current table.
    outside: usize,
    /// The enclosing arrays and maps, outermost first.
    positions: Vec<(PathId, Container)>,
}

struct DraftTable {
    name: String,
    path: Option<PathId>,
    parent: Option<TableId>,
    /// In path order.
    columns: Vec<DraftColumn>,
    /// The enclosing arrays and maps, the table's own last; none for the root table.
    positions: Vec<(PathId, Container)>,
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
                return Err(build.name_taken(&wanted, &build.paths[path.0].dotted()));
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
        for (depth, (path, container)) in self.positions.iter().enumerate() {
            let path = &build.paths[path.0];
            let own = depth + 1 == self.positions.len();
            let last = container.position_name();
            let wanted = if own { last.to_owned() } else { position_name(build.collection, path, last) };
            let name = taken.take(&wanted, &format!("{}\0[]", path.identity()));
            let ty = match container {
                Container::Array => ColumnType::BigInt,
                Container::Map => ColumnType::Text,
            };
            columns.push(Column { name, ty, source: ColumnSource::Position(depth) });
        }
        columns
    }
}

/// `posts_comments_items_idx`: the collection and the whole path, unshortened.
fn position_name(collection: &str, path: &PathInfo, last: &str) -> String {
    join([collection].into_iter().chain(path.fields.iter().map(|name| part(name))).chain([last]))
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
    fn root_name(&mut self, chosen: Option<&str>) -> Result<String, LayoutError> {
        let wanted = chosen.unwrap_or(self.collection);
        let name = self.table_names.take(wanted, self.collection);
        if chosen.is_some_and(|chosen| chosen != name) {
            return Err(self.name_taken(wanted, "its root table"));
        }
        Ok(name)
    }

    /// Gives away the names of tables that the schema file chose, before any that the mapping wants.
    fn reserve_table_names(&mut self, fields: &'s Fields, path: &mut Vec<&'s str>) -> Result<(), LayoutError> {
        for (name, field) in fields {
            path.push(name);
            let (mut field, mut has_table) = (field, matches!(field.node, Node::Array(_)));
            while let Node::Array(inner) | Node::NestedTable(inner) | Node::Map(inner) = &field.node {
                has_table |= !matches!(field.node, Node::Array(_));
                if let Some(chosen) = field.name.as_ref().filter(|_| has_table)
                    && self.table_names.take(chosen, "") != *chosen
                {
                    return Err(self.name_taken(chosen, &path.join(".")));
                }
                // An array directly inside is JSON, unless the schema says otherwise.
                (field, has_table) = (inner, false);
            }
            if let Node::Document(inner) = &field.node {
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
        let mut keys = columns.filter(|column| column.ty == ColumnType::Key && Some(column.path) != id);
        let Some(column) = keys.next() else { return Ok(()) };
        let path = self.paths[column.path.0].dotted();
        Err(LayoutError::MisplacedKey { collection: self.collection.to_owned(), path })
    }

    fn name_taken(&self, name: &str, path: &str) -> LayoutError {
        let [collection, name, path] = [self.collection, name, path].map(str::to_owned);
        LayoutError::NameTaken { collection, name, path }
    }

    fn document(&mut self, table: TableId, fields: &'s Fields, trail: &mut Trail<'s>) -> DocumentPlan {
        let mut plans = Vec::with_capacity(fields.len());
        for (name, field) in fields {
            trail.path.push(name);
            let container = match &field.node {
                Node::Array(_) => Some(Container::Array),
                Node::Map(_) => Some(Container::Map),
                _ => None,
            };
            trail.containers.push(container);
            let path = self.path(trail, &field.node, false);
            let chosen = field.name.as_deref();
            let plan = match &field.node {
                Node::Array(inside) | Node::Map(inside) => self.container(table, path, inside, chosen, trail),
                _ => self.value(table, path, field, trail),
            };
            plans.push(FieldPlan { name: name.clone(), path, plan });
            trail.path.pop();
            trail.containers.pop();
        }
        DocumentPlan { fields: plans }
    }

    /// A field that is neither an array nor a map, or what is directly in one.
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
            // An array directly in an array or a map is kept as JSON in the value column of the outer one.
            Node::Array(_) => Plan::Column(self.column(table, path, ColumnType::Json, chosen, trail)),
            Node::List(scalar) => Plan::Column(self.column(table, path, ColumnType::List(*scalar), chosen, trail)),
            Node::Ignored => Plan::Ignored,
            Node::NestedTable(inside) | Node::Map(inside) => {
                // It has no name of its own, and goes by that of what is in its outer array or map.
                let outer = trail.positions.last().map_or(Container::Array, |(_, container)| *container);
                let is_map = matches!(field.node, Node::Map(_));
                trail.path.push(outer.name_of_inner_table());
                trail.containers.push(Some(if is_map { Container::Map } else { Container::Array }));
                let path = self.path(trail, &field.node, false);
                let plan = self.container(table, path, inside, chosen, trail);
                trail.path.pop();
                trail.containers.pop();
                plan
            }
        }
    }

    /// The child table of an array or a map, which is the last of the trail.
    fn container(
        &mut self,
        parent: TableId,
        path: PathId,
        inside: &'s Field,
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
        let container = trail.containers.last().copied().flatten().unwrap_or(Container::Array);
        trail.positions.push((path, container));
        draft.positions.clone_from(&trail.positions);
        self.tables.push(draft);

        let outside = std::mem::replace(&mut trail.outside, trail.path.len());
        let plan = match container {
            Container::Array => Plan::Table { table, element: Box::new(self.value(table, path, inside, trail)) },
            Container::Map => {
                let entries = self.path(trail, &inside.node, true);
                Plan::Map { table, entries, value: Box::new(self.value(table, entries, inside, trail)) }
            }
        };
        trail.outside = outside;
        trail.positions.pop();
        plan
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
        let mapped = || match (inside, trail.positions.last()) {
            // No name inside this table: the value column of an array of scalars has the array's own name.
            ([], Some((_, Container::Map))) => "value".to_owned(),
            ([], _) => join(trail.path.last().map(|name| part(name))),
            (names, _) => join(names.iter().map(|name| part(name))),
        };
        let wanted = chosen.map_or_else(mapped, str::to_owned);
        let columns = &mut self.tables[table.0].columns;
        columns.push(DraftColumn { wanted, chosen: chosen.is_some(), path, ty });
        ColumnId(columns.len() - 1)
    }

    fn path(&mut self, trail: &Trail<'_>, node: &Node, is_entry: bool) -> PathId {
        let fields = trail.path.iter().map(|&name| name.to_owned()).collect();
        self.paths.push(PathInfo { fields, is_entry, expected: node.type_name() });
        PathId(self.paths.len() - 1)
    }
}

/// `post_comment_items`: every name of an array or a map but the last, the collection's among them, in its singular.
fn table_name(collection: &str, trail: &Trail<'_>) -> String {
    let last = trail.path.len() - 1;
    let names = trail.path.iter().enumerate().map(|(i, name)| {
        let name = part(name);
        if i < last && trail.containers[i].is_some() { singular(name) } else { name.to_owned() }
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
        Plan::Table { table, element: inside } | Plan::Map { table, value: inside, .. } => {
            renumber_plan(inside, table.0, orders);
        }
    }
}
