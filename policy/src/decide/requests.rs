//! A guest's request for a capability: answered with what the policy already says of the calls it would make (T-10).
//!
//! A request widens nothing. It is granted only where an actual call of that kind, on that scope, would be.

use super::{Call, Denial, Effective, FsOp, Grant, GrantScope, Intent, PathArg, SpawnKind, Verdict};
use crate::capability::canonical;
use crate::layer::{DEFAULT_DENY, command_layers};
use crate::model::Access;
use crate::path::InvalidArgument;

/// Argument lists that are tried to see whether a command may be started at all.
const ATTEMPTS_MAX: usize = 256;

/// What a request comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// Such calls are allowed; a command among them has these hosts.
    Granted { rule: String, network: Vec<String> },
    /// Such calls are denied.
    Refused { rule: String, reason: String },
    /// A person is asked before such a call.
    Asks { rule: String },
}

impl Answered {
    fn granted(rule: &str) -> Answered {
        Answered::Granted { rule: rule.to_owned(), network: Vec::new() }
    }

    fn refused(reason: &str) -> Answered {
        Answered::Refused { rule: DEFAULT_DENY.to_owned(), reason: reason.to_owned() }
    }

    fn is_granted(&self) -> bool {
        matches!(self, Answered::Granted { .. })
    }

    fn of(verdict: Verdict) -> Answered {
        match verdict {
            Verdict::Deny(Denial { rule, reason, .. }) => Answered::Refused { rule, reason },
            Verdict::Allow(Grant { approval: Some(rule), .. }) => Answered::Asks { rule },
            Verdict::Allow(Grant { rules, scope, .. }) => Answered::Granted {
                rule: rules.into_iter().next_back().unwrap_or_default(),
                network: if let GrantScope::Proc(grant) = scope { grant.network } else { Vec::new() },
            },
        }
    }
}

impl Effective {
    /// Answers a request. `scope` is a path (`label:relative`) for `fs.*` and a command's name for `proc.*`; without it the
    /// question is whether any such call is allowed.
    pub fn answer_request(&self, capability: &str, scope: Option<&str>) -> Result<Answered, InvalidArgument> {
        let name = canonical(capability);
        match (name.split_once('.').map_or(name.as_str(), |(family, _)| family), scope) {
            ("fs", Some(path)) => self.request_path(&name, path),
            ("fs", None) => Ok(self.request_any_path(&name)),
            ("proc", Some(command)) => self.request_command(&name, command),
            ("proc", None) => self.request_any_command(&name),
            _ => {
                let whole = match name.as_str() {
                    "llm" => "llm.complete",
                    "policy" => "policy.describe",
                    other => other,
                };
                self.decide(&Call::Named { capability: whole }).map(Answered::of)
            }
        }
    }

    fn request_path(&self, name: &str, path: &str) -> Result<Answered, InvalidArgument> {
        let Some(op) = FsOp::ALL.into_iter().find(|op| op.capability() == name) else {
            return Ok(Answered::refused("there is no such capability"));
        };
        let path = PathArg::Text(path);
        let to = (op == FsOp::Rename).then_some(path);
        self.decide(&Call::Fs { op, path, to, intent: Intent::READ }).map(Answered::of)
    }

    fn request_any_path(&self, name: &str) -> Answered {
        let op = FsOp::ALL.into_iter().find(|op| op.capability() == name);
        let Some(intent) = op.map(|op| op.intent(Intent::READ)).or((name == "fs").then_some(Intent::READ)) else {
            return Answered::refused("there is no such capability");
        };
        if let Some(rule) = self.approval(name) {
            return Answered::Asks { rule: rule.to_owned() };
        }
        let fits = |access: Access| access == Access::ReadWrite || !intent.changes();
        match self.workspaces.iter().find(|workspace| fits(workspace.access)) {
            Some(workspace) => Answered::granted(&workspace.rule),
            None if self.workspaces.is_empty() => Answered::refused("the task has no workspace"),
            None => Answered::refused("every workspace of the task is read-only"),
        }
    }

    fn request_command(&self, name: &str, command: &str) -> Result<Answered, InvalidArgument> {
        match name {
            "proc.spawn" | "proc" => self.request_start(SpawnKind::Spawn, command),
            "proc.start" => self.request_start(SpawnKind::Start, command),
            // There is no process to do it with where none may be started.
            _ => match self.request_start(SpawnKind::Start, command)? {
                Answered::Granted { .. } => self.decide(&Call::Process { capability: name, command }).map(Answered::of),
                other => Ok(other),
            },
        }
    }

    fn request_any_command(&self, name: &str) -> Result<Answered, InvalidArgument> {
        let mut last = Answered::refused("the task has no command");
        for command in &self.commands {
            last = self.request_command(name, &command.name)?;
            if last.is_granted() {
                break;
            }
        }
        Ok(last)
    }

    /// Whether some list of arguments may be given to a command. What all layers' shapes have in common is not worked out:
    /// where one of the lists that their shapes spell passes every layer, a call is allowed for certain.
    fn request_start(&self, kind: SpawnKind, command: &str) -> Result<Answered, InvalidArgument> {
        let commands = command_layers(&self.layers).flat_map(|(_, policy)| policy.commands.iter().flatten());
        let shapes = commands.filter(|each| each.name == command).flat_map(|each| &each.args);
        let spelled = shapes.map(|shape| {
            let texts = shape.texts().into_iter().filter(|text| text != "**");
            texts.map(|text| if text == "*" { "x".to_owned() } else { text }).collect::<Vec<String>>()
        });
        let mut last = Answered::refused("the command is not allowed");
        for args in std::iter::once(Vec::new()).chain(spelled).take(ATTEMPTS_MAX) {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let call = Call::Spawn { kind, command, args: &args, cwd: None, env_names: &[], timeout: None };
            last = Answered::of(self.decide(&call)?);
            if last.is_granted() || matches!(last, Answered::Asks { .. }) {
                break;
            }
        }
        Ok(last)
    }
}
