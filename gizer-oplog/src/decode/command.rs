//! Commands in the oplog (`op: "c"`): the first field of `o` names the command.

use gizer_schema::raw::{Element, Kind, RawDoc};

use super::Statement;
use super::error::DecodeError;
use super::fields::{EntryFields, find, uuid};
use super::operation::{Body, Operation, split};

/// Commands that change indexes, options or the sharding catalog, and no document.
const WITHOUT_DATA: [&[u8]; 11] = [
    b"createIndexes",
    b"startIndexBuild",
    b"commitIndexBuild",
    b"abortIndexBuild",
    b"dropIndexes",
    b"dropIndex",
    b"deleteIndexes",
    b"deleteIndex",
    b"collMod",
    b"dbCheck",
    b"modifyCollectionShardingIndexCatalog",
];

pub(super) fn read<'b>(fields: &EntryFields<'b>) -> Result<Statement<'b>, DecodeError> {
    let command = fields.object.ok_or(DecodeError::Missing { expected: "a command in o" })?;
    let first = command.elements().next().ok_or(DecodeError::Missing { expected: "a command in o" })??;
    let operation = match first.name {
        name if WITHOUT_DATA.contains(&name) => return Ok(Statement::Nothing),
        b"applyOps" if first.kind == Kind::Array => {
            let operations = RawDoc::new(first.bytes)?;
            return Ok(Statement::Operations { command, operations });
        }
        b"applyOps" => return Err(DecodeError::Missing { expected: "a list of operations in applyOps" }),
        b"commitTransaction" => return Ok(Statement::Commit),
        b"abortTransaction" => return Ok(Statement::Abort),
        b"create" => named(fields, &first, Body::Create)?,
        b"drop" => named(fields, &first, Body::Drop)?,
        // The remaining documents are not in the log.
        b"emptycapped" | b"convertToCapped" => named(fields, &first, Body::Rewrite)?,
        b"importCollection" => imported(fields, &first)?,
        b"dropDatabase" => Some(Operation::new(fields, database(fields)?, "", Body::DropDatabase)),
        b"renameCollection" => Some(renamed(fields, &first)?),
        name => {
            return Err(DecodeError::UnknownCommand {
                command: String::from_utf8_lossy(name).into_owned(),
                database: String::from_utf8_lossy(before_dot(fields.namespace)).into_owned(),
            });
        }
    };
    Ok(operation.map_or(Statement::Nothing, Statement::Operation))
}

/// A command whose value is the collection's name; the database is that of `ns`.
fn named<'b>(
    fields: &EntryFields<'b>,
    first: &Element<'b>,
    body: Body<'b>,
) -> Result<Option<Operation<'b>>, DecodeError> {
    let name = first.string().ok_or(DecodeError::Missing { expected: "the name of a collection in its command" })?;
    // See `Operation::of_document`.
    let Ok(collection) = str::from_utf8(name) else { return Ok(None) };
    Ok(Some(Operation::new(fields, database(fields)?, collection, body)))
}

/// `importCollection` has the full name; a dry run precedes the import itself.
fn imported<'b>(fields: &EntryFields<'b>, first: &Element<'b>) -> Result<Option<Operation<'b>>, DecodeError> {
    let name =
        first.string().ok_or(DecodeError::Missing { expected: "the name of a collection in importCollection" })?;
    let Ok(name) = str::from_utf8(name) else { return Ok(None) };
    let (database, collection) = split(name)?;
    Ok(Some(Operation::new(fields, database, collection, Body::Rewrite)))
}

/// `{renameCollection: <from>, to: <to>, dropTarget: <UUID or boolean>}`, both full names.
fn renamed<'b>(fields: &EntryFields<'b>, first: &Element<'b>) -> Result<Operation<'b>, DecodeError> {
    let expected = "two names in renameCollection";
    let name = |element: &Element<'b>| {
        let text = element.string().and_then(|text| str::from_utf8(text).ok());
        split(text.ok_or(DecodeError::Missing { expected })?)
    };
    let command = fields.object.ok_or(DecodeError::Missing { expected })?;
    let (database, collection) = name(first)?;
    let to = name(&find(command, b"to")?.ok_or(DecodeError::Missing { expected })?)?;
    let dropped = find(command, b"dropTarget")?.map(|target| uuid(&target)).transpose()?.flatten();
    Ok(Operation::new(fields, database, collection, Body::Rename { to, dropped }))
}

/// The database of a command: its `ns` is `<database>.$cmd`.
fn database<'b>(fields: &EntryFields<'b>) -> Result<&'b str, DecodeError> {
    let text = str::from_utf8(before_dot(fields.namespace)).ok().filter(|name| !name.is_empty());
    text.ok_or(DecodeError::Missing { expected: "the name of a database in ns" })
}

fn before_dot(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == b'.').next().unwrap_or_default()
}
