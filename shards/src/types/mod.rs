//! What values of a type are made of, apart from keys and commands: representations and arithmetic.

mod collection;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
mod leaf_map;
pub mod list;
pub mod set;
pub mod sorted_set;
pub mod stream;

pub use collection::{
    Collection, CollectionRef, Kind, Large, Need, Thresholds, View, change_small, digest_bytes, mix, verify,
};
