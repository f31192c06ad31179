//! What a hostile or broken guest does to its runtime (T-06).
#![allow(unsafe_code)]

use crate::hands::Outcome;
use crate::script::MisbehaviourOp;
use serde_json::json;
use std::hint::black_box;

const MIB: usize = 1024 * 1024;

pub fn run(op: MisbehaviourOp) -> Outcome {
    match op {
        MisbehaviourOp::Spin => loop {
            black_box(());
        },
        MisbehaviourOp::Trap => core::arch::wasm32::unreachable(),
        MisbehaviourOp::Panic { message } => panic!("{}", message.unwrap_or_default()),
        MisbehaviourOp::Recurse => Outcome::Ok(json!(deeper(black_box(0)))),
        MisbehaviourOp::Alloc { step_bytes, max_bytes } => {
            Outcome::Ok(json!({"bytes": hold(step_bytes.unwrap_or(MIB).max(1), max_bytes.unwrap_or(usize::MAX))}))
        }
        MisbehaviourOp::AllocAbort => {
            let mut held: Vec<Vec<u8>> = Vec::new();
            loop {
                held.push(black_box(vec![7; MIB]));
            }
        }
        MisbehaviourOp::BigResult { len } => Outcome::Ok(json!("x".repeat(len))),
    }
}

/// Not a tail call: what it holds is used after the call returns.
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    if black_box(false) {
        return 0;
    }
    deeper(depth.wrapping_add(1)).wrapping_add(frame.iter().sum())
}

/// Bytes held when more was refused. The list of pieces is made beforehand, so that it cannot be what is refused.
fn hold(step_bytes: usize, max_bytes: usize) -> usize {
    let mut held: Vec<Vec<u8>> = Vec::with_capacity(65_536);
    let mut bytes = 0usize;
    while bytes < max_bytes && held.len() < held.capacity() {
        let mut piece: Vec<u8> = Vec::new();
        if piece.try_reserve_exact(step_bytes).is_err() {
            break;
        }
        piece.resize(step_bytes, 7);
        bytes = bytes.saturating_add(step_bytes);
        held.push(black_box(piece));
    }
    bytes
}
