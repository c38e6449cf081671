//! The gizer command line: config, wiring, progress and reports.

fn main() {}
