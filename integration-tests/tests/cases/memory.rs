//! The memory budget holds, whatever the documents are.
