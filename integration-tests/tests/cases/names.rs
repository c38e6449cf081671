//! Collections and ids of every kind get tables that fit.
