//! What is expected to be copied is known, and told until it is there.

mod appearing;
mod changed;
mod choosing;
mod interrupted;
mod keys;
mod paused;
