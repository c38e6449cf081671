//! Puts single faults into the tables of a collection, and says what has to be reported.
//!
//! It knows the catalog and SQL, and nothing of gizer: an oracle shares no code. Every row has one fault at most, so that each
//! has to be reported by itself; what changes nothing does not count.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use integration_tests::random::Random;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::cells::{CELL_FAULTS, CellFault, Parameter};
use super::rows::{Column, Difference, Row, Table, quoted, tables};

/// What a fault does.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// To one cell of a row.
    Cell(&'static CellFault),
    /// A row is gone.
    Deleted,
    /// A child row is there that the document does not have.
    LeftOver,
    /// A child row is there of a document that does not exist.
    Orphan,
    /// Two rows have changed places.
    Swapped,
    /// A child row has gone to a position that the document does not have.
    Moved,
    /// A row is there twice. Only where there is no primary key any more.
    Doubled,
    /// A document has no rows.
    DocumentMissing,
    /// A document that does not exist has rows.
    DocumentExtra,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Cell(fault) => fault.name,
            Kind::Deleted => "a row deleted",
            Kind::LeftOver => "a row left over",
            Kind::Orphan => "a row of no document",
            Kind::Swapped => "rows swapped",
            Kind::Moved => "a row moved",
            Kind::Doubled => "a row doubled",
            Kind::DocumentMissing => "a document missing",
            Kind::DocumentExtra => "a document that is none",
        }
    }

    /// Those that come between faults of cells.
    const OF_ROWS: [Kind; 7] = [
        Kind::Deleted,
        Kind::LeftOver,
        Kind::Orphan,
        Kind::Swapped,
        Kind::Moved,
        Kind::DocumentMissing,
        Kind::DocumentExtra,
    ];

    /// All but [`Kind::Doubled`].
    pub(crate) fn all() -> Vec<Kind> {
        CELL_FAULTS.iter().map(Kind::Cell).chain(Kind::OF_ROWS).collect()
    }
}

/// Gives keys that no document has, as SQL text; `None` where there is none.
pub(crate) type NewKey = fn(&mut Random) -> Option<String>;

/// Puts faults into the tables of one collection. Nobody else may write to the rows that it is for.
pub(crate) struct Injector {
    pub(crate) collection: String,
    pub(crate) tables: Vec<Table>,
    /// By table: what was there at the beginning, and may be touched.
    rows: Vec<Vec<Row>>,
    /// By table and key: where these rows are in the list.
    by_key: Vec<HashMap<String, Vec<usize>>>,
    /// Where there is a row, or was one: table, key, positions.
    taken: HashSet<(usize, String, Vec<i64>)>,
    /// Rows that have their fault.
    faulty: HashSet<(usize, usize)>,
    /// Keys of which any row has a fault.
    faulty_keys: BTreeSet<String>,
    /// Keys that no document has.
    unknown_keys: BTreeSet<String>,
    new_key: NewKey,
    random: Random,
    /// What has to be reported.
    pub(crate) expected: BTreeSet<Difference>,
    /// Faults by the name of their kind; with the column's type, if the kind is not of one type.
    pub(crate) counts: BTreeMap<String, u64>,
}

/// How often a row is drawn for a fault before it is given up.
const ATTEMPTS: usize = 40;

impl Injector {
    /// For all rows of a collection.
    pub(crate) async fn new(client: &Client, collection: &str, new_key: NewKey, random: Random) -> Injector {
        Injector::for_keys(client, collection, new_key, random, |_| true).await
    }

