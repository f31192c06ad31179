//! `osagent:browser` and `osagent:input`: enough of each to see how the host answers.

use super::{Hands, Held, Outcome};
use crate::component::osagent::browser::browser::{self, SessionOptions};
use crate::component::osagent::input::input::{self, KeyChord, MouseButton, PointerMove, ScrollDelta};
use crate::script::OtherOp;
use serde_json::Value;

pub fn run(hands: &mut Hands, op: OtherOp) -> Result<Value, Outcome> {
    match op {
        OtherOp::OpenSession => {
            let session = browser::open_session(&SessionOptions { profile: None, headless: true, allow_downloads: false })?;
            return Ok(hands.hold("session", Held::Session(session)));
        }
        OtherOp::KeySequence { text } => input::key_sequence(&text)?,
        OtherOp::SendKeyChord { key } => input::send_key_chord(&KeyChord { key, modifiers: Vec::new(), hold_ms: None })?,
        OtherOp::MouseMove { x, y } => input::mouse_move(PointerMove { x, y, relative: false })?,
        OtherOp::MouseClick => input::mouse_click(MouseButton::Left, None)?,
        OtherOp::MouseScroll { vertical } => input::mouse_scroll(ScrollDelta { horizontal: 0, vertical })?,
        other => return Err(Outcome::Script(format!("not of browser or input: {other:?}"))),
    }
    Ok(Value::Null)
}
