//! Every wait has an end, and a word about what is waited for.
