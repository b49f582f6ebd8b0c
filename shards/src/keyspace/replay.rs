//! Reading edits back, in groups: while one edit waits for memory, that of the others is on its way too. What an
//! edit does is the keyspace's; here is only when. Nothing is logged, and nothing allocated per edit.

use super::edit::Edit;
use super::store::Store;
use super::{Keyspace, NewDeadline};
use crate::wire::EditError;

/// Edits under way together: about as many cache misses as a core can have open, twice over.
const GROUP: usize = 32;

/// An edit with its key's hash, which means nothing for edits of whole databases.
type Hashed<'a> = (Edit<'a>, u64);

impl<S: Store> Keyspace<S> {
    /// Applies all edits in `bytes`, one record's, without logging them. At one that can't be, those before it are
    /// applied. For recovery, which comes before clients: nobody is told.
    pub fn replay_all(&mut self, mut bytes: &[u8]) -> Result<(), EditError> {
        assert!(self.watches.is_empty(), "nobody watches a shard before its recovery is over");
        let logging = self.log.is_enabled();
        self.log.set_enabled(false);
        let mut result = Ok(());
        let mut group = [(Edit::FlushAll, 0); GROUP];
        while !bytes.is_empty() && result.is_ok() {
            let mut len = 0;
            while len < GROUP && !bytes.is_empty() && result.is_ok() {
                match self.decode_ahead(bytes) {
                    Ok((hashed, used)) => {
                        group[len] = hashed;
                        len += 1;
                        bytes = &bytes[used..];
                    }
                    Err(error) => result = Err(error),
                }
            }
            self.apply_group(&group[..len]);
        }
        self.log.set_enabled(logging);
        result
    }

    /// The first edit in `bytes`, with the loading of its key's bucket begun.
    #[inline]
    fn decode_ahead<'a>(&self, bytes: &'a [u8]) -> Result<(Hashed<'a>, usize), EditError> {
        let (edit, used) = Edit::decode(bytes)?;
        self.check(&edit)?;
        let [first, second] = edit.keys().map(|place| {
            place.map(|(db, key)| {
                let hash = self.store.hash(key);
                self.store.prefetch_place(db, hash);
                hash
            })
        });
        Ok(((edit, first.or(second).unwrap_or(0)), used))
    }

    fn apply_group(&mut self, group: &[Hashed<'_>]) {
        for (edit, hash) in group {
            if let [Some((db, _)), _] = edit.keys() {
                self.store.prefetch_entry(db, *hash);
            }
            if let Edit::Put { db, deadline: Some(deadline), .. } = *edit {
                self.store.prefetch_deadline(db, *hash, deadline);
            }
        }
        for &(edit, hash) in group {
            match edit {
                Edit::Put { db, key, value, deadline } => {
                    let deadline = deadline.map_or(NewDeadline::None, NewDeadline::At);
                    self.store.put(db, hash, key, value, deadline, self.last_access.get());
                }
                Edit::PutCollection { .. }
                | Edit::Change { .. }
                | Edit::Copy { .. }
                | Edit::Splice { .. }
                | Edit::Remove { .. }
                | Edit::SetDeadline { .. }
                | Edit::Rename { .. }
                | Edit::Flush { .. }
                | Edit::FlushAll
                | Edit::Nothing
                | Edit::Swap { .. } => self.apply(edit),
            }
        }
    }
}
