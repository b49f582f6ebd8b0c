//! The tracker against a naive one, which keeps every write for ever and works each answer out anew.

use super::*;

#[derive(Clone, Copy)]
struct NaiveWrite {
    start: u64,
    end: u64,
    begun_ms: u64,
    durable: bool,
    done: bool,
    synced: bool,
}

/// Every write since the start; index 0 is sequence 1.
#[derive(Default)]
struct Naive {
    writes: Vec<NaiveWrite>,
    syncing: usize,
}

impl Naive {
    fn held(&self) -> usize {
        self.writes.iter().take_while(|write| write.done).count()
    }
    fn durable(&self) -> usize {
        self.writes.iter().take_while(|write| write.synced || write.durable && write.done).count()
    }
    fn end(&self, count: usize) -> u64 {
        count.checked_sub(1).map_or(0, |last| self.writes[last].end)
    }
    /// The most that may be released now.
    fn allowed(&self, policy: FsyncPolicy, now_ms: u64) -> u64 {
        let durable = self.durable();
        let oldest = self.writes.iter().find(|write| !(write.synced || write.durable && write.done));
        let late = oldest.is_some_and(|write| now_ms - write.begun_ms >= UNSYNCED_AGE_MS_MAX);
        let promised = self.writes[durable..].iter().find(|write| write.durable);
        let held = self.end(self.held()).min(promised.map_or(u64::MAX, |write| write.start));
        match policy {
            FsyncPolicy::Always => self.end(durable),
            FsyncPolicy::EverySec if late => self.end(durable),
            FsyncPolicy::EverySec | FsyncPolicy::No => held.max(self.end(durable)),
        }
    }
}

const POLICIES: [FsyncPolicy; 3] = [FsyncPolicy::Always, FsyncPolicy::EverySec, FsyncPolicy::No];

#[test]
fn the_tracker_agrees_with_a_naive_one_whatever_the_order() {
    for seed in 0..600 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let switches = random.bool();
        let policy = POLICIES[random.usize(..3)];
        let mut run = Run {
            commit: Commit::new(policy, Sequence::NONE, Offset(0)),
            naive: Naive::default(),
            ticket: None,
            now_ms: 5_000,
            released: 0,
            switches,
        };
        for _ in 0..random.usize(..120) {
            run.step(&mut random);
            run.check();
        }
        run.settle_all();
    }
}

struct Run {
    commit: Commit,
    naive: Naive,
    ticket: Option<SyncTicket>,
    now_ms: u64,
    released: u64,
    switches: bool,
}

impl Run {
    fn step(&mut self, random: &mut fastrand::Rng) {
        self.now_ms += [0, 1, 200, 600][random.usize(..4)];
        match random.u8(..10) {
            0..3 => self.begin(random.u64(1..100)),
            3..7 => {
                let pending: Vec<usize> =
                    (0..self.naive.writes.len()).filter(|at| !self.naive.writes[*at].done).collect();
                if let Some(&at) = random.choice(&pending) {
                    self.write_done(at);
                }
            }
            7 => self.sync_begin(),
            8 => self.sync_done(),
            _ if self.switches => self.commit.set_policy(POLICIES[random.usize(..3)]),
            _ => {}
        }
    }

    fn begin(&mut self, bytes: u64) {
        let start = self.naive.end(self.naive.writes.len());
        let (end, begun_ms) = (start + bytes, self.now_ms);
        let durable = self.commit.policy() == FsyncPolicy::Always;
        self.naive.writes.push(NaiveWrite { start, end, begun_ms, durable, done: false, synced: false });
        self.commit.begin(Sequence(self.naive.writes.len() as u64), Offset(end), begun_ms);
    }
    fn write_done(&mut self, at: usize) {
        self.naive.writes[at].done = true;
        self.commit.written(Sequence(at as u64 + 1));
    }
    fn sync_begin(&mut self) {
        if let Some(ticket) = self.commit.sync_begin() {
            assert!(self.ticket.is_none(), "one at a time");
            assert_eq!(ticket.through().0 as usize, self.naive.held());
            self.naive.syncing = self.naive.held();
            self.ticket = Some(ticket);
        }
    }
    fn sync_done(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.naive.writes[..self.naive.syncing].iter_mut().for_each(|write| write.synced = true);
            self.commit.synced(ticket);
        }
    }

    fn check(&mut self) {
        let policy = self.commit.policy();
        let released = self.commit.released(self.now_ms).0;
        let allowed = self.naive.allowed(policy, self.now_ms).max(self.released);
        assert!(released >= self.released, "replies cannot be called back");
        assert!(released <= allowed, "released {released} where {allowed} are allowed");
        let (mark, durable) = (self.commit.durable_mark().0 as usize, self.naive.durable());
        assert!(mark <= durable);
        let all = self.naive.end(self.naive.writes.len());
        assert_eq!(self.commit.unsynced_bytes(), all - self.commit.durable_offset().0);
        if !self.switches {
            assert_eq!((released, mark), (allowed, durable), "{policy:?}: nothing is held back without need");
        }
        if policy == FsyncPolicy::Always && !self.switches {
            assert_eq!(self.commit.sync_due(self.now_ms), None, "durable writes need no sync");
        }
        self.released = released;
    }

    /// The disk answers: in the end everything is released and on disk, under any policy but `no` by itself.
    fn settle_all(&mut self) {
        for at in 0..self.naive.writes.len() {
            if !self.naive.writes[at].done {
                self.write_done(at);
            }
        }
        self.sync_done();
        while let Some(due_ms) = self.commit.sync_due(self.now_ms) {
            self.now_ms = self.now_ms.max(due_ms);
            self.sync_begin();
            self.sync_done();
        }
        self.check();
        let all = self.naive.end(self.naive.writes.len());
        assert_eq!(self.commit.released(self.now_ms).0, all);
        if self.commit.policy() != FsyncPolicy::No {
            assert_eq!(self.commit.durable_offset().0, all);
        }
    }
}

