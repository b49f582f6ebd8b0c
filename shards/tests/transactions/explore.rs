//! In which order things happen: all orders there are, or some at random.

use super::plan::Case;
use super::world::{Action, Violation, World};
use std::collections::HashSet;

#[derive(Clone, Copy, Default, Debug)]
pub struct Explored {
    pub states: usize,
    pub ends: usize,
    /// The most that anybody yielded in one run.
    pub yields_max: usize,
    /// False if the limit came first.
    pub complete: bool,
}

#[derive(Debug)]
pub struct Found {
    pub violation: Violation,
    #[allow(dead_code, reason = "printed")]
    pub schedule: Vec<Action>,
}

struct Branch<'a> {
    world: World<'a>,
    actions: Vec<Action>,
    next: usize,
}

/// Every state that can be reached. Since no state comes again on its own way (actions are used up, attempts are counted),
/// that this ends shows that every schedule ends.
pub fn all_orders(case: &Case, states_max: usize) -> Result<Explored, Found> {
    let mut explored = Explored { states: 1, complete: true, ..Explored::default() };
    let mut seen: HashSet<u64, ahash::RandomState> = HashSet::with_hasher(ahash::RandomState::with_seeds(5, 6, 7, 8));
    let mut path = vec![branch(World::new(case))];
    while let Some(branch_here) = path.last_mut() {
        let Some(action) = branch_here.actions.get(branch_here.next).copied() else {
            if branch_here.actions.is_empty() {
                explored.ends += 1;
                explored.yields_max = explored.yields_max.max(branch_here.world.yields);
                if let Err(violation) = branch_here.world.end() {
                    return Err(found(violation, &path));
                }
            }
            path.pop();
            continue;
        };
        branch_here.next += 1;
        let mut world = branch_here.world.clone();
        if let Err(violation) = world.apply(action) {
            return Err(found(violation, &path));
        }
        if seen.insert(world.digest()) {
            explored.states += 1;
            if explored.states >= states_max {
                return Ok(Explored { complete: false, ..explored });
            }
            path.push(branch(world));
        }
    }
    Ok(explored)
}

fn branch(world: World<'_>) -> Branch<'_> {
    let mut actions = Vec::new();
    world.actions(&mut actions);
    Branch { world, actions, next: 0 }
}

fn found(violation: Violation, path: &[Branch<'_>]) -> Found {
    let taken = path.iter().filter(|branch| branch.next > 0).map(|branch| branch.actions[branch.next - 1]);
    Found { violation, schedule: taken.collect() }
}

/// One order: every shard and kind of action has a pace of its own, and some shards sleep for long.
pub fn one_order(case: &Case, random: &mut fastrand::Rng) -> Result<Explored, Found> {
    let mut world = World::new(case);
    let mut pace: Vec<u32> = (0..case.shards).map(|_| 1 << random.u32(0..6)).collect();
    // How far ages and the order of beginning may differ.
    let window = 1 << random.u32(0..6);
    let (mut actions, mut schedule) = (Vec::new(), Vec::new());
    loop {
        world.actions(&mut actions);
        let first = actions.iter().find_map(|action| if let Action::Begin(one) = action { Some(*one) } else { None });
        let soon = |action: &Action| !matches!(action, Action::Begin(one) if *one >= first.unwrap_or(0) + window);
        actions.retain(soon);
        if actions.is_empty() {
            let explored = Explored { states: schedule.len(), ends: 1, yields_max: world.yields, complete: true };
            return world.end().map(|()| explored).map_err(|violation| Found { violation, schedule });
        }
        if random.u32(0..40) == 0 {
            let sleeper = random.usize(0..case.shards);
            pace[sleeper] = if random.bool() { 0 } else { 1 << random.u32(0..6) };
        }
        let total: u32 = actions.iter().map(|action| pace[world.busy(*action)]).sum();
        let action = if total == 0 {
            actions[random.usize(0..actions.len())]
        } else {
            let mut left = random.u32(0..total);
            let chosen = actions.iter().find(|action| {
                let weight = pace[world.busy(**action)];
                let here = left < weight;
                left = left.saturating_sub(weight);
                here
            });
            *chosen.expect("the weights add up")
        };
        schedule.push(action);
        if let Err(violation) = world.apply(action) {
            return Err(Found { violation, schedule });
        }
    }
}
