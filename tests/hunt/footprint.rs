//! What one operation says about each key by itself: which version it found there, and which it left behind. Also
//! whether its own answers fit each other.

use super::history::{NIL, Op, Token, Version, Versions};
use super::model::{Answer, Call, Key};
use std::collections::{BTreeMap, HashMap};

/// Where each token stands in the values that were seen: the version that ends with it. A token seen behind two
/// different lists is a contradiction by itself.
pub struct Seen {
    by_token: HashMap<Token, Version>,
    pub contradiction: Option<(Version, Version)>,
}

impl Seen {
    pub fn new(ops: &[Op], versions: &Versions) -> Seen {
        let mut seen = Seen { by_token: HashMap::new(), contradiction: None };
        for (_, answer) in ops.iter().flat_map(|op| &op.calls) {
            match answer {
                Answer::Value(version) => seen.add(*version, versions),
                Answer::Values(several) => several.iter().for_each(|version| seen.add(*version, versions)),
                Answer::Done | Answer::Count(_) | Answer::NoKey | Answer::Unknown => {}
            }
        }
        seen
    }

    fn add(&mut self, version: Version, versions: &Versions) {
        let mut at = version;
        while let Some((parent, token)) = versions.parent(at) {
            match self.by_token.insert(token, at) {
                Some(same) if same == at => return,
                Some(other) => self.contradiction = Some((other, at)),
                None => {}
            }
            at = parent;
        }
    }

    pub fn of(&self, token: Token) -> Option<Version> {
        self.by_token.get(&token).copied()
    }
}

/// What an operation did to a key.
#[derive(Clone, Debug, Default)]
pub struct Touch {
    /// What it found, as far as its answers tell.
    pub found: Option<Version>,
    pub left: Left,
    /// Versions that existed inside the operation only.
    pub between: Vec<Version>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Left {
    /// Nothing written.
    #[default]
    AsFound,
    Wrote(Version),
    /// An APPEND whose place nobody saw: a version of its own, nothing more is known.
    Unseen,
    /// A value moved from a key that wasn't read, or a condition whose outcome is unknown: anything.
    Anything,
}

/// The touch of every key, or what is wrong within the operation.
pub fn footprint(op: &Op, seen: &Seen, versions: &mut Versions) -> Result<BTreeMap<Key, Touch>, String> {
    let mut cells: BTreeMap<Key, Cell> = BTreeMap::new();
    for (call, answer) in &op.calls {
        cells.extend(
            call.keys()
                .into_iter()
                .filter(|key| !cells.contains_key(key))
                .map(|key| (key, Cell::default()))
                .collect::<Vec<_>>(),
        );
        follow(call, answer, &mut cells, versions)?;
    }
    cells.into_iter().map(|(key, cell)| Ok((key, cell.finish(seen, versions)?))).collect()
}

fn follow(
    call: &Call,
    answer: &Answer,
    cells: &mut BTreeMap<Key, Cell>,
    versions: &mut Versions,
) -> Result<(), String> {
    let cell = |key: &Key, cells: &mut BTreeMap<Key, Cell>| -> Cell { std::mem::take(cells.entry(*key).or_default()) };
    match (call, answer) {
        (Call::Get(key), Answer::Value(version)) => cells.entry(*key).or_default().learn(*version, versions)?,
        (Call::Mget(keys), Answer::Values(several)) => {
            for (key, version) in keys.iter().zip(several) {
                cells.entry(*key).or_default().learn(*version, versions)?;
            }
        }
        (Call::GetSet(key, token), answer) => {
            let cell = cells.entry(*key).or_default();
            if let Answer::Value(version) = answer {
                cell.learn(*version, versions)?;
            }
            cell.write(versions.child(NIL, *token));
        }
        (Call::Set(key, token), _) => cells.entry(*key).or_default().write(versions.child(NIL, *token)),
        (Call::Append(key, token), answer) => {
            let cell = cells.entry(*key).or_default();
            cell.append(*token, versions);
            if let Answer::Count(len) = answer {
                cell.learn_len(*len, versions)?;
            }
        }
        (Call::Mset(writes), _) => write_all(writes, cells, versions),
        (Call::Msetnx(writes), Answer::Count(1)) => {
            for (key, _) in writes {
                cells.entry(*key).or_default().learn(NIL, versions)?;
            }
            write_all(writes, cells, versions);
        }
        (Call::Msetnx(_), Answer::Count(_)) => {}
        (Call::Msetnx(writes), _) => {
            writes.iter().for_each(|(key, _)| cells.entry(*key).or_default().forget());
        }
        (Call::Del(keys), answer) => {
            for key in keys {
                let cell = cells.entry(*key).or_default();
                // With one key the answer tells what was there.
                if keys.len() == 1 && *answer == Answer::Count(0) {
                    cell.learn(NIL, versions)?;
                } else {
                    cell.write(NIL);
                }
            }
        }
        (Call::Rename(from, _), Answer::NoKey) => cells.entry(*from).or_default().learn(NIL, versions)?,
        (Call::Copy(from, _), Answer::Count(0)) => cells.entry(*from).or_default().learn(NIL, versions)?,
        (Call::Rename(from, to), answer) => {
            let mut source = cell(from, cells);
            let mut target = cell(to, cells);
            match (source.known(), answer) {
                (Some(NIL), Answer::Done) => return Err("RENAME moved what was not there".to_string()),
                (Some(version), Answer::Done) => target.write(version),
                (Some(_) | None, _) => target.forget(),
            }
            if *answer == Answer::Done {
                source.write(NIL);
            } else {
                source.forget();
            }
            cells.extend([(*from, source), (*to, target)]);
        }
        (Call::Copy(from, to), answer) => {
            let source = cells.entry(*from).or_default().known();
            let target = cells.entry(*to).or_default();
            match (source, answer) {
                (Some(NIL), Answer::Count(_)) => return Err("COPY copied what was not there".to_string()),
                (Some(version), Answer::Count(_)) => target.write(version),
                (Some(_) | None, _) => target.forget(),
            }
        }
        (Call::Get(_) | Call::Mget(_), Answer::Unknown) => {}
        (Call::Get(_) | Call::Mget(_), other) => return Err(format!("a read was answered with {other:?}")),
    }
    Ok(())
}

fn write_all(writes: &[(Key, Token)], cells: &mut BTreeMap<Key, Cell>, versions: &mut Versions) {
    for (key, token) in writes {
        cells.entry(*key).or_default().write(versions.child(NIL, *token));
    }
}

/// A key in the course of an operation.
#[derive(Clone, Debug, Default)]
struct Cell {
    found: Option<Version>,
    now: Content,
    between: Vec<Version>,
    wrote: bool,
}

#[derive(Clone, Debug)]
enum Content {
    Known(Version),
    /// What was found, which is not known, and these tokens.
    Found(Vec<Token>),
    Anything,
}

impl Default for Content {
    fn default() -> Self {
        Content::Found(Vec::new())
    }
}

impl Cell {
    fn known(&self) -> Option<Version> {
        match self.now {
            Content::Known(version) => Some(version),
            Content::Found(_) | Content::Anything => None,
        }
    }

