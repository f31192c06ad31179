#![forbid(unsafe_code)]
mod source; mod parse; pub mod seed_config;
pub mod units;
pub mod capability;
pub mod argv; pub mod glob; pub mod limits; pub mod model; pub mod path;
pub mod layer; pub mod decide; pub mod explain; mod render;
pub use source::{Format, Position, SourceError};
