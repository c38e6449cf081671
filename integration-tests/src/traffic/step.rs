//! One step of traffic: a command, or several in a transaction.

use std::ops::AddAssign;

use bson::{Bson, Document, doc};
use mongodb::error::TRANSIENT_TRANSACTION_ERROR;
use mongodb::{ClientSession, Database};

/// What is sent to MongoDB.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A command to the database of the collections.
    Command(Document),
    /// Commands in a transaction.
    Transaction {
        /// In their order.
        commands: Vec<Document>,
        /// Whether it is committed; else it is aborted.
        commit: bool,
    },
}

/// What became of steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Commands that were sent.
    pub commands: u64,
    /// Writes that the server refused, because what they met was of another type, or was there already.
    pub refused: u64,
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.commands += other.commands;
        self.refused += other.refused;
    }
}

impl Step {
    /// Sends the step and waits for the answer. A write that is refused is no error; a transaction with one is aborted.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses a whole command.
    pub async fn run(&self, database: &Database) -> Result<Outcome, mongodb::error::Error> {
        match self {
            Self::Command(command) => {
                let refused = answer(database.run_command(command.clone()).await)?;
                Ok(Outcome { commands: 1, refused })
            }
            Self::Transaction { commands, commit } => transaction(database, commands, *commit).await,
        }
    }
}

async fn transaction(
    database: &Database,
    commands: &[Document],
    commit: bool,
) -> Result<Outcome, mongodb::error::Error> {
    let mut session: ClientSession = database.client().start_session().await?;
    session.start_transaction().await?;
    let mut outcome = Outcome::default();
    for command in commands {
        outcome.commands += 1;
        outcome.refused += answer(database.run_command(command.clone()).session(&mut session).await)?;
        if outcome.refused > 0 {
            break;
        }
    }
    if commit && outcome.refused == 0 {
        session.commit_transaction().await?;
    } else {
        session.abort_transaction().await?;
    }
    Ok(outcome)
}

/// How many writes of a command were refused. `findAndModify` says so by an error, other commands in their reply. A transaction
/// may be refused whole, where collections have just changed.
fn answer(reply: mongodb::error::Result<Document>) -> Result<u64, mongodb::error::Error> {
    match reply {
        Ok(reply) => Ok(reply.get_array("writeErrors").map_or(0, |errors| errors.len() as u64)),
        Err(error) if refusal(&error) || error.contains_label(TRANSIENT_TRANSACTION_ERROR) => Ok(1),
        Err(error) => Err(error),
    }
}

/// Whether the server took the command and could not do what it says to a document: the codes of updates that do not fit
/// what they meet, and of an `_id` that is there already.
fn refusal(error: &mongodb::error::Error) -> bool {
    const BAD_VALUE: i32 = 2;
    const FAILED_TO_PARSE: i32 = 9;
    const TYPE_MISMATCH: i32 = 14;
    const PATH_NOT_VIABLE: i32 = 28;
    const CONFLICTING_UPDATE_OPERATORS: i32 = 40;
    const DOLLAR_PREFIXED_FIELD_NAME: i32 = 52;
    const IMMUTABLE_FIELD: i32 = 66;
    const DUPLICATE_KEY: i32 = 11_000;
    let codes = [
        BAD_VALUE,
        FAILED_TO_PARSE,
        TYPE_MISMATCH,
        PATH_NOT_VIABLE,
        CONFLICTING_UPDATE_OPERATORS,
        DOLLAR_PREFIXED_FIELD_NAME,
        IMMUTABLE_FIELD,
        DUPLICATE_KEY,
    ];
    match &*error.kind {
        mongodb::error::ErrorKind::Command(command) => codes.contains(&command.code),
        mongodb::error::ErrorKind::Write(_) => true,
        _ => false,
    }
}

/// `insert`, in which one document that is refused does not keep the others back.
pub(super) fn insert(collection: &str, documents: Vec<Document>) -> Document {
    doc! { "insert": collection, "documents": documents, "ordered": false }
}

/// `update` with these statements.
pub(super) fn update(collection: &str, updates: Vec<Document>) -> Document {
    doc! { "update": collection, "updates": updates, "ordered": false }
}

/// `delete` of all that match one of these.
pub(super) fn delete(collection: &str, filters: Vec<Document>) -> Document {
    let deletes: Vec<Bson> = filters.into_iter().map(|q| doc! { "q": q, "limit": 0 }.into()).collect();
    doc! { "delete": collection, "deletes": deletes }
}
