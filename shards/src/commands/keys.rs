//! Placeholder for the keys family.

use crate::row::Row;

pub const ROWS: &[Row] = &[];
