//! Each role's real jail, tried from inside: acts that must be refused, and beside them acts that must work,
//! so that a probe that is itself broken is seen.
//!
//! One thread, one forked child per attempt. `cargo test -p warden-jail --test jails -- NAME` runs the
//! tests whose name contains NAME.

mod allowlists;
mod child;
mod commands;
mod denylist;
mod descriptors;
mod files;
mod foreign;
mod groups;
mod handlers;
mod lives;
mod memory;
mod numbers;
mod roots;
mod rules;
mod scopes;
mod set_id;
#[path = "../../../../tests/src/skip.rs"]
mod skip;
mod supervised;
mod workers;

type Test = (&'static str, fn());

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let groups: [&[Test]; 16] = [
        allowlists::TESTS,
        commands::TESTS,
        denylist::TESTS,
        descriptors::TESTS,
        files::TESTS,
        foreign::TESTS,
        groups::TESTS,
        handlers::TESTS,
        lives::TESTS,
        memory::TESTS,
        roots::TESTS,
        rules::TESTS,
        scopes::TESTS,
        set_id::TESTS,
        supervised::TESTS,
        workers::TESTS,
    ];
    let mut ran = 0;
    for (name, test) in groups.into_iter().flatten() {
        if wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())) {
            test();
            println!("test {name} ... ok");
            ran += 1;
        }
    }
    println!("{ran} tests passed");
    assert!(ran > 0 || !wanted.is_empty(), "no test ran");
}
