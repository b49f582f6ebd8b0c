//! The shard's command families, one file each with its table of rows on top.

pub mod bitmaps;
mod elements;
pub mod geo;
pub mod hashes;
pub mod hyperloglog;
pub mod keys;
pub mod lists;
pub mod sets;
pub mod sorted_sets;
pub mod streams;
pub mod strings;

use crate::row::Row;

/// Every family's table.
pub const FAMILIES: &[&[Row]] = &[
    strings::ROWS,
    bitmaps::ROWS,
    hyperloglog::ROWS,
    keys::ROWS,
    sets::ROWS,
    hashes::ROWS,
    hashes::expiry::ROWS,
    lists::ROWS,
    sorted_sets::ROWS,
    geo::ROWS,
    streams::ROWS,
    streams::groups::ROWS,
    std::slice::from_ref(&keys::DEBUG_OBJECT),
    std::slice::from_ref(&keys::DEBUG_DIGEST_VALUE),
    std::slice::from_ref(&keys::MEMORY_USAGE),
];
