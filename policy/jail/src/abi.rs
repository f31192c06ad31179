//! The Landlock ABI that this build goes by.
//!
//! Always the kernel's own word in a release. Debug builds also read [`LOWERED`], so that tests can see what older kernels
//! mean to commands without having one: the rulesets that follow are those of the older ABI, so the kernel enforces no
//! more than that. It can only lower, and a release has not the code that reads it: who could set the environment of a
//! debug build's processes is whoever builds and starts them (the spawner hands nothing else on).

/// The variable that tests set: a number.
pub const LOWERED: &std::ffi::CStr = c"WARDEN_TEST_LANDLOCK_ABI";

/// `found`, or what a test lowers it to.
#[cfg(debug_assertions)]
pub(crate) fn lowered(found: u8) -> u8 {
    let name = LOWERED.to_str().unwrap_or_default();
    let wanted = std::env::var(name).ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(found).min(found)
}

/// The kernel's word stands.
#[cfg(not(debug_assertions))]
pub(crate) fn lowered(found: u8) -> u8 {
    found
}

/// What a debug build's spawner hands on to the programs it starts, beside an empty environment: nothing in a release.
pub fn inherited() -> Option<std::ffi::CString> {
    if !cfg!(debug_assertions) {
        return None;
    }
    let name = LOWERED.to_str().ok()?;
    let value = std::env::var(name).ok()?;
    std::ffi::CString::new(format!("{name}={value}")).ok()
}
