//! Both forms of a hash against the simplest twin, and changes from anywhere.

use super::*;
use std::collections::BTreeMap;

/// A hash as the keyspace keeps it.
#[derive(Default)]
struct Kept {
    pack: Vec<u8>,
    large: Option<Hash>,
}

impl Kept {
    fn change(&mut self, changes: &[u8], thresholds: &Thresholds) {
        assert_eq!(Hash::verify(changes), Ok(()));
        match &mut self.large {
            Some(large) => large.change(changes, thresholds),
            None => self.large = Hash::change_small(&mut self.pack, changes, thresholds),
        }
    }
    fn view(&self) -> HashRef<'_> {
        self.large.as_ref().map_or_else(|| Hash::view_small(&self.pack), Hash::view)
    }
}

#[test]
fn both_forms_do_what_an_ordered_map_does() {
    let thresholds = Thresholds { hash_entries: 30, hash_value_bytes: 20, ..Thresholds::default() };
    for seed in 0..60 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut kept, mut twin) = (Kept::default(), BTreeMap::new());
        let (range, longest) = (random.u32(5..100), random.usize(15..24));
        for _ in 0..400 {
            let field = random.u32(..range).to_string().into_bytes();
            let value = vec![b'v'; random.usize(..longest)];
            let mut changes = Vec::new();
            if random.u32(..3) > 0 {
                HashChange::Put { field: &field, value: &value }.encode(&mut changes);
                twin.insert(field, value);
            } else {
                HashChange::Remove { field: &field }.encode(&mut changes);
                twin.remove(&field);
            }
            kept.change(&changes, &thresholds);
            let mut content = BTreeMap::new();
            kept.view().visit(&mut |field, value| drop(content.insert(field.to_vec(), value.to_vec())));
            assert_eq!(content, twin);
            assert_eq!(kept.view().len(), twin.len());
            assert!(twin.iter().all(|(field, value)| kept.view().get(field) == Some(value)));
        }
        kept.large.iter().for_each(Hash::check_invariants);
        let mut changes = Vec::new();
        assert_eq!(kept.view().export(0, usize::MAX, &mut changes), None);
        for is_large in [false, true] {
            let mut copy = Kept::default();
            copy.change(&changes, &Thresholds { is_large, ..thresholds });
            assert_eq!(copy.view().digest(), kept.view().digest());
        }
    }
}

#[test]
fn random_changes_are_refused_or_harmless() {
    let seed = 4;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kept = Kept::default();
    for _ in 0..100_000 {
        let changes: Vec<u8> = (0..random.usize(..12)).map(|_| random.u8(..5)).collect();
        if Hash::verify(&changes).is_ok() {
            kept.change(&changes, &Thresholds::default());
        }
    }
}
