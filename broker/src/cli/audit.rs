//! `warden audit`.

use super::Answer;
use crate::failure::Failure;
use clap::Args;

/// `warden audit`
#[derive(Debug, Args)]
pub struct AuditArgs {}
pub fn run(_: AuditArgs, _: bool) -> Result<Answer, Failure> {
    Err(Failure::internal(""))
}
