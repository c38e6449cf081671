//! Real mongod and real PostgreSQL: the rig and the end-to-end tests of gizer.
//!
//! The [`rig`] starts private servers for a test, makes sure that they end with it, and runs the `gizer`
//! program against them. What it starts is installed by `scripts/setup`. The [`shop`] fills a database,
//! [`traffic`] changes it, the [`oracle`] judges what became of it. What the
//! benchmarks of whole programs share is [`mod@bench`].

pub mod bench;
pub mod compared;
pub mod oracle;
pub mod printed;
pub mod random;
pub mod rig;
pub mod shop;
pub mod stored;
pub mod traffic;
