//! `warden doctor`.

use super::Answer;
use crate::failure::Failure;
use clap::Args;

/// `warden doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {}
pub fn run(_: &DoctorArgs) -> Result<Answer, Failure> {
    Err(Failure::internal(""))
}
