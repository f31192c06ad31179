//! Placeholder entry until the probes are in place.
use warden_jail::{Role, seccomp};
fn main() {
    for role in Role::ALL {
        println!("{role}: {} instructions", seccomp::instructions(role));
    }
    println!("{:?}", warden_jail::probe::all());
}
