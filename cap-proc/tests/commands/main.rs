//! The real front and runner in their real jails, started as the spawner starts them and driven as the broker drives them.
//! Every refusal stands beside the allowed control that shows that the probe works.
#![forbid(unsafe_code)]
#![allow(clippy::duplicate_mod, reason = "the same tests hold with namespaces and without")]

mod attached;
mod attributes;
mod death;
mod door;
mod groups;
mod growth;
mod jail;
mod limits;
mod memory;
mod metadata;
mod namespaces;
mod network;
mod older;
mod places;
mod private;
mod provider;
mod reading;
#[path = "../../../tests/src/skip.rs"]
mod skip;
mod storms;
mod support;
mod ways_around;
mod words;

/// The same again in namespaces.
#[path = "."]
mod inside {
    #[path = "attached.rs"]
    mod attached;
    #[path = "attributes.rs"]
    mod attributes;
    #[path = "death.rs"]
    mod death;
    #[path = "door.rs"]
    mod door;
    #[path = "jail.rs"]
    mod jail;
    #[path = "limits.rs"]
    mod limits;
    #[path = "memory.rs"]
    mod memory;
    #[path = "private.rs"]
    mod private;
    #[path = "ways_around.rs"]
    mod ways_around;
    #[path = "words.rs"]
    mod words;
}
