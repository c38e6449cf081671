//! Text valid in PostgreSQL.

use std::fmt;

use crate::tally::Unfit;

const LOW_BITS: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Text valid in PostgreSQL: UTF-8 without NUL.
///
/// It is kept as bytes, because emitters need bytes, and because most text is ASCII, which is
/// checked much faster than [`str::from_utf8`] does.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// Checks that bytes are UTF-8 without NUL.
    ///
    /// # Errors
    /// [`Unfit::TextNotUtf8`] or [`Unfit::TextWithNul`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Text<'a>, Unfit> {
        if is_ascii_without_nul(bytes) { Ok(Text(bytes)) } else { Self::looked_through(bytes) }
    }

    fn looked_through(bytes: &'a [u8]) -> Result<Text<'a>, Unfit> {
        std::str::from_utf8(bytes).map_err(|_| Unfit::TextNotUtf8)?;
        if bytes.contains(&0) { Err(Unfit::TextWithNul) } else { Ok(Text(bytes)) }
    }

    /// The bytes: UTF-8.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The text.
    pub fn as_str(&self) -> &'a str {
        std::str::from_utf8(self.0).expect("it was UTF-8 when it was made")
    }
}

impl<'a> From<&'a str> for Text<'a> {
    /// Does not check for NUL, which PostgreSQL refuses.
    fn from(text: &'a str) -> Text<'a> {
        Text(text.as_bytes())
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Whether all bytes are from 1 to 127, eight at a time.
#[inline]
fn is_ascii_without_nul(bytes: &[u8]) -> bool {
    // The high bit of a byte, or of the byte less 1, is set above 127 and at 0. A borrow comes only
    // from a byte of 0, which is already detected.
    let marks = |eight: &[u8; 8]| {
        let word = u64::from_ne_bytes(*eight);
        word | word.wrapping_sub(LOW_BITS)
    };
    match bytes.last_chunk::<8>() {
        Some(last) => {
            let (chunks, _) = bytes.as_chunks::<8>();
            // The last eight may overlap those before them.
            (chunks.iter().fold(marks(last), |all, chunk| all | marks(chunk))) & HIGH_BITS == 0
        }
        None => bytes.iter().all(|byte| (1..=0x7F).contains(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_are_judged_as_the_standard_library_judges_them(
            mut bytes in prop::collection::vec(1..=0x7Fu8, 0..40),
            odd in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            whole in any::<String>(),
        ) {
            for (at, byte) in odd {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            for bytes in [bytes.as_slice(), whole.as_bytes()] {
                let expected = match std::str::from_utf8(bytes) {
                    Err(_) => Err(Unfit::TextNotUtf8),
                    Ok(text) if text.contains('\0') => Err(Unfit::TextWithNul),
                    Ok(text) => Ok(text),
                };
                prop_assert_eq!(Text::new(bytes).map(|text| text.as_str()), expected);
            }
        }
    }

    #[test]
    fn one_odd_byte_is_seen_wherever_it_stands() {
        for length in 0..40 {
            let plain = vec![b'x'; length];
            assert!(is_ascii_without_nul(&plain));
            for at in 0..length {
                for odd in [0, 0x80, 0x81, 0xFF] {
                    let mut bytes = plain.clone();
                    bytes[at] = odd;
                    assert!(!is_ascii_without_nul(&bytes), "{odd} at {at} of {length}");
                }
            }
        }
    }
}
