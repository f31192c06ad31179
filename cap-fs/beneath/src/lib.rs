//! How anything beneath a workspace is opened and judged: its one code, linked into cap-fs, which acts for guests, and into
//! cap-proc's keepers, which act for commands.
//!
//! Everything here runs in the process that acts, inside its jail. It trusts the rules that the broker set up; not the names,
//! links and files that it finds. A name is a wish, the descriptor is the fact: nothing is judged by its name alone (T-02).

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::as_conversions,
        clippy::arithmetic_side_effects
    )
)]

pub mod bounds;
pub mod errors;
pub mod glob;
pub mod links;
pub mod moves;
pub mod parent;
pub mod paths;
pub mod pulse;
pub mod rules;
pub mod tree;
pub mod turns;
pub mod walk;
pub mod world;