    /// For the rows with some keys alone.
    pub(crate) async fn for_keys(
        client: &Client,
        collection: &str,
        new_key: NewKey,
        random: Random,
        may_touch: impl Fn(&str) -> bool,
    ) -> Injector {
        client.batch_execute("SET TimeZone = 'UTC'").await.unwrap();
        let tables = tables(client, collection).await;
        let (mut rows, mut by_key, mut taken) = (Vec::new(), Vec::new(), HashSet::new());
        for (number, table) in tables.iter().enumerate() {
            let mut all = table.rows(client).await;
            // A seed meets the same rows again.
            all.sort_by(|one, other| (&one.key, &one.positions).cmp(&(&other.key, &other.positions)));
            taken.extend(all.iter().map(|row| (number, row.key.clone(), row.positions.clone())));
            all.retain(|row| may_touch(&row.key));
            let mut keys: HashMap<String, Vec<usize>> = HashMap::new();
            for (at, row) in all.iter().enumerate() {
                keys.entry(row.key.clone()).or_default().push(at);
            }
            rows.push(all);
            by_key.push(keys);
        }
        let collection = collection.to_owned();
        Injector {
            collection,
            tables,
            rows,
            by_key,
            taken,
            faulty: HashSet::new(),
            faulty_keys: BTreeSet::new(),
            unknown_keys: BTreeSet::new(),
            new_key,
            random,
            expected: BTreeSet::new(),
            counts: BTreeMap::new(),
        }
    }

    /// A fault of any kind, until one has come of it; `false` if the rows are used up.
    pub(crate) async fn any(&mut self, client: &Client) -> bool {
        for _ in 0..ATTEMPTS {
            let kind = match self.random.percent(65) {
                true => {
                    let at = self.random.below(CELL_FAULTS.len() as u64) as usize;
                    Kind::Cell(&CELL_FAULTS[at])
                }
                // Whole documents go easily, and nothing else can be done to them.
                false if self.random.percent(70) => self.random.pick(&Kind::OF_ROWS[..5]),
                false => self.random.pick(&Kind::OF_ROWS),
            };
            if self.inject(client, kind).await {
                return true;
            }
        }
        false
    }

    /// A fault of this kind somewhere; `false` if there is no place for it.
    pub(crate) async fn inject(&mut self, client: &Client, kind: Kind) -> bool {
        let done = match kind {
            Kind::Cell(fault) => self.cell(client, fault).await,
            Kind::Deleted => self.deleted(client).await,
            Kind::LeftOver => self.left_over(client).await,
            Kind::Orphan => self.orphan(client).await,
            Kind::Swapped => self.swapped(client).await,
            Kind::Moved => self.moved(client).await,
            Kind::Doubled => self.doubled(client).await,
            Kind::DocumentMissing => self.document_missing(client).await,
            Kind::DocumentExtra => self.document_extra(client).await,
        };
        if done && !matches!(kind, Kind::Cell(_)) {
            self.count(kind.name().to_owned());
        }
        done
    }

    /// What has to be reported of them: how many documents differ, in whatever way.
    pub(crate) fn documents(&self) -> u64 {
        self.faulty_keys.len() as u64
    }

    /// How many of these are none: rows of keys that no document has.
    pub(crate) fn unknown(&self) -> u64 {
        self.unknown_keys.len() as u64
    }

    fn count(&mut self, name: String) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// A row of any of these tables that has no fault yet.
    fn draw(&mut self, among: &[usize]) -> Option<(usize, usize)> {
        if among.is_empty() {
            return None;
        }
        (0..ATTEMPTS).find_map(|_| {
            let table = self.random.pick(among);
            let count = self.rows[table].len() as u64;
            let row = (count > 0).then(|| self.random.below(count) as usize)?;
            (!self.faulty.contains(&(table, row))).then_some((table, row))
        })
    }

    fn all_tables(&self) -> Vec<usize> {
        (0..self.tables.len()).collect()
    }

    fn child_tables(&self) -> Vec<usize> {
        (1..self.tables.len()).collect()
    }

    /// This row has its fault, and this is to be reported.
    fn expect(&mut self, (table, row): (usize, usize), fault: &'static str, column: Option<String>) {
        self.faulty.insert((table, row));
        let row = &self.rows[table][row];
        self.faulty_keys.insert(row.key.clone());
        let is_new = self.expected.insert(self.tables[table].difference(row, fault, column));
        assert!(is_new, "a row has two faults: {row:?}");
    }

