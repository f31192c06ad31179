use super::*;

#[test]
fn threads_share_both_and_another_process_neither() {
    let own = Pid::this();
    let thread = std::thread::spawn(move || {
        let thread = nix::unistd::gettid();
        (same_memory(own, thread), same_descriptors(own, thread))
    });
    assert_eq!(thread.join().unwrap(), (Ok(true), Ok(true)));
    let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
    let other = Pid::from_raw(i32::try_from(child.id()).unwrap());
    assert_eq!((same_memory(own, other), same_descriptors(own, other)), (Ok(false), Ok(false)));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(same_memory(own, other), Err(Errno::ESRCH));
}
