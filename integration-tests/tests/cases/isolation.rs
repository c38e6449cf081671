//! The trouble of one document, table or collection is its own.