    async fn cell(&mut self, client: &Client, fault: &CellFault) -> bool {
        // Types that have come up least go first, so that one that is rare is not left out.
        let fits = |column: &Column| fault.fits(column, true) || fault.fits(column, false);
        let columns = self.tables.iter().flat_map(|table| &table.columns).filter(|column| fits(column));
        let by_type: BTreeMap<&str, &Column> = columns.map(|column| (column.ty.as_str(), column)).collect();
        let count = |column: &Column| self.counts.get(&fault.name_for(column)).copied().unwrap_or(0);
        let mut types: Vec<(u64, String)> = by_type.values().map(|column| (count(column), column.ty.clone())).collect();
        types.sort_unstable();
        for (_, ty) in types {
            if self.cell_of(client, fault, &ty).await {
                return true;
            }
        }
        false
    }

    async fn cell_of(&mut self, client: &Client, fault: &CellFault, ty: &str) -> bool {
        let fits = |table: &Table, column: usize, has_value: bool| {
            let is_of_type = table.columns[column].ty == ty && !table.is_key(column);
            is_of_type && fault.fits(&table.columns[column], has_value)
        };
        let has_place = |at: &usize| {
            let table = &self.tables[*at];
            (0..table.columns.len()).any(|column| fits(table, column, true) || fits(table, column, false))
        };
        let among: Vec<usize> = self.all_tables().into_iter().filter(has_place).collect();
        for _ in 0..ATTEMPTS {
            let Some((at, row)) = self.draw(&among) else { return false };
            let (table, cells) = (&self.tables[at], &self.rows[at][row].cells);
            let fitting = (0..table.columns.len()).filter(|column| fits(table, *column, cells[*column].is_some()));
            let fitting: Vec<usize> = fitting.collect();
            if fitting.is_empty() {
                continue;
            }
            let column = self.random.pick(&fitting);
            if self.alter(client, fault, (at, row), column).await {
                return true;
            }
        }
        false
    }

