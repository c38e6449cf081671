//! Tables of two PostgreSQL schemas, row for row.

use super::place::Place;

/// The tables in a schema that are not gizer's own.
pub(crate) async fn tables(place: &Place, schema: &str) -> Vec<String> {
    let sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1 AND tablename NOT LIKE 'gizer\\_%' \
               AND tablename <> 'qmetlstatus' ORDER BY 1";
    place.postgres.query(sql, &[&schema]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Whether both schemas have the same tables with the same rows: bits of doubles, digits of numbers, and keys included.
pub(crate) async fn assert_same_tables(place: &Place, one: &str, other: &str) {
    let names = tables(place, one).await;
    assert_eq!(names, tables(place, other).await);
    assert!(!names.is_empty());
    for table in names {
        // -0 and 0, and 1.0 and 1.00, are equal as values.
        let columns = "SELECT string_agg(CASE \
                 WHEN atttypid = 'float8'::regtype THEN format('float8send(%I)::text', attname) \
                 WHEN typelem <> 0 AND typlen = -1 THEN format('array_send(%I)::text', attname) \
                 ELSE format('%I::text', attname) END, ', ' ORDER BY attnum) \
             FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid \
             WHERE attrelid = format('%I.%I', $1::text, $2::text)::regclass AND attnum > 0 AND NOT attisdropped";
        let columns: String = place.postgres.query_one(columns, &[&one, &table]).await.unwrap().get(0);
        for (left, right) in [(one, other), (other, one)] {
            let sql = format!(
                "SELECT {columns} FROM {left}.\"{table}\" EXCEPT ALL SELECT {columns} FROM {right}.\"{table}\""
            );
            let more = place.postgres.query(&sql, &[]).await.unwrap();
            assert!(more.is_empty(), "{} rows of {left}.{table} are not in {right}: {:?}", more.len(), more[0]);
        }
        let keys = "SELECT count(DISTINCT pg_get_constraintdef(oid)) FROM pg_constraint WHERE contype = 'p' AND \
                    conrelid IN (format('%I.%I', $1::text, $3::text)::regclass, format('%I.%I', $2::text, $3::text)::regclass)";
        let keys: i64 = place.postgres.query_one(keys, &[&one, &other, &table]).await.unwrap().get(0);
        assert!(keys <= 1, "the keys of {table} differ");
    }
}
