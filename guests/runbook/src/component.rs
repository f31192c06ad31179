//! The component's skin: WIT types in and out, and the one player. The only file that the bindings touch.
#![allow(unsafe_code, clippy::all, clippy::as_conversions, clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used)]

use crate::player::{Next, Player};
use std::cell::RefCell;

wit_bindgen::generate!({ path: "../../wit", world: "osagent:agent/control", generate_all });

use exports::osagent::agent::planner;

thread_local! {
    static PLAYER: RefCell<Player> = RefCell::new(Player::default());
}

struct Component;
export!(Component);

impl planner::Guest for Component {
    fn step(task: String, observation: planner::Observation) -> Result<planner::StepResponse, planner::AgentError> {
        let next = PLAYER.with_borrow_mut(|player| player.step(&task, &observation.data));
        next.map(response).map_err(|fault| planner::AgentError { retryable: false, message: fault.to_string() })
    }
}

fn response(next: Next) -> planner::StepResponse {
    match next {
        Next::Act { thought, capability, input, audit_tag } => {
            let action = planner::PlannedAction { capability, input, audit_tag };
            planner::StepResponse::Continue(planner::ContinuePlan { thought, actions: vec![action] })
        }
        Next::Complete { reason, outcome } => planner::StepResponse::Complete(planner::CompletePlan { reason, outcome }),
    }
}
