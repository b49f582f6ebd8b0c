//! Placeholder for the strings family.

use crate::row::Row;

pub const ROWS: &[Row] = &[];
