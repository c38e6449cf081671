//! `gizer schema …`: schema files, the tables that follow from them, and how both are shown.

pub mod ddl;
pub mod diagram;
pub mod diff;
pub mod edit;
pub mod infer;
pub mod json_schema;
mod names;
