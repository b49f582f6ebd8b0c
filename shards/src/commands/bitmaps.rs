//! Placeholder for the bitmaps family.

use crate::row::Row;

pub const ROWS: &[Row] = &[];
