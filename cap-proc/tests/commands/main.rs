//! The real front and runner in their real jails, started as the spawner starts them and driven as the broker drives them.
//! Every refusal stands beside the allowed control that shows that the probe works.
#![forbid(unsafe_code)]

mod death;
mod jail;
mod limits;
mod memory;
mod private;
#[path = "../../../tests/src/skip.rs"]
mod skip;
mod support;
mod words;
