//! `warden policy`.

use super::Answer;
use crate::failure::Failure;
use clap::Args;

/// `warden policy`
#[derive(Debug, Args)]
pub struct PolicyArgs {}
pub fn run(_: PolicyArgs) -> Result<Answer, Failure> {
    Err(Failure::internal(""))
}
