//! A collection as the keyspace keeps it, small or large: what the tests of types change.

use super::{Collection, Thresholds};

pub(super) struct Kept<C> {
    pub(super) pack: Vec<u8>,
    pub(super) large: Option<C>,
}

impl<C> Default for Kept<C> {
    fn default() -> Self {
        Kept { pack: Vec::new(), large: None }
    }
}

impl<C: Collection> Kept<C> {
    pub(super) fn change(&mut self, changes: &[u8], thresholds: &Thresholds) {
        assert_eq!(C::verify(changes), Ok(()));
        match &mut self.large {
            Some(large) => large.change(changes, thresholds),
            None => self.large = C::change_small(&mut self.pack, changes, thresholds),
        }
    }
    pub(super) fn view(&self) -> C::View<'_> {
        self.large.as_ref().map_or_else(|| C::view_small(&self.pack), C::view)
    }
}
