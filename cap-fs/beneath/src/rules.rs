//! The deny rules of one workspace and what they say about a path.
//!
//! Runs in the process that acts. A rule is asked about where something really lies and about the name that was asked for; either is
//! enough to deny, and deny wins whatever the order (T-01, T-02).

use crate::glob::{Case, Glob, GlobError, Places, Spelling};
use crate::paths::RelPath;
use warden_proto::msg::fs::{PathRuleSetup, RuleKind};

/// What a call wants with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// To read it, list it, learn about it.
    See,
    /// To write, make, remove or rename it.
    Change,
}

impl Rule {
    /// Whether it takes this away from what it covers.
    pub fn forbids(&self, want: Want) -> bool {
        match self.kind {
            RuleKind::Deny => true,
            RuleKind::DenyWrite => want == Want::Change,
        }
    }
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    glob: Glob,
    /// What it takes away.
    pub kind: RuleKind,
    /// For the denial.
    pub id: String,
}

/// The rules of a workspace.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
}

/// The rules' state after a directory's names: one [`Places`] for each rule, with and without case.
#[derive(Debug, Clone)]
pub struct Standing {
    places: Vec<(usize, Places, Places)>,
}

/// What the rules say about a path.
#[derive(Debug, Clone, Copy, Default)]
pub struct Judgement<'r> {
    /// This rule says no.
    pub exact: Option<&'r Rule>,
    /// This one says no if names compare without case there.
    pub folded: Option<&'r Rule>,
}

impl Rules {
    /// Takes the rules of a setup document.
    pub fn parse(setup: &[PathRuleSetup]) -> Result<Self, GlobError> {
        let rule = |rule: &PathRuleSetup| {
            Ok(Rule { glob: Glob::parse(&rule.glob)?, kind: rule.kind, id: rule.rule.as_str().to_owned() })
        };
        Ok(Self { rules: setup.iter().map(rule).collect::<Result<_, _>>()? })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rule with this number.
    pub fn get(&self, index: usize) -> Option<&Rule> {
        self.rules.get(index)
    }

    /// Whether some rule hides things, not only keeps them unchanged.
    pub fn hide(&self) -> bool {
        self.rules.iter().any(|rule| rule.kind == RuleKind::Deny)
    }

    /// The state at the workspace's root.
    pub fn start(&self) -> Standing {
        let places = self.rules.iter().enumerate().map(|(index, rule)| (index, rule.glob.start(), rule.glob.start()));
        Standing { places: places.collect() }
    }

    /// The state one name further.
    pub fn advance(&self, standing: &Standing, name: &[u8]) -> Standing {
        let name = Spelling::of(name);
        let next = |(index, exact, folded): &(usize, Places, Places)| {
            let glob = &self.rules.get(*index)?.glob;
            let exact = glob.advance(*exact, &name, Case::Exact);
            let folded = glob.advance(*folded, &name, Case::Folded);
            (!exact.is_dead() || !folded.is_dead()).then_some((*index, exact, folded))
        };
        Standing { places: standing.places.iter().filter_map(next).collect() }
    }

    /// The state after all names of a path.
    pub fn at(&self, path: &RelPath) -> Standing {
        path.names().fold(self.start(), |standing, name| self.advance(&standing, name))
    }

    /// The same, but of the rules alone that forbid this: the only ones whose word counts for it.
    pub fn against(&self, path: &RelPath, want: Want) -> Standing {
        let mut start = self.start();
        start.places.retain(|(index, ..)| self.get(*index).is_some_and(|rule| rule.forbids(want)));
        path.names().fold(start, |standing, name| self.advance(&standing, name))
    }

    /// What the rules say at a state. A `deny` is named before a `deny_write`.
    pub fn judge(&self, standing: &Standing, want: Want) -> Judgement<'_> {
        let find = |covered: fn(&(usize, Places, Places)) -> bool| {
            let matching = standing.places.iter().filter(|entry| covered(entry));
            let rules = matching.filter_map(|(index, ..)| self.rules.get(*index));
            rules.filter(|rule| rule.forbids(want)).min_by_key(|rule| rule.kind != RuleKind::Deny)
        };
        Judgement { exact: find(|(_, exact, _)| exact.covered()), folded: find(|(_, _, folded)| folded.covered()) }
    }

    /// Whether any rule covers a name in a directory, with or without case: what a walk asks of every name, without
    /// building the state that only few names need.
    pub fn may_cover(&self, standing: &Standing, name: &[u8]) -> bool {
        let name = Spelling::of(name);
        standing.places.iter().any(|(index, exact, folded)| {
            self.rules.get(*index).is_some_and(|rule| {
                rule.glob.advance(*exact, &name, Case::Exact).covered()
                    || rule.glob.advance(*folded, &name, Case::Folded).covered()
            })
        })
    }

    /// The number of the first rule that covers a state, the hiding ones first.
    pub fn covering(&self, standing: &Standing, case: Case) -> Option<usize> {
        let covered = |exact: &Places, folded: &Places| match case {
            Case::Exact => exact.covered(),
            Case::Folded => folded.covered(),
        };
        let matching = standing.places.iter().filter(|(_, exact, folded)| covered(exact, folded));
        matching.map(|(index, ..)| *index).min_by_key(|index| self.get(*index).map(|rule| rule.kind != RuleKind::Deny))
    }

    /// A rule by which a directory's own names decide what is covered beneath it: it stays where it is.
    pub fn pinning(&self, standing: &Standing, case: Case) -> Option<&Rule> {
        let pins = |(index, exact, folded): &&(usize, Places, Places)| {
            let places = if case == Case::Exact { exact } else { folded };
            self.rules.get(*index).is_some_and(|rule| rule.glob.pins(*places))
        };
        standing.places.iter().find(pins).and_then(|(index, ..)| self.rules.get(*index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warden_proto::Text;

    /// Rules from `(glob, kind)`, their ids `rule[n]`.
    fn setup(rules: &[(&str, RuleKind)]) -> Vec<PathRuleSetup> {
        let one = |(index, (glob, kind)): (usize, &(&str, RuleKind))| PathRuleSetup {
            glob: Text::new(*glob).unwrap(),
            kind: *kind,
            rule: Text::new(format!("rule[{index}]")).unwrap(),
        };
        rules.iter().enumerate().map(one).collect()
    }

    #[test]
    fn deny_wins_over_deny_write_and_reading_is_left_by_the_second() {
        let rules = Rules::parse(&setup(&[("a/**", RuleKind::DenyWrite), ("**/.env", RuleKind::Deny)])).unwrap();
        let rule = |path: &str, want| {
            let standing = rules.at(&RelPath::parse(path).unwrap());
            rules.judge(&standing, want).exact.map(|rule| rule.id.clone())
        };
        assert_eq!(rule("a/.env", Want::Change).as_deref(), Some("rule[1]"));
        assert_eq!(rule("a/x", Want::Change).as_deref(), Some("rule[0]"));
        assert_eq!(rule("a/x", Want::See), None);
        assert_eq!(rule("a", Want::Change), None);
        assert_eq!(rule("b", Want::Change), None);
    }

    #[test]
    fn a_rule_that_matches_only_without_case_is_told_apart() {
        let rules = Rules::parse(&setup(&[("Makefile", RuleKind::Deny)])).unwrap();
        let judgement = rules.judge(&rules.at(&RelPath::parse("makefile").unwrap()), Want::See);
        assert!(judgement.exact.is_none() && judgement.folded.is_some());
    }
}
