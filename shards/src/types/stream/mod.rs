//! To come; its ids and changes are here already.

mod change;
mod id;

pub use change::StreamChange;
pub use id::StreamId;

use super::{Collection, Thresholds, View};
use crate::wire::EditError;

#[derive(Clone, Default)]
pub struct Stream;

#[derive(Clone, Copy)]
pub struct StreamRef<'a>(std::marker::PhantomData<&'a ()>);

impl Collection for Stream {
    type View<'a> = StreamRef<'a>;
    fn verify(_changes: &[u8]) -> Result<(), EditError> {
        Err(EditError::Truncated)
    }
    fn change_small(_pack: &mut Vec<u8>, _changes: &[u8], _thresholds: &Thresholds) -> Option<Self> {
        None
    }
    fn change(&mut self, _changes: &[u8], _thresholds: &Thresholds) {}
    fn view_small(_pack: &[u8]) -> StreamRef<'_> {
        StreamRef(std::marker::PhantomData)
    }
    fn view(&self) -> StreamRef<'_> {
        StreamRef(std::marker::PhantomData)
    }
    fn bytes_used(&self) -> usize {
        0
    }
    fn free(&mut self, _nodes: usize) -> bool {
        false
    }
    fn check_invariants(&self) {}
}

impl<'a> View<'a> for StreamRef<'a> {
    fn len(self) -> usize {
        0
    }
    fn digest(self) -> u64 {
        0
    }
    fn encoding(self) -> &'static str {
        ""
    }
    fn export(self, _from: u64, _bytes_max: usize, _out: &mut Vec<u8>) -> Option<u64> {
        None
    }
}
