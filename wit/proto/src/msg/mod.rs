//! Every message of link B, grouped by who speaks it.

pub mod connect;
pub mod error;
pub mod fs;
pub mod life;
pub mod llm;
pub mod loops;
pub mod policy;
pub mod proc;
pub mod worker;