fn fresh(policy: FsyncPolicy) -> Commit {
    Commit::new(policy, Sequence::NONE, Offset(0))
}

#[test]
fn always_releases_only_a_prefix_without_holes() {
    let mut commit = fresh(FsyncPolicy::Always);
    for sequence in 1..=3 {
        commit.begin(Sequence(sequence), Offset(10 * sequence), 0);
    }
    commit.written(Sequence(3));
    commit.written(Sequence(2));
    assert_eq!((commit.released(0), commit.durable_mark()), (Offset(0), Sequence::NONE));
    commit.written(Sequence(1));
    assert_eq!((commit.released(0), commit.durable_mark()), (Offset(30), Sequence(3)));
    assert_eq!(commit.unsynced_bytes(), 0);
}

#[test]
fn everysec_stops_before_the_oldest_unsynced_write_is_a_second_old() {
    let mut commit = fresh(FsyncPolicy::EverySec);
    commit.begin(Sequence(1), Offset(10), 1_000);
    assert_eq!(commit.sync_due(1_000), None, "nothing is with the kernel yet");
    commit.written(Sequence(1));
    assert_eq!((commit.released(1_001), commit.sync_due(1_001)), (Offset(10), Some(1_500)));
    let ticket = commit.sync_begin().expect("a sync is due");
    assert_eq!((commit.sync_due(1_501), commit.sync_begin().is_none()), (None, true), "one sync at a time");
    commit.begin(Sequence(2), Offset(20), 1_600);
    commit.written(Sequence(2));
    assert_eq!(commit.released(1_899), Offset(20));
    commit.begin(Sequence(3), Offset(30), 1_899);
    commit.written(Sequence(3));
    assert_eq!(commit.release_stops_at(), Some(1_900));
    assert_eq!(commit.released(1_900), Offset(20), "the sync hangs");
    commit.synced(ticket);
    assert_eq!((commit.released(2_000), commit.sync_due(2_000)), (Offset(30), Some(2_100)));
    assert_eq!(commit.durable_mark(), Sequence(1));
}

#[test]
fn nothing_is_released_after_a_failure() {
    for policy in POLICIES {
        let mut commit = fresh(policy);
        commit.begin(Sequence(1), Offset(10), 0);
        commit.written(Sequence(1));
        let before = commit.released(0);
        commit.begin(Sequence(2), Offset(20), 0);
        let ticket = commit.sync_begin();
        commit.failed();
        commit.written(Sequence(2));
        ticket.into_iter().for_each(|ticket| commit.synced(ticket));
        commit.begin(Sequence(3), Offset(30), 0);
        commit.written(Sequence(3));
        POLICIES.into_iter().for_each(|policy| {
            commit.set_policy(policy);
            assert_eq!(commit.released(0), before, "{policy:?}");
        });
        assert!(commit.sync_begin().is_none() && commit.sync_due(9_999).is_none() && commit.has_failed());
    }
}

#[test]
fn turning_to_always_syncs_what_came_before_first() {
    let mut commit = fresh(FsyncPolicy::No);
    commit.begin(Sequence(1), Offset(10), 0);
    commit.written(Sequence(1));
    assert_eq!((commit.released(0), commit.sync_due(9_000)), (Offset(10), None));
    commit.begin(Sequence(2), Offset(20), 0);
    commit.set_policy(FsyncPolicy::Always);
    commit.begin(Sequence(3), Offset(30), 0);
    commit.written(Sequence(3));
    commit.written(Sequence(2));
    assert_eq!((commit.released(0), commit.sync_due(1)), (Offset(10), Some(1)), "3 is on disk, but 2 is not");
    let ticket = commit.sync_begin().expect("a sync is due");
    commit.synced(ticket);
    assert_eq!((commit.released(0), commit.durable_mark()), (Offset(30), Sequence(3)));
}

#[test]
fn what_was_begun_under_always_waits_for_the_disk_after_a_switch() {
    let mut commit = fresh(FsyncPolicy::EverySec);
    commit.begin(Sequence(1), Offset(10), 0);
    commit.set_policy(FsyncPolicy::Always);
    commit.begin(Sequence(2), Offset(20), 0);
    commit.set_policy(FsyncPolicy::No);
    commit.written(Sequence(1));
    commit.written(Sequence(2));
    assert_eq!((commit.released(0), commit.sync_due(3)), (Offset(10), Some(3)));
    let ticket = commit.sync_begin().expect("a sync is due");
    commit.synced(ticket);
    assert_eq!(commit.released(0), Offset(20));
}
