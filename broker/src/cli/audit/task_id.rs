//! From the digits of a task's id that a person has before them to the id: `--task f6191d6d`.

use super::Place;
use super::records;
use crate::audit::Filter;
use crate::failure::Failure;
use crate::terminal::one_line;
use std::collections::BTreeSet;

/// Fewest digits: with fewer they fit too much by chance.
const DIGITS_MIN: usize = 4;
/// A whole id.
const DIGITS_MAX: usize = 32;
/// Ids that are named where the digits fit more than one.
const NAMED_MAX: usize = 8;

/// What the log knows of the task that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// None was asked for.
    Any,
    /// It is this one.
    Task(String),
    /// No record is of a task whose id begins so.
    Nowhere(String),
}

impl Known {
    /// What ids must begin with.
    pub fn filter(&self) -> Option<&str> {
        match self {
            Self::Any => None,
            Self::Task(id) => Some(id),
            Self::Nowhere(start) => Some(start),
        }
    }
}

/// Finds the one task whose id begins with `asked`. Digits that fit several are an error which names them: records of two
/// tasks must not be read as those of one.
pub fn find(places: &[Place], asked: Option<&str>) -> Result<Known, Failure> {
    let Some(asked) = asked else { return Ok(Known::Any) };
    let start = digits(asked)?;
    let filter = Filter { task: Some(start.clone()), ..Filter::default() };
    let mut found = BTreeSet::new();
    for place in places {
        for entry in records::read(place, &filter)? {
            found.extend(entry?.row.task);
            if found.len() > NAMED_MAX {
                return Err(several(&start, &found, " and others"));
            }
        }
    }
    match found.len() {
        0 => Ok(Known::Nowhere(start)),
        1 => Ok(found.pop_first().map_or(Known::Nowhere(start), Known::Task)),
        _ => Err(several(&start, &found, "")),
    }
}

fn several(start: &str, found: &BTreeSet<String>, more: &str) -> Failure {
    let ids: Vec<String> = found.iter().take(NAMED_MAX).map(|id| one_line(id, DIGITS_MAX)).collect();
    Failure::usage(format!("--task {start} fits more than one task: {}{more}; give more digits", ids.join(", ")))
}

fn digits(asked: &str) -> Result<String, Failure> {
    let fits = (DIGITS_MIN..=DIGITS_MAX).contains(&asked.len()) && asked.bytes().all(|b| b.is_ascii_hexdigit());
    if fits {
        return Ok(asked.to_ascii_lowercase());
    }
    Err(Failure::usage(format!(
        "--task {}: a task's id is {DIGITS_MAX} hexadecimal digits; give at least the first {DIGITS_MIN} of them",
        one_line(asked, 2 * DIGITS_MAX)
    )))
}
