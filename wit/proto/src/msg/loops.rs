//! The plan–act–observe loop: what a worker that runs a planner tells the broker of it.
//!
//! The worker calls the planner, turns its actions' JSON into typed calls and builds the observation; the broker counts
//! the steps, keeps its own record of every action and decides when the task is done (T-15).

use super::error::CallError;
use crate::blob::Body;
use crate::bounded::{List, Text};
use bincode::{Decode, Encode};

/// A turn of the loop.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum LoopCall {
    /// A step begins → `Proceed`, or `limit` when there are no more steps.
    BeginStep,
    /// The plan of the step that has begun → `Proceed`. Its actions follow as calls of their own.
    Plan {
        /// What the planner says it thinks.
        thought: Text<16384>,
    },
    /// An action whose JSON is no action: counted, recorded and reported as failed → `Proceed`.
    BadAction {
        /// What it called itself.
        capability: Text<128>,
        /// What is wrong with it.
        error: CallError,
    },
    /// The planner says it is complete → `Verdict`.
    Complete {
        /// Why.
        reason: Text<16384>,
        /// JSON text.
        outcome: Body,
    },
    /// The planner returned an `agent-error` → `Proceed` when it may be asked again.
    PlannerError {
        /// Whether it says that another try helps.
        retryable: bool,
        /// What happened.
        message: Text<4096>,
    },
}

/// The answer to a [`LoopCall`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum LoopReply {
    /// Go on.
    Proceed,
    /// What the broker found when the planner said that it is complete.
    Verdict {
        /// The task has ended; the worker finishes.
        ended: bool,
        /// Predicates that do not hold yet, for the planner.
        unmet: List<Text<1024>, 32>,
    },
}