    fn learn(&mut self, version: Version, versions: &Versions) -> Result<(), String> {
        match &self.now {
            Content::Known(expected) if *expected == version => {}
            Content::Known(expected) => {
                let (saw, expected) = (versions.show(version), versions.show(*expected));
                return Err(format!("it saw {saw} where it must see {expected} by its own earlier calls"));
            }
            Content::Found(appended) => {
                let mut base = version;
                for token in appended.iter().rev() {
                    match versions.parent(base) {
                        Some((parent, last)) if last == *token => base = parent,
                        Some(_) | None => {
                            let saw = versions.show(version);
                            return Err(format!("it saw {saw}, which does not end with what it appended before"));
                        }
                    }
                }
                self.resolve(base, version, versions);
            }
            // A moved value is first seen here.
            Content::Anything => self.now = Content::Known(version),
        }
        Ok(())
    }

    /// What was found turns out to be `base`, and with the tokens appended it is `version`.
    fn resolve(&mut self, base: Version, version: Version, versions: &Versions) {
        self.found = Some(base);
        self.now = Content::Known(version);
        let mut at = versions.parent(version).map(|(parent, _)| parent);
        while let Some(between) = at.filter(|between| version != base && *between != base) {
            self.between.push(between);
            at = versions.parent(between).map(|(parent, _)| parent);
        }
    }

    fn learn_len(&mut self, len: u64, versions: &mut Versions) -> Result<(), String> {
        match &self.now {
            Content::Known(version) if u64::from(versions.len(*version)) == len => Ok(()),
            Content::Known(version) => {
                Err(format!("APPEND made a list of {len}, but to {} it belongs", versions.show(*version)))
            }
            Content::Found(appended) if appended.len() as u64 == len => {
                let version = appended.clone().into_iter().fold(NIL, |version, token| versions.child(version, token));
                self.resolve(NIL, version, versions);
                Ok(())
            }
            Content::Found(_) | Content::Anything => Ok(()),
        }
    }

    fn write(&mut self, version: Version) {
        if let (true, Content::Known(old)) = (self.wrote, &self.now) {
            self.between.push(*old);
        }
        self.now = Content::Known(version);
        self.wrote = true;
    }

    fn append(&mut self, token: Token, versions: &mut Versions) {
        match &mut self.now {
            Content::Known(version) => {
                let longer = versions.child(*version, token);
                self.write(longer);
            }
            Content::Found(appended) => {
                appended.push(token);
                self.wrote = true;
            }
            Content::Anything => self.wrote = true,
        }
    }

    fn forget(&mut self) {
        self.now = Content::Anything;
        self.wrote = true;
    }

    fn finish(mut self, seen: &Seen, versions: &Versions) -> Result<Touch, String> {
        if let Content::Found(appended) = &self.now
            && let Some(version) = appended.last().and_then(|token| seen.of(*token))
        {
            // Somebody saw where the tokens went.
            self.learn(version, versions).map_err(|why| format!("by what others saw, {why}"))?;
        }
        let left = match (self.wrote, self.now) {
            (false, _) => Left::AsFound,
            (true, Content::Known(version)) => Left::Wrote(version),
            (true, Content::Found(_)) => Left::Unseen,
            (true, Content::Anything) => Left::Anything,
        };
        self.between.retain(|version| left != Left::Wrote(*version));
        Ok(Touch { found: self.found, left, between: self.between })
    }
}
