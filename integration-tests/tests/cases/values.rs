//! Values, names and options of odd kinds.
