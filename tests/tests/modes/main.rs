//! The whole of warden on hosts that are less than this one: the same attempts to get out of a command's jail, with the same
//! allowed controls, by `warden jail` and by a task, as a normal user, from root, as root, without namespaces, where the host refuses
//! them or the mounts in them, and by Landlock of ABI 2 to 5. Each attempt is tried outside too, as the same user, where it works or is
//! refused in other words; what this host refuses to everybody is said.

mod beyond;
mod files;
mod mode;
mod scene;
mod survivors;

use mode::{Host, Mode, Whom};

const USER: Mode = Mode { whom: Whom::User, namespaces: "auto", host: Host::AsItIs, abi: None };

#[track_caller]
fn holds(mode: Mode) {
    if !mode.is_here() {
        return;
    }
    mode.holds();
}

#[test]
fn as_a_normal_user() {
    holds(USER);
}

#[test]
fn from_root_as_somebody_else() {
    holds(Mode { whom: Whom::FromRoot, ..USER });
}

#[test]
fn as_root_itself() {
    holds(Mode { whom: Whom::Root, ..USER });
}

#[test]
fn without_namespaces() {
    holds(Mode { namespaces: "off", ..USER });
}

#[test]
fn where_the_host_refuses_namespaces() {
    holds(Mode { host: Host::RefusesNamespaces, ..USER });
}

#[test]
fn where_the_host_refuses_mounts_in_them() {
    holds(Mode { host: Host::RefusesMounts, ..USER });
}

#[test]
fn with_landlock_of_abi_2() {
    holds(Mode { abi: Some(2), ..USER });
}

#[test]
fn with_landlock_of_abi_3() {
    holds(Mode { abi: Some(3), ..USER });
}

#[test]
fn with_landlock_of_abi_4() {
    holds(Mode { abi: Some(4), ..USER });
}

#[test]
fn with_landlock_of_abi_5() {
    holds(Mode { abi: Some(5), ..USER });
}

#[test]
fn with_landlock_of_abi_2_and_no_namespaces() {
    holds(Mode { abi: Some(2), namespaces: "off", ..USER });
}

#[test]
fn with_landlock_of_abi_5_and_no_namespaces() {
    holds(Mode { abi: Some(5), namespaces: "off", ..USER });
}

#[test]
fn from_root_with_landlock_of_abi_2_where_the_host_refuses_namespaces() {
    holds(Mode { whom: Whom::FromRoot, host: Host::RefusesNamespaces, abi: Some(2), ..USER });
}
