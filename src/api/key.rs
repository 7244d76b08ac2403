//! The API key.

use subtle::ConstantTimeEq;

/// Whether a caller's key opens the API. An empty configured key opens nothing.
///
/// The time taken tells the length of the configured key at most, never a byte of it.
#[must_use]
pub fn key_is_right(configured: &str, given: &[u8]) -> bool {
    !configured.is_empty() && bool::from(configured.as_bytes().ct_eq(given))
}

#[cfg(test)]
mod tests {
    use super::key_is_right;

    #[test]
    fn only_the_whole_key_opens() {
        for (configured, given, right) in [
            ("secret", "secret", true),
            ("secret", "Secret", false),
            ("secret", "secre", false),
            ("secret", "secrets", false),
            ("secret", "", false),
            ("", "", false),
        ] {
            assert_eq!(key_is_right(configured, given.as_bytes()), right, "{configured:?} {given:?}");
        }
    }
}
