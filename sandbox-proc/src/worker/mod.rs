//! The worker: one guest, from the fork to its end.
//!
//! Forked from the template, inside whose jail it begins. It trusts the broker at the other end of its link and nobody
//! else: compiled code and everything the guest does count as hostile, and whoever takes the process over meets the
//! jail (T-03).

pub mod bounds;
pub mod call;
pub mod ending;
pub mod guest;
mod life;
pub mod program;
mod run;

pub use life::life;
