//! A runbook as the broker follows it, by its own record of what each step came to.
//!
//! The player is a guest like any other: whether the runbook went through is not its to say (T-15). A step that failed and
//! stops the runbook makes the task `failed`, whatever holds besides, and so does a player that leaves steps out.

use warden_policy::{OnFailure, Step};

/// A runbook under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runbook {
    on_failure: Vec<OnFailure>,
    begun: usize,
    stopped: Option<String>,
}

impl Runbook {
    /// One that has not begun.
    pub fn new(steps: &[Step]) -> Self {
        Self { on_failure: steps.iter().map(|step| step.on_failure).collect(), begun: 0, stopped: None }
    }

    /// The next step begins. `failure`: how the one before it failed, if it did.
    pub fn begin(&mut self, failure: Option<String>) {
        self.settle(failure);
        self.begun = self.begun.saturating_add(1);
    }

    /// It has ended; why it is no success, if it is none. `failure`: how its last step failed, if it did.
    pub fn end(&mut self, failure: Option<String>) -> Option<String> {
        self.settle(failure);
        let (begun, all) = (self.begun, self.on_failure.len());
        match &self.stopped {
            Some(stopped) => Some(stopped.clone()),
            None if begun != all => Some(format!("the runbook has {all} steps, and {begun} were played")),
            None => None,
        }
    }

    fn settle(&mut self, failure: Option<String>) {
        let played = self.begun.checked_sub(1).and_then(|at| self.on_failure.get(at));
        if let (Some(OnFailure::Stop), Some(failure), None) = (played, failure, &self.stopped) {
            self.stopped =
                Some(format!("step {} of {} stopped the runbook: {failure}", self.begun, self.on_failure.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runbook(on_failure: &[OnFailure]) -> Runbook {
        Runbook { on_failure: on_failure.to_vec(), begun: 0, stopped: None }
    }

    fn failed(what: &str) -> Option<String> {
        Some(what.to_owned())
    }

    use OnFailure::{Continue, Stop};

    #[test]
    fn a_step_that_stops_makes_the_runbook_fail_and_one_that_goes_on_does_not() {
        let mut stops = runbook(&[Stop, Stop]);
        stops.begin(None);
        assert_eq!(
            stops.end(failed("fs.read_file: denied")).unwrap(),
            "step 1 of 2 stopped the runbook: fs.read_file: denied"
        );
        let mut goes_on = runbook(&[Continue, Stop]);
        goes_on.begin(None);
        goes_on.begin(failed("fs.read_file: denied"));
        assert_eq!(goes_on.end(None), None);
    }

    /// T-15
    #[test]
    fn a_player_that_goes_on_after_a_stop_or_leaves_steps_out_does_not_succeed() {
        let mut lies = runbook(&[Stop, Stop]);
        lies.begin(None);
        lies.begin(failed("fs.read_file: denied"));
        assert!(lies.end(None).unwrap().starts_with("step 1 of 2"));
        let mut leaves_out = runbook(&[Continue, Continue, Continue]);
        leaves_out.begin(None);
        assert_eq!(leaves_out.end(None).unwrap(), "the runbook has 3 steps, and 1 were played");
    }
}
