//! One MongoDB document in, relational rows out: pure, without I/O.
