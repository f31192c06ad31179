//! The rule files as the build compiled them. Generated; see `build.rs`.

use crate::landlock::{Below, GrantKind, PathRule, RoleRules, Then};
use crate::role::Role;
use crate::seccomp::FilterRules;
use crate::self_test::Act;
use seccompiler::sock_filter;

include!(concat!(env!("OUT_DIR"), "/rules.rs"));
