//! The one place that knows the wire encoding: bincode 2, fixed-int little-endian, native derive, size-limited,
//! trailing bytes refused.
//!
//! One encoding exists per value, so a frame that decodes is the frame that its value encodes to.

use crate::limits::{BODY_MAX_BYTES, SETUP_MAX_BYTES};
use bincode::{Decode, Encode};
use sha2::{Digest, Sha256};

/// A body does not decode to the type its kind states, or a value does not fit a frame.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The bytes are no value of the type.
    #[error("a message could not be decoded: {0}")]
    Decode(#[source] bincode::error::DecodeError),
    /// Bytes follow the value.
    #[error("{0} bytes follow the end of a message")]
    Trailing(usize),
    /// The value is larger than a frame.
    #[error("a message could not be encoded: {0}")]
    Encode(#[source] bincode::error::EncodeError),
}

/// Appends the encoding of `value` to `out`.
pub fn encode_into<T: Encode>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let config = bincode::config::standard().with_little_endian().with_fixed_int_encoding();
    bincode::encode_into_std_write(value, out, config).map(|_| ()).map_err(CodecError::Encode)
}

/// The encoding of `value`.
pub fn encode<T: Encode>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    encode_into(value, &mut out)?;
    Ok(out)
}

/// Decodes the whole of a frame's body.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    decode_limited::<T, BODY_MAX_BYTES>(bytes)
}

/// Decodes a setup document or a payload that came in parts.
pub fn decode_document<T: Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    decode_limited::<T, SETUP_MAX_BYTES>(bytes)
}

fn decode_limited<T: Decode<()>, const LIMIT: usize>(bytes: &[u8]) -> Result<T, CodecError> {
    let config = bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<LIMIT>();
    let (value, used) = bincode::decode_from_slice(bytes, config).map_err(CodecError::Decode)?;
    match bytes.len().saturating_sub(used) {
        0 => Ok(value),
        trailing => Err(CodecError::Trailing(trailing)),
    }
}

/// SHA-256 over `parts`, each preceded by its length, so that no two lists of parts collide.
pub fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
