//! The real binary in its real jail, driven through frames as the broker drives it.
//!
//! Every denial has an allowed control beside it, so that a helper that refuses everything fails these tests too.

mod hostile;
mod life;
mod ops;
mod races;
mod rig;
#[path = "../../../tests/src/skip.rs"]
mod skip;
