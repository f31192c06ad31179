//! Process groups that programs believe to have made, where the kernel confines no signals and nobody leaves the command's one
//! group (`kin.rs`).
//!
//! `timeout`, and shells with job control, put themselves or a child into a group of its own, go on where that is refused, and
//! signal the group. So what they asked for is noted here, and a signal to a group reaches who would be in it: the process that
//! was put there and what it forked, as far as parents tell. It only ever narrows whom a signal reaches; whether a process is the
//! command's at all is asked again for each (T-07). What the command claims is bounded (T-06), and of orphans nothing is
//! known: they count for the command's own group again.

use super::kin::Kin;
use nix::errno::Errno;
use nix::unistd::Pid;
use std::collections::BTreeMap;
use warden_jail::signals::{Regroup, Tree};

/// Processes whose group is noted.
const CLAIMS_MAX: usize = 1024;
/// Parents of parents; a tree that is deeper than it may have processes is none.
const DEPTH_MAX: usize = 4096;

/// Who belongs to a command, and in which group each believes to be.
#[derive(Debug)]
pub struct Believed {
    kin: Kin,
    claims: BTreeMap<i32, Claim>,
}

/// What was asked for a process.
#[derive(Debug, Clone, Copy)]
struct Claim {
    /// When it started: by that alone it is known from one that has its number later.
    started: u64,
    group: i32,
}

/// Of `/proc/N/stat`.
#[derive(Debug, Clone, Copy)]
struct Birth {
    parent: i32,
    started: u64,
}

impl Believed {
    /// Of a command of which nobody has asked for anything.
    pub fn new(kin: Kin) -> Self {
        Self { kin, claims: BTreeMap::new() }
    }

    /// Notes what was asked for; that it is refused is said to who asks in every case.
    pub fn note(&mut self, asked: Regroup) {
        let Regroup { process, group } = asked;
        let joins = group == process || self.claims.values().any(|claim| claim.group == group);
        let ours = |number: i32| self.kin.has(Pid::from_raw(number));
        // A process that goes back to the command's own group is in it by having no entry, unless it inherits one.
        if !(joins || group == self.kin.group()) || !ours(process) {
            return;
        }
        if self.claims.len() >= CLAIMS_MAX {
            self.claims.retain(|process, claim| birth(*process).is_ok_and(|birth| birth.started == claim.started));
        }
        if let (Ok(Birth { started, .. }), true) = (birth(process), self.claims.len() < CLAIMS_MAX) {
            self.claims.insert(process, Claim { started, group });
        }
    }

    /// The group of a process: its own claim's, or that of the next above it who has one.
    fn group_of(&self, process: i32) -> i32 {
        let mut at = process;
        for _ in 0..DEPTH_MAX {
            let Ok(Birth { parent, started }) = birth(at) else { break };
            match self.claims.get(&at) {
                Some(claim) if claim.started == started => return claim.group,
                _ if at == self.kin.group() => break,
                _ => at = parent,
            }
        }
        self.kin.group()
    }

    fn members(&self, group: i32) -> Vec<i32> {
        self.kin.all().into_iter().filter(|process| self.group_of(*process) == group).collect()
    }
}

impl Tree for Believed {
    fn has(&self, process: i32) -> bool {
        self.kin.has(Pid::from_raw(process))
    }

    fn all(&self) -> Vec<i32> {
        self.kin.all()
    }

    fn group(&self) -> i32 {
        self.kin.group()
    }

    fn group_around(&self, process: i32) -> Option<Vec<i32>> {
        (!self.claims.is_empty()).then(|| self.members(self.group_of(process)))
    }

    fn group_named(&self, number: i32) -> Option<Vec<i32>> {
        let known = number == self.kin.group() || self.claims.values().any(|claim| claim.group == number);
        (known && !self.claims.is_empty()).then(|| self.members(number))
    }
}

fn birth(process: i32) -> nix::Result<Birth> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).map_err(|_| Errno::ESRCH)?;
    // The program's name, which is its own choice, stands in parentheses and is the only field that holds any.
    let (_, fields) = text.rsplit_once(") ").ok_or(Errno::ESRCH)?;
    let mut fields = fields.split(' ').skip(1);
    let parent = fields.next().and_then(|field| field.parse().ok());
    let started = fields.nth(17).and_then(|field| field.parse().ok());
    parent.zip(started).map(|(parent, started)| Birth { parent, started }).ok_or(Errno::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_birth_is_read_whatever_a_program_calls_itself() {
        let own = birth(Pid::this().as_raw()).unwrap();
        assert_eq!(own.parent, nix::unistd::getppid().as_raw());
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let started = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap();
        assert_eq!(own.started.to_string(), started);
        assert!(birth(i32::MAX).is_err());
    }
}
