//! Crashes one moment of a run in every way that matters: at each sector that is not certain to be on disk, torn there.

use super::disk::Disk;
use super::ledger::Ledgers;
use super::snapshots::Manifest;
use super::start::{Plan, start};
use fastrand::Rng;

#[derive(Default, Debug)]
pub struct Explorer {
    /// Moments that were looked at.
    pub points: u64,
    /// States that a start was made from.
    pub states: u64,
    /// The first state whose start was refused or wrong.
    pub problem: Option<String>,
}

impl Explorer {
    /// A killed process, and power cuts that leave: what is unsure up to each sector, each sector alone, all but that.
    pub fn visit(
        &mut self,
        disks: &[Disk],
        manifest: Manifest,
        ledgers: &mut Ledgers,
        horizon_ns: Option<u64>,
        seed: u64,
    ) {
        self.points += 1;
        let mut killed = disks.to_vec();
        let mut rng = Rng::with_seed(seed ^ self.points);
        killed.iter_mut().for_each(|disk| disk.kill(&mut rng));
        self.look(killed, manifest.kernel, ledgers, None, seed, "killed");

        let count = disks.iter().map(Disk::unsure_count).sum::<usize>();
        for at in 0..=count {
            self.cut(disks, manifest, ledgers, horizon_ns, seed, &|sector| sector < at);
            if at < count && count > 1 {
                self.cut(disks, manifest, ledgers, horizon_ns, seed, &|sector| sector == at);
                self.cut(disks, manifest, ledgers, horizon_ns, seed, &|sector| sector != at);
            }
        }
    }

    fn cut(
        &mut self,
        disks: &[Disk],
        mut manifest: Manifest,
        ledgers: &mut Ledgers,
        horizon_ns: Option<u64>,
        seed: u64,
        keeps: &dyn Fn(usize) -> bool,
    ) {
        let mut left = disks.to_vec();
        let mut sector = 0;
        for disk in &mut left {
            disk.cut_power(&mut |states| {
                sector += 1;
                if keeps(sector - 1) { states - 1 } else { 0 }
            });
        }
        manifest.cut_power(&mut |states| if keeps(sector) { states - 1 } else { 0 });
        self.look(left, manifest.disk, ledgers, horizon_ns, seed, "power cut");
    }

    fn look(
        &mut self,
        mut disks: Vec<Disk>,
        snapshot: Option<u64>,
        ledgers: &mut Ledgers,
        horizon_ns: Option<u64>,
        seed: u64,
        what: &str,
    ) {
        self.states += 1;
        let order = (0..disks.len()).collect::<Vec<_>>();
        let plan = Plan { steps: None, order: &order, seed, snapshot, careless: None };
        let found = match start(&mut disks, plan) {
            Ok(started) => ledgers.judge(&started, horizon_ns),
            Err(stop) => Err(format!("{stop:?}")),
        };
        if let Err(why) = found {
            let told = || format!("{what} at moment {}, state {}: {why}", self.points, self.states);
            self.problem.get_or_insert_with(told);
        }
    }
}
