//! How a guest ended, told without anything of the host in it.

#![forbid(unsafe_code)]

use super::bounds::Bounds;
use super::call::Halt;
use warden_proto::Text;
use warden_proto::msg::worker::End;
use wasmtime::Trap;

/// The end that an error of a running guest amounts to; none when the link is gone and nobody can be told.
pub fn of_run(error: &wasmtime::Error, bounds: &Bounds) -> Option<End> {
    if let Some(halt) = error.downcast_ref::<Halt>() {
        return of_halt(halt);
    }
    let Some(trap) = error.downcast_ref::<Trap>() else {
        return Some(End::Trapped { message: plain(&error.to_string()) });
    };
    Some(match (trap, bounds.refused()) {
        (Trap::OutOfFuel, _) => End::OutOfFuel,
        (Trap::Interrupt, _) => End::OutOfTime,
        // A guest that was refused memory and then gave up: languages abort by `unreachable`.
        (Trap::UnreachableCodeReached | Trap::AllocationTooLarge, Some(refused)) => {
            End::OutOfMemory { message: plain(refused) }
        }
        // The name of the trap alone: a backtrace would hold addresses.
        (other, _) => End::Trapped { message: plain(&other.to_string()) },
    })
}

/// The end that an error of instantiation amounts to: imports and types have been checked before, so what is left are
/// limits, and what a start function does.
pub fn of_instantiation(error: &wasmtime::Error, bounds: &Bounds) -> Option<End> {
    let guests_own = error.downcast_ref::<Halt>().is_some() || error.downcast_ref::<Trap>().is_some();
    if guests_own && (bounds.refused().is_none() || !matches!(error.downcast_ref(), Some(Trap::UnreachableCodeReached)))
    {
        return of_run(error, bounds);
    }
    Some(End::OutOfMemory { message: plain(bounds.refused().unwrap_or(&error.to_string())) })
}

fn of_halt(halt: &Halt) -> Option<End> {
    match halt {
        Halt::Exit(code) => Some(End::Exited { code: *code }),
        Halt::OutOfTime => Some(End::OutOfTime),
        Halt::Closed => None,
        Halt::Broken(what) => Some(End::Stopped { message: plain(what) }),
    }
}

/// The bytes are nothing that can be run.
pub fn invalid(message: &str) -> End {
    End::Invalid { message: plain(message) }
}

/// Text for people, on one line, control characters out of it: names in it are the guest's (T-14).
pub fn plain<const N: usize>(text: &str) -> Text<N> {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Text::cut(&clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_their_names() {
        let bounds = Bounds::new(0);
        let end = |trap: Trap| of_run(&wasmtime::Error::from(trap), &bounds).unwrap();
        assert_eq!(end(Trap::OutOfFuel), End::OutOfFuel);
        assert_eq!(end(Trap::Interrupt), End::OutOfTime);
        assert!(matches!(end(Trap::StackOverflow), End::Trapped { message } if message.contains("stack")));
        let halt = |halt: Halt| of_run(&wasmtime::Error::from(halt), &bounds);
        assert_eq!(halt(Halt::Exit(3)), Some(End::Exited { code: 3 }));
        assert_eq!(halt(Halt::Closed), None);
    }

    #[test]
    fn control_characters_do_not_pass() {
        assert_eq!(plain::<64>("a\u{1b}[2Jb\nc").as_str(), "a [2Jb c");
    }
}
