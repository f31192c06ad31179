#![forbid(unsafe_code)]
mod source;
pub mod units;
pub mod argv; pub mod glob; pub mod limits; pub mod model; pub mod path;
pub use source::{Format, Position, SourceError};
