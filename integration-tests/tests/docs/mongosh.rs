//! Blocks of language `js`: what somebody types into mongosh. There is no mongosh beside the tests' servers, so the few
//! methods that pages need are put into the server's commands here.

use bson::{Array, Bson, Document, doc};
use mongodb::Client;

/// A line of a block.
#[derive(Debug, PartialEq)]
pub(crate) struct Operation {
    pub(crate) database: Option<String>,
    pub(crate) command: Document,
}

/// Does what a block says, in the order of its statements; `database` is the one that mongosh would have begun with.
pub(crate) async fn run(client: &Client, database: &str, text: &str) -> Result<(), String> {
    for operation in operations(text)? {
        let name = operation.database.as_deref().unwrap_or(database);
        let reply = client.database(name).run_command(operation.command.clone()).await;
        let reply = reply.map_err(|error| format!("{}: {error}", operation.command))?;
        if let Ok(errors) = reply.get_array("writeErrors") {
            return Err(format!("{}: {errors:?}", operation.command));
        }
    }
    Ok(())
}

/// The statements of a block: `use name`, and `db.….method(…)` that ends with the line.
pub(crate) fn operations(text: &str) -> Result<Vec<Operation>, String> {
    let mut operations = Vec::new();
    let mut database = None;
    let mut statement = String::new();
    for line in text.lines() {
        let line = line.split_once("// ").map_or(line, |(code, _)| code).trim_end();
        if let Some(name) = line.strip_prefix("use ") {
            database = Some(name.trim_end_matches(';').to_owned());
            continue;
        }
        statement.push_str(line);
        statement.push('\n');
        if is_whole(&statement) {
            let whole = std::mem::take(&mut statement);
            if let Some(operation) = operation(whole.trim().trim_end_matches(';'), &database)? {
                operations.push(operation);
            }
        }
    }
    match statement.trim() {
        "" => Ok(operations),
        left => Err(format!("expected the end of {left:?}")),
    }
}

fn is_whole(statement: &str) -> bool {
    let count = |c: char| statement.matches(c).count();
    count('(') == count(')') && count('{') == count('}') && count('[') == count(']')
}

fn operation(statement: &str, database: &Option<String>) -> Result<Option<Operation>, String> {
    if statement.is_empty() {
        return Ok(None);
    }
    let wrong = || format!("expected db.COLLECTION.METHOD(…) or db.METHOD(…), got {statement:?}");
    let call = statement.strip_prefix("db.").and_then(|call| call.strip_suffix(')')).ok_or_else(wrong)?;
    let (path, arguments) = call.split_once('(').ok_or_else(wrong)?;
    let arguments: Array = serde_json::from_str(&format!("[{}]", as_extended_json(arguments)))
        .map_err(|error| format!("{statement:?}: {error}"))?;
    if let ("adminCommand", [Bson::Document(command)]) = (path, arguments.as_slice()) {
        return Ok(Some(Operation { database: Some("admin".to_owned()), command: command.clone() }));
    }
    let command = match path.rsplit_once('.') {
        None => of_database(path, &arguments),
        Some((collection, method)) => of_collection(collection, method, &arguments),
    };
    let command = command.ok_or_else(|| format!("the test does not know {path} with such arguments: {statement:?}"))?;
    Ok(Some(Operation { database: database.clone(), command }))
}

fn of_database(method: &str, arguments: &[Bson]) -> Option<Document> {
    match (method, arguments) {
        // The first field is the name, and the command's.
        ("createUser", [Bson::Document(user)]) => Some(renamed(user, "user", "createUser")),
        ("createRole", [Bson::Document(role)]) => Some(renamed(role, "role", "createRole")),
        ("createCollection", [Bson::String(name)]) => Some(doc! {"create": name}),
        ("dropDatabase", []) => Some(doc! {"dropDatabase": 1}),
        ("runCommand", [Bson::Document(command)]) => Some(command.clone()),
        _ => None,
    }
}

