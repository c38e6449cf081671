//! Tables of two PostgreSQL schemas, row for row.

use tokio_postgres::{Client, Error};

/// The tables in a schema that are not gizer's own.
///
/// # Errors
/// The server's word.
pub async fn tables(client: &Client, schema: &str) -> Result<Vec<String>, Error> {
    let sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1 AND tablename NOT LIKE 'gizer\\_%' \
               AND tablename <> 'qmetlstatus' ORDER BY 1";
    Ok(client.query(sql, &[&schema]).await?.iter().map(|row| row.get(0)).collect())
}

/// What is different, if anything, between the tables of two schemas: their names, their rows, and their keys. Bits of doubles and
/// digits of numbers count.
///
/// # Errors
/// The server's word.
pub async fn difference(client: &Client, one: &str, other: &str) -> Result<Option<String>, Error> {
    let names = tables(client, one).await?;
    let other_names = tables(client, other).await?;
    if names != other_names || names.is_empty() {
        return Ok(Some(format!("{one} has the tables {names:?}, {other} has {other_names:?}")));
    }
    for table in names {
        // -0 and 0, and 1.0 and 1.00, are equal as values.
        let columns = "SELECT string_agg(CASE \
                 WHEN atttypid = 'float8'::regtype THEN format('float8send(%I)::text', attname) \
                 WHEN typelem <> 0 AND typlen = -1 THEN format('array_send(%I)::text', attname) \
                 ELSE format('%I::text', attname) END, ', ' ORDER BY attnum) \
             FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid \
             WHERE attrelid = format('%I.%I', $1::text, $2::text)::regclass AND attnum > 0 AND NOT attisdropped";
        let columns: String = client.query_one(columns, &[&one, &table]).await?.get(0);
        for (left, right) in [(one, other), (other, one)] {
            let quoted = table.replace('"', "\"\"");
            let sql = format!(
                "SELECT {columns} FROM {left}.\"{quoted}\" EXCEPT ALL SELECT {columns} FROM {right}.\"{quoted}\""
            );
            let more = client.query(&format!("SELECT to_jsonb(q)::text FROM ({sql}) q"), &[]).await?;
            if let Some(row) = more.first() {
                let row: &str = row.get(0);
                return Ok(Some(format!("{} rows of {left}.{table} are not in {right}: {row}", more.len())));
            }
        }
        let keys = "SELECT count(DISTINCT pg_get_constraintdef(oid)) FROM pg_constraint WHERE contype = 'p' AND \
                    conrelid IN (format('%I.%I', $1::text, $3::text)::regclass, format('%I.%I', $2::text, $3::text)::regclass)";
        let keys: i64 = client.query_one(keys, &[&one, &other, &table]).await?.get(0);
        if keys > 1 {
            return Ok(Some(format!("the keys of {table} differ")));
        }
    }
    Ok(None)
}
