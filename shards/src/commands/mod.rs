//! The shard's command families, one file each with its table of rows on top.

pub mod bitmaps;
pub mod hyperloglog;
pub mod keys;
pub mod strings;

use crate::row::Row;

/// Every family's table.
pub const FAMILIES: &[&[Row]] =
    &[strings::ROWS, bitmaps::ROWS, hyperloglog::ROWS, keys::ROWS, std::slice::from_ref(&keys::DEBUG_OBJECT)];
