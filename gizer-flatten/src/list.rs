//! Arrays of scalars in one column.

use gizer_schema::raw::{Malformed, RawDoc};
use gizer_schema::{ColumnType, ScalarType};

use crate::column_type::fit;
use crate::row::Cell;
use crate::tally::Unfit;

/// An array whose elements all fit the type of a PostgreSQL array; nulls stay nulls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawList<'a> {
    array: RawDoc<'a>,
    element: ScalarType,
}

impl<'a> RawList<'a> {
    /// The array, or why an element does not fit.
    ///
    /// # Errors
    /// [`Malformed`] if it is not BSON.
    pub(crate) fn new(array: RawDoc<'a>, element: ScalarType) -> Result<Result<RawList<'a>, Unfit>, Malformed> {
        for each in array.elements() {
            if let Err(unfit) = fit(element.into(), &each?)? {
                return Ok(Err(unfit));
            }
        }
        Ok(Ok(RawList { array, element }))
    }

    /// Type of the elements' column.
    pub fn element_type(&self) -> ColumnType {
        self.element.into()
    }

    /// The elements as cells, in their order.
    pub fn cells(&self) -> impl Iterator<Item = Cell<'a>> {
        let ty = self.element_type();
        // new() has seen every element fit.
        self.array.elements().map(move |element| {
            let cell = element.ok().and_then(|element| fit(ty, &element).ok()?.ok());
            cell.unwrap_or(Cell::Null)
        })
    }
}
