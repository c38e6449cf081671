//! The trouble of one document, table or collection is its own.

mod conflicts;
mod failing;
mod loaded;
mod place;
mod refused;
mod source;
