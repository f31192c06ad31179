//! Properties of decisions over made-up policies and calls: no layer is ever overruled, and deny wins in any order (T-10).

use super::*;
use crate::glob::Glob;
use crate::model::{Access, Layer, Policy, Scope, Workspace};
use proptest::prelude::*;

const LABELS: [&str; 3] = ["a", "b", "c"];
const ROOTS: [&str; 5] = ["/w", "/w/x", "/w/x/y", "/w/z", "/v"];
const GLOBS: [&str; 9] = ["**/k", "x", "x/y", "*/k", "**/x/**", "y/**", "z*", "x/**/k", "**"];
const PATHS: [&str; 9] = ["k", "x", "x/k", "x/y/k", "z", "zz/k", "y/x/k", ".git/config", "n"];

fn globs() -> impl Strategy<Value = Vec<Glob>> {
    proptest::collection::vec(0..GLOBS.len(), 0..3)
        .prop_map(|picks| picks.into_iter().map(|pick| Glob::parse(GLOBS[pick]).unwrap()).collect())
}

fn workspace(label: &'static str) -> impl Strategy<Value = Workspace> {
    (0..ROOTS.len(), any::<bool>(), globs(), globs(), any::<bool>()).prop_map(
        move |(root, write, deny, deny_write, allow_run_later)| {
            let access = if write { Access::ReadWrite } else { Access::ReadOnly };
            Workspace { deny, deny_write, allow_run_later, ..Workspace::new(label, ROOTS[root], access) }
        },
    )
}

fn policy(scope: Scope) -> impl Strategy<Value = Policy> {
    (proptest::option::weighted(0.9, (workspace("a"), workspace("b"), workspace("c"))), 1usize..4).prop_map(
        move |(workspaces, count)| {
            let mut policy = Policy::empty("made up", scope);
            policy.workspaces = workspaces.map(|(a, b, c)| [a, b, c].into_iter().take(count).collect());
            // A request has no word on what runs later outside: the policies above it have.
            for workspace in policy.workspaces.iter_mut().flatten().filter(|_| scope == Scope::Request) {
                workspace.allow_run_later = true;
            }
            policy
        },
    )
}

fn layers() -> impl Strategy<Value = [Option<Policy>; 3]> {
    (
        proptest::option::of(policy(Scope::Whole)),
        proptest::option::of(policy(Scope::Whole)),
        proptest::option::of(policy(Scope::Request)),
    )
        .prop_map(|(system, user, task)| [system, user, task])
}

fn call(op: FsOp, path: &str) -> Call<'_> {
    Call::Fs { op, path: PathArg::Text(path), to: None, intent: Intent::WRITE }
}

/// Whether one policy alone would do this to a host path, by any of its workspaces.
fn allows_alone(policy: &Policy, layer: Layer, op: FsOp, host: &std::path::Path) -> bool {
    let [system, user, task] = Layer::ALL.map(|each| (each == layer).then(|| policy.clone()));
    let alone = Effective::combine(system, user, task).unwrap();
    alone.workspaces().to_vec().iter().any(|workspace| {
        host.strip_prefix(&workspace.path).is_ok_and(|relative| {
            let text = format!("{}:{}", workspace.label, relative.display());
            matches!(alone.decide(&call(op, &text)), Ok(Verdict::Allow(_)))
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_all_allow_each_allows(given in layers(), op in 0..FsOp::ALL.len(), label in 0..3usize, path in 0..PATHS.len()) {
        let op = FsOp::ALL[op];
        prop_assume!(op != FsOp::Rename);
        let [system, user, task] = given.clone();
        // A request wider than its ceiling is refused whole: nothing to check.
        let Ok(effective) = Effective::combine(system, user, task) else { return Ok(()) };
        let text = format!("{}:{}", LABELS[label], PATHS[path]);
        if let Ok(Verdict::Allow(grant)) = effective.decide(&call(op, &text)) {
            let GrantScope::Fs(scope) = &grant.scope else { panic!("{grant:?}") };
            let host = effective.workspaces()[scope.workspace].path.join(scope.path.relative());
            for (layer, policy) in Layer::ALL.into_iter().zip(given) {
                let Some(policy) = policy else { continue };
                if policy.scope == Scope::Whole || policy.workspaces.is_some() {
                    prop_assert!(allows_alone(&policy, layer, op, &host) , "{layer:?} denies {op:?} of {host:?}");
                }
            }
        }
    }

    #[test]
    fn deny_wins_in_any_order(mut one in policy(Scope::Whole), op in 0..FsOp::ALL.len(), path in 0..PATHS.len()) {
        let op = FsOp::ALL[op];
        prop_assume!(op != FsOp::Rename);
        let verdicts = |policy: &Policy| {
            let effective = Effective::combine(None, Some(policy.clone()), None).unwrap();
            LABELS.map(|label| {
                let text = format!("{label}:{}", PATHS[path]);
                // Which workspace lacks its label does not depend on the order either.
                matches!(effective.decide(&call(op, &text)), Ok(Verdict::Allow(_)))
            })
        };
        let before = verdicts(&one);
        for workspace in one.workspaces.iter_mut().flatten() {
            workspace.deny.reverse();
            workspace.deny_write.reverse();
        }
        if let Some(list) = one.workspaces.as_mut() {
            list.reverse();
        }
        prop_assert_eq!(before, verdicts(&one));
    }

    #[test]
    fn a_denied_path_is_never_granted(one in policy(Scope::Whole), op in 0..FsOp::ALL.len(), path in 0..PATHS.len()) {
        let op = FsOp::ALL[op];
        prop_assume!(op != FsOp::Rename);
        let effective = Effective::combine(None, Some(one.clone()), None).unwrap();
        for own in one.workspaces.iter().flatten() {
            let text = format!("{}:{}", own.label, PATHS[path]);
            let host = own.path.join(PATHS[path]);
            let denied = one.workspaces.iter().flatten().any(|other| {
                host.strip_prefix(&other.path).is_ok_and(|relative| {
                    other.deny.iter().any(|glob| glob.covers(relative.to_str().unwrap()))
                })
            });
            if denied {
                prop_assert!(matches!(effective.decide(&call(op, &text)), Ok(Verdict::Deny(_))), "{text}");
            }
        }
    }

    #[test]
    fn no_text_makes_a_decision_panic(text in "\\PC{0,60}", other in "\\PC{0,20}", capability in "[a-z._-]{0,20}") {
        let one = Policy::empty("made up", Scope::Whole);
        let effective = Effective::combine(None, Some(one), None).unwrap();
        let _ = effective.decide(&call(FsOp::Open, &text));
        let _ = effective.decide(&Call::Named { capability: &capability });
        let _ = effective.explain_words(&capability, &[&text, &other]);
        let spawn = Call::Spawn {
            kind: SpawnKind::Start, command: &text, args: &[&other], cwd: Some(PathArg::Text(&other)), env_names: &[&text], timeout: None,
        };
        let _ = effective.decide(&spawn);
    }
}
