//! Tables of two PostgreSQL schemas, row for row.

use integration_tests::compared;

use super::place::Place;

/// Whether both schemas have the same tables with the same rows: bits of doubles, digits of numbers, and keys included.
pub(crate) async fn assert_same_tables(place: &Place, one: &str, other: &str) {
    let difference = compared::difference(&place.postgres, one, other).await.unwrap();
    assert_eq!(difference, None);
}
