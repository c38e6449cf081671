//! Arrays as bound parameters, from values that are in binary form already.

use std::error::Error;

use bytes::BytesMut;
use gizer_schema::ColumnType;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::column_type::type_oid;

/// An array of one dimension without NULLs, as `array_recv` in PostgreSQL's `arrayfuncs.c` takes it.
#[derive(Debug)]
pub(super) struct ArrayParameter(Vec<u8>);

impl ArrayParameter {
    /// Of `count` elements, each with its length before it.
    pub(super) fn new(ty: ColumnType, count: usize, elements: &[u8]) -> ArrayParameter {
        let count = i32::try_from(count).expect("a batch has fewer than 2^31 rows: it is held in memory");
        let mut bytes = Vec::with_capacity(20 + elements.len());
        // Dimensions, NULLs, type; then length and lower bound of the only dimension.
        bytes.extend_from_slice(&1i32.to_be_bytes());
        bytes.extend_from_slice(&0i32.to_be_bytes());
        bytes.extend_from_slice(&type_oid(ty).to_be_bytes());
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(&1i32.to_be_bytes());
        bytes.extend_from_slice(elements);
        ArrayParameter(bytes)
    }
}

/// A value in its binary form.
#[derive(Debug)]
pub(super) struct FieldParameter<'f>(pub(super) Option<&'f [u8]>);

impl ToSql for FieldParameter<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let Some(field) = self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(field);
        Ok(IsNull::No)
    }

    /// The statement casts it to the very type.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl ToSql for ArrayParameter {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    /// The statement casts it to the very type.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
