//! Decisions about commands: which program, which arguments, which variables, which directory (T-07).

use std::time::Duration;

use super::{Effective, GrantScope, Intent, Judgement, LayerVerdict, PathArg, ProcGrant};
use crate::layer::{DEFAULT_DENY, EffectiveCommand, command_layers, command_rule};
use crate::model::{Command, Layer, Policy};
use crate::parse::is_env_name;
use crate::path::{InvalidArgument, TaskPath};

impl Effective {
    pub(super) fn judge_spawn(
        &self,
        name: &str,
        args: &[&str],
        cwd: Option<PathArg<'_>>,
        env_names: &[&str],
        timeout: Option<Duration>,
    ) -> Result<Judgement, InvalidArgument> {
        if name.contains('\0') || args.iter().any(|arg| arg.contains('\0')) {
            return Err(InvalidArgument::Nul("a command and its arguments"));
        }
        if let Some(bad) = env_names.iter().find(|name| !is_env_name(name)) {
            return Err(InvalidArgument::EnvName(bad.chars().take(80).flat_map(char::escape_debug).collect()));
        }
        let target = Some(name.chars().take(256).collect::<String>());
        let Some((index, command)) = self.commands.iter().enumerate().find(|(_, each)| each.name == name) else {
            return Ok(Judgement::nowhere(target, format!("`{}` is no command of this task", name.escape_debug())));
        };
        let cwd = match cwd {
            Some(given) => match self.locate(given)? {
                Ok(found) => Some(found),
                Err(judgement) => return Ok(judgement),
            },
            None => self.default_cwd(command),
        };
        let mut layers: Vec<LayerVerdict> = command_layers(&self.layers)
            .map(|(layer, policy)| self.judge_command(layer, policy, name, args, env_names, cwd.as_ref()))
            .collect();
        if let Some((workspace, path)) = &cwd {
            layers.extend(self.judge_path(*workspace, path, Intent::READ).into_iter().filter(|each| !each.allowed));
        }
        let scope = GrantScope::Proc(ProcGrant {
            command: index,
            cwd,
            env: command.env.clone(),
            timeout: timeout.map_or(command.timeout, |asked| asked.min(command.timeout)),
            exec_workspace: command.exec_workspace,
            network: command.network.clone(),
        });
        Ok(Judgement { target, second: None, layers, scope: Some(scope) })
    }

    fn default_cwd(&self, command: &EffectiveCommand) -> Option<(usize, TaskPath)> {
        let index = command.cwd?;
        let label = &self.workspaces.get(index)?.label;
        Some((index, TaskPath::within(label, "").ok()?))
    }

    fn judge_command(
        &self,
        layer: Layer,
        policy: &Policy,
        name: &str,
        args: &[&str],
        env_names: &[&str],
        cwd: Option<&(usize, TaskPath)>,
    ) -> LayerVerdict {
        let Some(command) = policy.commands.iter().flatten().find(|each| each.name == name) else {
            return LayerVerdict::denied(layer, DEFAULT_DENY.to_owned(), "the command is not allowed");
        };
        let rule = command_rule(layer, name);
        let shape = command.args.iter().position(|shape| shape.matches(args));
        if shape.is_none() && !(command.args.is_empty() && args.is_empty()) {
            let shapes = command.args.iter().map(|shape| format!("[{}]", shape.texts().join(" ")));
            let allowed: Vec<String> = shapes.take(8).collect();
            let reason = match allowed.as_slice() {
                [] => "the command takes no arguments here".to_owned(),
                _ => format!("the arguments match none of the allowed shapes: {}", allowed.join(", ")),
            };
            return LayerVerdict::denied(layer, format!("{rule}.args"), reason);
        }
        // A flag names a command; which variables a guest may set, whole policies say. Where there is none, the flag's own
        // list counts, which is empty: LD_PRELOAD would be another program (T-07).
        let whole = |each: &Policy| each.scope == crate::model::Scope::Whole;
        let says = whole(policy) || !self.layers.iter().any(|(_, each)| whole(each));
        if let Some(refused) =
            env_names.iter().find(|each| says && !command.env_from_guest.iter().any(|own| own == **each))
        {
            let reason = format!("the variable `{refused}` is not the guest's to set");
            return LayerVerdict::denied(layer, format!("{rule}.env_from_guest"), reason);
        }
        if !self.starts_where_it_must(policy, command, cwd) {
            return LayerVerdict::denied(layer, format!("{rule}.cwd"), "the command starts in another workspace");
        }
        let rule = match shape {
            Some(index) => format!("{rule}.args[{index}]"),
            None => rule,
        };
        LayerVerdict::allowed(layer, rule, "the command and its arguments are allowed")
    }

    /// A command whose policy fixes a workspace starts in it or beneath it.
    fn starts_where_it_must(&self, policy: &Policy, command: &Command, cwd: Option<&(usize, TaskPath)>) -> bool {
        let Some(label) = &command.cwd else {
            return true;
        };
        let fixed = policy.workspaces.iter().flatten().find(|each| each.label == *label);
        let actual = cwd.and_then(|(index, path)| {
            self.workspaces.get(*index).map(|workspace| workspace.path.join(path.relative()))
        });
        match (fixed, actual) {
            (Some(fixed), Some(actual)) => actual.starts_with(&fixed.path),
            _ => false,
        }
    }

    pub(super) fn judge_process(&self, capability: &str, command: &str) -> Judgement {
        let target = Some(command.chars().take(256).collect::<String>());
        if !matches!(capability, "proc.write_stdin" | "proc.read" | "proc.wait" | "proc.signal") {
            return Judgement::nowhere(target, "there is no such capability");
        }
        let says = |(layer, policy): (Layer, &Policy)| {
            if policy.commands.iter().flatten().any(|each| each.name == command) {
                LayerVerdict::allowed(layer, command_rule(layer, command), "the process was started by this task")
            } else {
                LayerVerdict::denied(layer, DEFAULT_DENY.to_owned(), "the command is not allowed")
            }
        };
        let layers = command_layers(&self.layers).map(says).collect();
        Judgement { target, second: None, layers, scope: Some(GrantScope::Process) }
    }
}
