//! The roles that have rule files.

use std::fmt;

/// Who is being jailed. Each role has `policy/seccomp/<name>.x86_64.json` and `policy/landlock/<name>.toml`;
/// a role without either does not build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The broker after its start.
    Broker,
    /// The warm template; workers inherit its jail.
    Template,
    /// A worker's own short filter, over the template's.
    Worker,
    Compiler,
    CapFs,
    CapProcFront,
    /// The runner and its keepers; commands inherit its jail.
    CapProcRunner,
    /// Who has keepers born in mount namespaces of their own: the runner's filter, but for what that takes.
    CapProcUsher,
    /// What a keeper that was born so has less, over the usher's filter: nothing more than any other keeper.
    CapProcKeeper,
    /// What a command has less, over the runner's jail.
    CapProcCommand,
    /// The same where the keeper performs changes of mode and times.
    CapProcCommandSupervised,
    /// The same where its rule names hosts: TCP, connected by the keeper.
    CapProcCommandNetwork,
    /// cap-llm with the replay provider: no network at all.
    CapLlmReplay,
}

impl Role {
    /// Every role, for `warden doctor` and tests.
    pub const ALL: [Role; 13] = [
        Role::Broker,
        Role::Template,
        Role::Worker,
        Role::Compiler,
        Role::CapFs,
        Role::CapProcFront,
        Role::CapProcRunner,
        Role::CapProcUsher,
        Role::CapProcKeeper,
        Role::CapProcCommand,
        Role::CapProcCommandSupervised,
        Role::CapProcCommandNetwork,
        Role::CapLlmReplay,
    ];

    /// The role's name in rule files, records and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Broker => "broker",
            Role::Template => "template",
            Role::Worker => "worker",
            Role::Compiler => "compiler",
            Role::CapFs => "cap-fs",
            Role::CapProcFront => "cap-proc-front",
            Role::CapProcRunner => "cap-proc-runner",
            Role::CapProcUsher => "cap-proc-usher",
            Role::CapProcKeeper => "cap-proc-keeper",
            Role::CapProcCommand => "cap-proc-command",
            Role::CapProcCommandSupervised => "cap-proc-command-supervised",
            Role::CapProcCommandNetwork => "cap-proc-command-network",
            Role::CapLlmReplay => "cap-llm-replay",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
