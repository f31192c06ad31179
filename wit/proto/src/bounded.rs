//! Strings, byte strings and lists whose length is part of their type.
//!
//! Read by every process that has a link. A length is checked against its bound before anything is allocated, and an
//! over-long value is a malformed frame: the peer that sent it dies (T-05).

use bincode::de::read::Reader;
use bincode::de::{BorrowDecode, BorrowDecoder, Decode, Decoder};
use bincode::enc::write::Writer;
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};
use std::fmt;
use std::ops::Deref;

/// A value is longer than its type allows.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("{len} is longer than the {max} allowed here")]
pub struct TooLong {
    /// What was offered, bytes or items.
    pub len: usize,
    /// The bound.
    pub max: usize,
}

/// UTF-8 text of at most `N` bytes.
#[derive(Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Text<const N: usize>(String);

/// A byte string of at most `N` bytes.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Bytes<const N: usize>(Vec<u8>);

/// A list of at most `N` items.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct List<T, const N: usize>(Vec<T>);

impl<const N: usize> Text<N> {
    /// Takes `text` if it fits.
    pub fn new(text: impl Into<String>) -> Result<Self, TooLong> {
        let text = text.into();
        if text.len() > N { Err(TooLong { len: text.len(), max: N }) } else { Ok(Self(text)) }
    }

    /// Takes as much of `text` as fits, cut at a character boundary: for messages meant for people.
    pub fn cut(text: &str) -> Self {
        let mut end = text.len().min(N);
        while !text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        Self(text.get(..end).unwrap_or_default().to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, owned.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl<const N: usize> Bytes<N> {
    /// Takes `bytes` if they fit.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, TooLong> {
        let bytes = bytes.into();
        if bytes.len() > N { Err(TooLong { len: bytes.len(), max: N }) } else { Ok(Self(bytes)) }
    }

    /// The bytes, owned.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl<T, const N: usize> List<T, N> {
    /// Takes `items` if they fit.
    pub fn new(items: Vec<T>) -> Result<Self, TooLong> {
        if items.len() > N { Err(TooLong { len: items.len(), max: N }) } else { Ok(Self(items)) }
    }

    /// Takes the first `N` of `items`.
    pub fn first(items: impl IntoIterator<Item = T>) -> Self {
        Self(items.into_iter().take(N).collect())
    }

    /// The items, owned.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<const N: usize> Deref for Text<N> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> Deref for Bytes<N> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl<T: fmt::Debug, const N: usize> fmt::Debug for List<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn encode_len<E: Encoder>(len: usize, encoder: &mut E) -> Result<(), EncodeError> {
    u32::try_from(len).map_err(|_| EncodeError::Other("length over u32"))?.encode(encoder)
}

fn decode_len<D: Decoder>(max: usize, decoder: &mut D) -> Result<usize, DecodeError> {
    let len = u32::decode(decoder)?;
    let len = usize::try_from(len).map_err(|_| DecodeError::LimitExceeded)?;
    if len > max { Err(DecodeError::LimitExceeded) } else { Ok(len) }
}

fn decode_bytes<D: Decoder>(max: usize, decoder: &mut D) -> Result<Vec<u8>, DecodeError> {
    let len = decode_len(max, decoder)?;
    // The claim fails when the frame's own limit is passed, so the allocation below is bounded by the frame.
    decoder.claim_bytes_read(len)?;
    let mut bytes = vec![0; len];
    decoder.reader().read(&mut bytes)?;
    Ok(bytes)
}

impl<const N: usize> Encode for Text<N> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        encode_len(self.0.len(), encoder)?;
        encoder.writer().write(self.0.as_bytes())
    }
}

impl<C, const N: usize> Decode<C> for Text<N> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let bytes = decode_bytes(N, decoder)?;
        String::from_utf8(bytes).map(Self).map_err(|e| DecodeError::Utf8 { inner: e.utf8_error() })
    }
}

impl<const N: usize> Encode for Bytes<N> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        encode_len(self.0.len(), encoder)?;
        encoder.writer().write(&self.0)
    }
}

impl<C, const N: usize> Decode<C> for Bytes<N> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        decode_bytes(N, decoder).map(Self)
    }
}

impl<T: Encode, const N: usize> Encode for List<T, N> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        encode_len(self.0.len(), encoder)?;
        self.0.iter().try_for_each(|item| item.encode(encoder))
    }
}

impl<C, T: Decode<C>, const N: usize> Decode<C> for List<T, N> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let len = decode_len(N, decoder)?;
        // Grows as items really arrive: a claimed length alone allocates nothing.
        let mut items = Vec::new();
        for _ in 0..len {
            items.push(T::decode(decoder)?);
        }
        Ok(Self(items))
    }
}

impl<'de, C, const N: usize> BorrowDecode<'de, C> for Text<N> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

impl<'de, C, const N: usize> BorrowDecode<'de, C> for Bytes<N> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

impl<'de, C, T: Decode<C>, const N: usize> BorrowDecode<'de, C> for List<T, N> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}