    async fn alter(&mut self, client: &Client, fault: &CellFault, at: (usize, usize), column: usize) -> bool {
        let table = &self.tables[at.0];
        let row = &self.rows[at.0][at.1];
        let old = row.cells[column].as_deref();
        let (expression, parameter) = fault.expression(&table.columns[column], old, &mut self.random);
        let name = table.columns[column].name.clone();
        let sql = format!(
            "UPDATE {} SET {} = {expression} WHERE {} RETURNING {}",
            table.sql(),
            quoted(&name),
            table.condition(),
            table.sent(column)
        );
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&row.key, &row.positions];
        match &parameter {
            Parameter::None => {}
            Parameter::Double(value) => parameters.push(value),
            Parameter::Json(text) => parameters.push(text),
        }
        let changed = client.query_one(&sql, &parameters).await;
        let changed = changed.unwrap_or_else(|error| panic!("{error:?}: {sql}: {row:?}"));
        if changed.get::<_, Option<&[u8]>>(0) == old {
            return false;
        }
        self.count(fault.name_for(&self.tables[at.0].columns[column]));
        self.expect(at, "cell", Some(name));
        true
    }

    async fn delete(&self, client: &Client, (table, row): (usize, usize)) {
        let (table, row) = (&self.tables[table], &self.rows[table][row]);
        let sql = format!("DELETE FROM {} WHERE {}", table.sql(), table.condition());
        assert_eq!(client.execute(&sql, &[&row.key, &row.positions]).await.unwrap(), 1);
    }

    async fn deleted(&mut self, client: &Client) -> bool {
        let Some(at) = self.draw(&self.all_tables()) else { return false };
        self.delete(client, at).await;
        self.expect(at, "missing", None);
        true
    }

    /// Copies a row to another key and other positions.
    async fn copy(&self, client: &Client, (table, row): (usize, usize), key: &str, positions: &[i64]) -> Row {
        let (table, row) = (&self.tables[table], &self.rows[table][row]);
        let columns: Vec<String> = table.columns.iter().map(|column| quoted(&column.name)).collect();
        let values: Vec<String> = (0..table.columns.len())
            .map(|at| match table.positions.iter().position(|position| *position == at) {
                Some(number) => format!("($4::bigint[])[{}]", number + 1),
                None if at == table.key => format!("$3::text::{}", table.columns[at].ty),
                None => columns[at].clone(),
            })
            .collect();
        let sql = format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} WHERE {} AND $4::bigint[] IS NOT NULL",
            table.sql(),
            columns.join(", "),
            values.join(", "),
            table.sql(),
            table.condition()
        );
        let copied = client.execute(&sql, &[&row.key, &row.positions, &key, &positions]).await;
        assert_eq!(copied.unwrap_or_else(|error| panic!("{error:?}: {sql}: {row:?} to {key} {positions:?}")), 1);
        Row { key: key.to_owned(), reported: row.reported.clone(), positions: positions.to_vec(), cells: Vec::new() }
    }

    /// A row has been added, and is left over.
    async fn expect_left_over(&mut self, client: &Client, table: usize, mut added: Row) {
        // How a report has a key is for the server to say.
        let reported = self.tables[table].rows_of(client, &added.key).await;
        added.reported = reported.into_iter().find(|row| row.positions == added.positions).unwrap().reported;
        self.faulty_keys.insert(added.key.clone());
        self.taken.insert((table, added.key.clone(), added.positions.clone()));
        let is_new = self.expected.insert(self.tables[table].difference(&added, "left over", None));
        assert!(is_new, "a row is left over twice: {added:?}");
    }

    /// Positions of the same document in the same table that no row has.
    fn free_positions(&mut self, (table, row): (usize, usize)) -> Option<Vec<i64>> {
        let row = &self.rows[table][row];
        let mut positions = row.positions.clone();
        let at = match self.random.percent(70) {
            true => positions.len() - 1,
            false => self.random.below(positions.len() as u64) as usize,
        };
        // Right behind the last one, or far out; 0 and less is no position at all.
        positions[at] = match self.random.below(6) {
            0 => -(self.random.below(3) as i64),
            1 => i64::MAX - self.random.below(1_000) as i64,
            _ => positions[at] + 1,
        };
        while self.taken.contains(&(table, row.key.clone(), positions.clone())) {
            positions[at] = positions[at].checked_add(1)?;
        }
        Some(positions)
    }

    async fn left_over(&mut self, client: &Client) -> bool {
        let Some(at) = self.draw(&self.child_tables()) else { return false };
        let Some(positions) = self.free_positions(at) else { return false };
        let key = self.rows[at.0][at.1].key.clone();
        // Also of a document that has no rows in this table.
        let roots: Vec<&String> = self.by_key[0].keys().collect();
        let other = roots.iter().filter(|root| !self.by_key[at.0].contains_key(**root)).min().map(|key| (*key).clone());
        let key = match other {
            Some(other)
                if self.random.percent(30) && !self.taken.contains(&(at.0, other.clone(), positions.clone())) =>
            {
                other
            }
            _ => key,
        };
        let added = self.copy(client, at, &key, &positions).await;
        self.expect_left_over(client, at.0, added).await;
        true
    }

    /// A key that no row has.
    fn unknown_key(&mut self) -> Option<String> {
        (0..ATTEMPTS).find_map(|_| {
            let key = (self.new_key)(&mut self.random)?;
            let known = self.taken.iter().any(|(_, taken, _)| *taken == key);
            (!known).then_some(key)
        })
    }

    async fn orphan(&mut self, client: &Client) -> bool {
        let Some(at) = self.draw(&self.child_tables()) else { return false };
        let Some(key) = self.unknown_key() else { return false };
        self.unknown_keys.insert(key.clone());
        let positions = self.rows[at.0][at.1].positions.clone();
        let added = self.copy(client, at, &key, &positions).await;
        self.expect_left_over(client, at.0, added).await;
        true
    }

    /// The rows have each other's values, as if their positions had been swapped; or their keys, in the root table.
    async fn swapped(&mut self, client: &Client) -> bool {
        let Some(one) = self.draw(&self.all_tables()) else { return false };
        let (table, rows) = (&self.tables[one.0], &self.rows[one.0]);
        let row = &rows[one.1];
        let candidates: Vec<usize> = match one.0 {
            0 => (0..rows.len()).collect(),
            _ => self.by_key[one.0][&row.key].clone(),
        };
        let differs = |other: &usize| {
            !self.faulty.contains(&(one.0, *other)) && table.first_difference(row, &rows[*other]).is_some()
        };
        let others: Vec<usize> = candidates.into_iter().filter(differs).collect();
        if others.is_empty() {
            return false;
        }
        let other = self.random.pick(&others);
        let (table, row, partner) = (&self.tables[one.0], &self.rows[one.0][one.1], &self.rows[one.0][other]);
        let columns: Vec<String> = (0..table.columns.len())
            .filter(|at| !table.is_key(*at))
            .map(|at| quoted(&table.columns[at].name))
            .collect();
        let condition = table.condition();
        let second = condition.replace("$1", "$3").replace("$2", "$4");
        let sql = format!(
            "WITH both_rows AS (SELECT *, ctid AS place FROM {0} WHERE ({condition}) OR ({second})) \
             UPDATE {0} AS t SET {1} FROM both_rows AS other WHERE t.ctid IN (SELECT place FROM both_rows) AND t.ctid <> other.place",
            table.sql(),
            columns.iter().map(|name| format!("{name} = other.{name}")).collect::<Vec<_>>().join(", "),
        );
        let count = client.execute(&sql, &[&row.key, &row.positions, &partner.key, &partner.positions]).await;
        assert_eq!(count.unwrap_or_else(|error| panic!("{error:?}: {sql}")), 2);
        let column = table.first_difference(row, partner);
        self.expect(one, "cell", column.clone());
        self.expect((one.0, other), "cell", column);
        true
    }

    async fn moved(&mut self, client: &Client) -> bool {
        let Some(at) = self.draw(&self.child_tables()) else { return false };
        let Some(positions) = self.free_positions(at) else { return false };
        let key = self.rows[at.0][at.1].key.clone();
        let added = self.copy(client, at, &key, &positions).await;
        self.delete(client, at).await;
        self.expect(at, "missing", None);
        self.expect_left_over(client, at.0, added).await;
        true
    }

    /// The tables must have lost their primary keys.
    async fn doubled(&mut self, client: &Client) -> bool {
        let Some(at) = self.draw(&self.all_tables()) else { return false };
        let row = &self.rows[at.0][at.1];
        self.copy(client, at, &row.key, &row.positions).await;
        self.expect(at, "repeated", None);
        true
    }

    /// A document none of whose rows has a fault.
    fn whole_document(&mut self) -> Option<String> {
        (0..ATTEMPTS).find_map(|_| {
            let (_, row) = self.draw(&[0])?;
            let key = &self.rows[0][row].key;
            (!self.faulty_keys.contains(key)).then(|| key.clone())
        })
    }

    fn rows_of(&self, key: &str) -> Vec<(usize, usize)> {
        let of_table = |table: usize| self.by_key[table].get(key).into_iter().flatten().map(move |row| (table, *row));
        self.all_tables().into_iter().flat_map(of_table).collect()
    }

    async fn document_missing(&mut self, client: &Client) -> bool {
        let Some(key) = self.whole_document() else { return false };
        for at in self.rows_of(&key) {
            self.delete(client, at).await;
            self.expect(at, "missing", None);
        }
        true
    }

    async fn document_extra(&mut self, client: &Client) -> bool {
        let Some(like) = self.whole_document() else { return false };
        let Some(key) = self.unknown_key() else { return false };
        self.unknown_keys.insert(key.clone());
        for at in self.rows_of(&like) {
            let positions = self.rows[at.0][at.1].positions.clone();
            let added = self.copy(client, at, &key, &positions).await;
            self.expect_left_over(client, at.0, added).await;
        }
        true
    }
}