fn renamed(fields: &Document, name: &str, command: &str) -> Document {
    let mut renamed = doc! {command: fields.get(name).cloned().unwrap_or(Bson::Null)};
    renamed.extend(fields.clone().into_iter().filter(|(field, _)| field != name));
    renamed
}

fn of_collection(collection: &str, method: &str, arguments: &[Bson]) -> Option<Document> {
    let update = |filter: &Bson, update: &Bson, multi: bool| {
        doc! {"update": collection, "updates": [{"q": filter, "u": update, "multi": multi}]}
    };
    let delete = |filter: &Bson, limit: i32| doc! {"delete": collection, "deletes": [{"q": filter, "limit": limit}]};
    Some(match (method, arguments) {
        ("insertOne", [document]) => doc! {"insert": collection, "documents": [document]},
        ("insertMany", [documents @ Bson::Array(_)]) => doc! {"insert": collection, "documents": documents},
        ("updateOne" | "replaceOne", [filter, change]) => update(filter, change, false),
        ("updateMany", [filter, change]) => update(filter, change, true),
        ("deleteOne", [filter]) => delete(filter, 1),
        ("deleteMany", [filter]) => delete(filter, 0),
        ("drop", []) => doc! {"drop": collection},
        _ => return None,
    })
}

/// JavaScript's literals as Extended JSON: names without quotes get some, `ObjectId("…")` becomes `{"$oid": "…"}`.
fn as_extended_json(text: &str) -> String {
    let mut json = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '"' || c == '\'' {
            let end = rest[1..].find(c).map_or(rest.len(), |end| end + 2);
            json.push_str(&format!("\"{}\"", rest[1..end.max(2) - 1].replace('"', "\\\"")));
            rest = &rest[end..];
        } else if c.is_alphabetic() || c == '_' || c == '$' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after;
            let wrapper = match word {
                "ObjectId" => "$oid",
                "ISODate" => "$date",
                "Double" => "$numberDouble",
                "NumberLong" | "Long" => "$numberLong",
                "NumberDecimal" | "Decimal128" => "$numberDecimal",
                "UUID" => "$uuid",
                "true" | "false" | "null" => {
                    json.push_str(word);
                    continue;
                }
                name => {
                    json.push_str(&format!("\"{name}\""));
                    continue;
                }
            };
            let inside = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
            let Some((inside, after)) = inside else { continue };
            let inside = inside.trim_matches(|c| c == '"' || c == '\'');
            json.push_str(&format!("{{\"{wrapper}\": \"{inside}\"}}"));
            rest = after;
        } else {
            json.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    // A comma behind the last element is JavaScript, and no JSON.
    let mut cleaned = String::new();
    for c in json.chars() {
        if "]}".contains(c) && cleaned.trim_end().ends_with(',') {
            cleaned.truncate(cleaned.trim_end().len() - 1);
        }
        cleaned.push(c);
    }
    cleaned
}

#[test]
fn statements_become_commands() {
    let text = "use shop\ndb.orders.insertOne({ _id: ObjectId(\"56b8da59f9fcee1b00000007\"), when: ISODate('2026-11-02T10:00:00Z'),\n  \
                items: [{ n: 1.5 }, ], note: null })   // one\ndb.orders.updateOne({ _id: 1 }, { $set: { \"a.b\": NumberLong(\"2\") } });\ndb.orders.drop()\n";
    let operations = operations(text).unwrap();
    let commands: Vec<String> = operations.iter().map(|each| each.command.to_string()).collect();
    assert_eq!(operations[0].database.as_deref(), Some("shop"));
    assert!(commands[0].contains("ObjectId(\"56b8da59f9fcee1b00000007\")"), "{}", commands[0]);
    assert!(commands[0].contains("2026-11-02 10:00:00"), "{}", commands[0]);
    assert!(commands[1].contains("\"$set\": { \"a.b\": 2 }"), "{}", commands[1]);
    assert_eq!(commands[2], "{ \"drop\": \"orders\" }");
    assert!(super::mongosh::operations("db.orders.mapReduce()").is_err());
    assert!(super::mongosh::operations("db.orders.insertOne({").is_err());
}
