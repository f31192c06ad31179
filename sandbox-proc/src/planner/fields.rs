//! An action's input: a JSON object read field by field, strictly. A wrong type or an unknown field is the planner's
//! mistake, told by name, so that it can repair it.

#![forbid(unsafe_code)]

use serde_json::{Map, Value};
use warden_proto::msg::error::{CallError, ErrorCode};
use warden_proto::{Text, secret_name};

/// Most bytes of one action's input.
const INPUT_MAX_BYTES: usize = 4 << 20;

/// What is left of an input.
#[derive(Debug)]
pub struct Fields {
    what: String,
    map: Map<String, Value>,
}

/// The planner's mistake.
pub fn mistake(message: &str) -> CallError {
    CallError::new(ErrorCode::InvalidArgument, message)
}

impl Fields {
    /// Parses the input of an action.
    pub fn parse(capability: &str, input: &str) -> Result<Self, CallError> {
        if input.len() > INPUT_MAX_BYTES {
            return Err(mistake(&format!("the input of {capability} is longer than {INPUT_MAX_BYTES} bytes")));
        }
        let value =
            serde_json::from_str(input).map_err(|e| mistake(&format!("the input of {capability} is no JSON: {e}")))?;
        match named_secret(&value) {
            Some(name) => Err(unresolved(capability, name)),
            None => Self::of(capability, value),
        }
    }

    /// An object inside another.
    pub fn of(what: &str, value: Value) -> Result<Self, CallError> {
        match value {
            Value::Object(map) => Ok(Self { what: what.to_owned(), map }),
            _ => Err(mistake(&format!("the input of {what} must be a JSON object"))),
        }
    }

    /// A field by its reader; null is as good as absent.
    fn take<T>(
        &mut self,
        name: &str,
        kind: &str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, CallError> {
        match self.map.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                Some(value) => Ok(Some(value)),
                None => Err(mistake(&format!("field `{name}` of {} must be {kind}", self.what))),
            },
        }
    }

    fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, CallError> {
        value.ok_or_else(|| mistake(&format!("field `{name}` of {} is missing", self.what)))
    }

    /// Text that may be left out.
    pub fn optional_text(&mut self, name: &str) -> Result<Option<String>, CallError> {
        self.take(name, "a string", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    /// Text.
    pub fn text(&mut self, name: &str) -> Result<String, CallError> {
        let value = self.optional_text(name)?;
        self.required(name, value)
    }

    /// Text with a bound.
    pub fn bounded<const N: usize>(&mut self, name: &str) -> Result<Text<N>, CallError> {
        let text = self.text(name)?;
        bounded(name, text)
    }

    /// Text with a bound that may be left out.
    pub fn optional_bounded<const N: usize>(&mut self, name: &str) -> Result<Option<Text<N>>, CallError> {
        self.optional_text(name)?.map(|text| bounded(name, text)).transpose()
    }

    /// A number from 0 that may be left out.
    pub fn optional_number(&mut self, name: &str) -> Result<Option<u64>, CallError> {
        self.take(name, "a whole number from 0", |value| value.as_u64())
    }

    /// A number from 0.
    pub fn number(&mut self, name: &str) -> Result<u64, CallError> {
        let value = self.optional_number(name)?;
        self.required(name, value)
    }

    /// Any number that may be left out.
    pub fn optional_float(&mut self, name: &str) -> Result<Option<f64>, CallError> {
        self.take(name, "a number", |value| value.as_f64())
    }

    /// A yes or no; no when left out.
    pub fn flag(&mut self, name: &str) -> Result<bool, CallError> {
        Ok(self.take(name, "true or false", |value| value.as_bool())?.unwrap_or(false))
    }

    /// A list; empty when left out.
    pub fn list(&mut self, name: &str) -> Result<Vec<Value>, CallError> {
        let list = self.take(name, "a list", |value| match value {
            Value::Array(items) => Some(items),
            _ => None,
        })?;
        Ok(list.unwrap_or_default())
    }

    /// A list of texts; empty when left out.
    pub fn texts(&mut self, name: &str) -> Result<Vec<String>, CallError> {
        let what = format!("field `{name}` of {} must be a list of strings", self.what);
        let read = |item: Value| match item {
            Value::String(text) => Ok(text),
            _ => Err(mistake(&what)),
        };
        self.list(name)?.into_iter().map(read).collect()
    }

    /// Any value that is there.
    pub fn value(&mut self, name: &str) -> Result<Value, CallError> {
        let value = self.map.remove(name);
        self.required(name, value)
    }

    /// An object that may be left out.
    pub fn optional_object(&mut self, name: &str) -> Result<Option<Fields>, CallError> {
        let what = format!("{} `{name}`", self.what);
        self.take(name, "an object", |value| Fields::of(&what, value).ok())
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), CallError> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(name) => Err(mistake(&format!("{} has no field `{name}`", self.what))),
        }
    }
}

/// The first secret that a text of `value` names, escapes of the JSON undone.
fn named_secret(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => secret_name::find(text.as_bytes()),
        Value::Array(items) => items.iter().find_map(named_secret),
        Value::Object(fields) => {
            fields.iter().find_map(|(key, value)| secret_name::find(key.as_bytes()).or_else(|| named_secret(value)))
        }
        _ => None,
    }
}

/// T-08: a secret's name is not passed on as if it were text.
fn unresolved(capability: &str, name: &str) -> CallError {
    let message = format!(
        "the input of {capability} names the secret `{name}`, and this version of warden resolves no secrets; nothing was done"
    );
    CallError::new(ErrorCode::Unavailable, &message)
}

/// `text` if it fits.
pub fn bounded<const N: usize>(name: &str, text: String) -> Result<Text<N>, CallError> {
    Text::new(text).map_err(|e| mistake(&format!("field `{name}` of {} bytes is longer than {}", e.len, e.max)))
}
