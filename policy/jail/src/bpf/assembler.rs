//! Instructions with labels for the places that jumps lead to, and their turning into a program.

use super::{Action, Instruction};

pub(super) const LD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JA: u16 = 0x05;
pub(super) const JEQ: u16 = 0x15;
pub(super) const JGT: u16 = 0x25;
pub(super) const JGE: u16 = 0x35;
pub(super) const JSET: u16 = 0x45;
pub(super) const RET: u16 = 0x06;

/// Why a program could not be assembled.
#[derive(Debug, PartialEq, Eq)]
pub enum AssembleError {
    /// A conditional jump reaches 255 instructions at most.
    JumpTooFar { from: usize, to: usize },
    /// The rule can never apply, because an earlier one without conditions decides the call.
    DeadRule { number: u32 },
}

impl std::fmt::Display for AssembleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AssembleError::JumpTooFar { from, to } => {
                write!(f, "jump from instruction {from} to {to} is too far: shorten the rule file")
            }
            AssembleError::DeadRule { number } => {
                write!(f, "a rule of system call {number} can never apply: remove it")
            }
        }
    }
}

impl std::error::Error for AssembleError {}

/// A place in the program that jumps lead to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Label(usize);

enum Piece {
    Plain(Instruction),
    Jump { code: u16, k: u32, yes: Label, no: Label },
    Always(Label),
}

/// Instructions whose jumps are not resolved yet.
#[derive(Default)]
pub(super) struct Assembler {
    pieces: Vec<Piece>,
    labels: Vec<Option<usize>>,
}

impl Assembler {
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    pub(super) fn here(&mut self, label: Label) {
        self.labels[label.0] = Some(self.pieces.len());
    }

    pub(super) fn load(&mut self, offset: u32) {
        self.pieces.push(Piece::Plain(Instruction { code: LD, jt: 0, jf: 0, k: offset }));
    }

    pub(super) fn and(&mut self, mask: u32) {
        self.pieces.push(Piece::Plain(Instruction { code: AND, jt: 0, jf: 0, k: mask }));
    }

    pub(super) fn answer(&mut self, action: Action) {
        self.pieces.push(Piece::Plain(Instruction { code: RET, jt: 0, jf: 0, k: action.code() }));
    }

    pub(super) fn jump(&mut self, code: u16, k: u32, yes: Label, no: Label) {
        self.pieces.push(Piece::Jump { code, k, yes, no });
    }

    /// Jumps to `target` when the comparison holds, else goes on with the next instruction.
    pub(super) fn branch(&mut self, code: u16, k: u32, target: Label) {
        let next = self.label();
        self.jump(code, k, target, next);
        self.here(next);
    }

    /// Goes to `target` in any case.
    pub(super) fn always(&mut self, target: Label) {
        self.pieces.push(Piece::Always(target));
    }

    /// Whether `label` has its place.
    pub(super) fn is_placed(&self, label: Label) -> bool {
        self.labels[label.0].is_some()
    }

    fn distance(&self, from: usize, label: Label) -> Result<usize, AssembleError> {
        let to = self.labels[label.0].unwrap_or(usize::MAX);
        to.checked_sub(from + 1).ok_or(AssembleError::JumpTooFar { from, to })
    }

    pub(super) fn finish(self) -> Result<Vec<Instruction>, AssembleError> {
        let mut program = Vec::with_capacity(self.pieces.len());
        for (at, piece) in self.pieces.iter().enumerate() {
            let short = |label: Label| {
                let far = self.distance(at, label)?;
                u8::try_from(far).map_err(|_| AssembleError::JumpTooFar { from: at, to: at + far })
            };
            program.push(match piece {
                Piece::Plain(instruction) => *instruction,
                Piece::Jump { code, k, yes, no } => {
                    Instruction { code: *code, jt: short(*yes)?, jf: short(*no)?, k: *k }
                }
                Piece::Always(label) => {
                    let k = self.distance(at, *label)? as u32;
                    Instruction { code: JA, jt: 0, jf: 0, k }
                }
            });
        }
        Ok(program)
    }
}
