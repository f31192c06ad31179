//! Runs a program as the kernel would, so that the build can compare two compilers' programs.

use super::assembler::{AND, JA, JEQ, JGE, JGT, JSET, LD, RET};
use super::{Instruction, OFFSET_ARCH, OFFSET_ARGS, OFFSET_NUMBER};

/// What the kernel hands to a filter.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub number: u32,
    pub arch: u32,
    pub args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> Option<u32> {
        match offset {
            OFFSET_NUMBER => Some(self.number),
            OFFSET_ARCH => Some(self.arch),
            _ => {
                let at = offset.checked_sub(OFFSET_ARGS)?;
                let argument = self.args.get(at as usize / 8)?;
                Some(if at % 8 == 4 { (argument >> 32) as u32 } else { *argument as u32 })
            }
        }
    }
}

/// Runs a program as the kernel would; `None` for a program the kernel would not have accepted.
pub fn interpret(program: &[Instruction], call: &Call) -> Option<u32> {
    let mut at = 0usize;
    let mut accumulator = 0u32;
    loop {
        let instruction = program.get(at)?;
        let (k, mut next) = (instruction.k, at + 1);
        let holds = match instruction.code {
            LD => {
                accumulator = call.word(k)?;
                None
            }
            AND => {
                accumulator &= k;
                None
            }
            JA => {
                next += k as usize;
                None
            }
            JEQ => Some(accumulator == k),
            JGT => Some(accumulator > k),
            JGE => Some(accumulator >= k),
            JSET => Some(accumulator & k != 0),
            RET => return Some(k),
            _ => return None,
        };
        next += match holds {
            Some(true) => usize::from(instruction.jt),
            Some(false) => usize::from(instruction.jf),
            None => 0,
        };
        at = next;
    }
}
