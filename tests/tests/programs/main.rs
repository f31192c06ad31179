//! Real programs in a command's jail, each beside its run outside of it.
//!
//! What a jail breaks, people turn off. So every test here builds the same small scene in a workspace twice, runs the same
//! script on it outside (same user, an environment of the same shape) and inside, and compares status, output and the tree
//! that is left: names, kinds, modes, contents, links. Nothing needs a network.

#![forbid(unsafe_code)]

mod archives;
mod compilers;
mod denied;
mod git;
mod node;
mod python;
mod rust;
mod scene;
mod search;
mod tree;
