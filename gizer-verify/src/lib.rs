//! Whether documents and stored rows are equal, and what repairs them.
