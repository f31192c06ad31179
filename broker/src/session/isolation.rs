//! What a session has of the host beyond what every host gives: namespaces and control groups for commands.
//!
//! Runs in the broker while there is one thread, as the user that tasks run as. What is asked for and cannot be given is
//! refused, not left out in silence; what is merely wanted is tried, and results say what came of it.

use crate::failure::{Class, Failure};
use warden_policy::{Effective, Feature};
use warden_proto::msg::proc::GroupSetup;
use warden_spawner::{Delegation, probe};

/// Where namespaces are required, enters some in a child. Where they are wanted, the runner tries by itself.
pub(super) fn check_namespaces(policy: &Effective) -> Result<(), Failure> {
    if policy.isolation().namespaces != Feature::Require {
        return Ok(());
    }
    let tried = probe::command_namespaces().map_err(|e| Failure::internal(e.to_string()))?;
    tried.map_err(|why| missing("namespaces", &why))
}

/// The control group that the host has given to us, tried by use.
pub(super) fn control_groups(policy: &Effective) -> Result<Option<Delegation>, Failure> {
    let wanted = match policy.isolation().cgroups {
        Feature::Off => return Ok(None),
        Feature::Auto if policy.commands().is_empty() => return Ok(None),
        wanted => wanted,
    };
    match (Delegation::take(), wanted) {
        (Err(why), Feature::Require) => Err(missing("cgroups", &why.to_string())),
        (Ok(given), Feature::Require) if !(given.controllers.pids && given.controllers.memory) => {
            Err(missing("cgroups", "the controllers `pids` and `memory` are not handed down to our group"))
        }
        (Ok(given), _) => Ok(Some(given)),
        (Err(why), _) => {
            tracing::debug!(%why, "commands get no control group");
            Ok(None)
        }
    }
}

/// What they bound, for the runner.
pub(super) fn bounds(given: &Delegation) -> GroupSetup {
    GroupSetup { pids: given.controllers.pids, memory: given.controllers.memory }
}

fn missing(key: &str, why: &str) -> Failure {
    let message = format!(
        "the policy says `isolation.{key} = \"require\"`, and commands can have none here ({why}); `warden doctor` says what \
         this host gives"
    );
    Failure::new(Class::Unavailable, message)
}
