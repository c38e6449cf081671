//! What is said was checked.
