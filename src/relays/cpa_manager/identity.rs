//! Numbers for what the relay knows by text: credentials and client keys.

use sha2::{Digest, Sha256};

/// The number of a client key, from the SHA-256 that the relay keeps of it; `None` without one.
pub fn key_id(api_key_hash: &[u8]) -> Option<i64> {
    (!api_key_hash.is_empty()).then(|| number("key", api_key_hash))
}

/// The number of an upstream credential: by its index, as the relay's channel table has it; without one by its source,
/// or by the provider's name; 0 when the row tells nothing.
pub fn provider_id(auth_index: &[u8], source_hash: &[u8], provider: &[u8]) -> i64 {
    let known = [("index", auth_index), ("source", source_hash), ("provider", provider)];
    known.into_iter().find(|(_, text)| !text.is_empty()).map_or(0, |(kind, text)| number(kind, text))
}

/// Positive, and exact as a float.
fn number(kind: &str, text: &[u8]) -> i64 {
    let digest = Sha256::new().chain_update(kind).chain_update([0]).chain_update(text).finalize();
    let bytes = [0, 0, digest[0] >> 4, digest[1], digest[2], digest[3], digest[4], digest[5]];
    i64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_of_another_kind_is_something_else() {
        assert_eq!(key_id(b""), None);
        assert_eq!(provider_id(b"", b"", b""), 0);
        let ids = [
            key_id(b"a").unwrap(),
            provider_id(b"a", b"b", b"c"),
            provider_id(b"", b"a", b"c"),
            provider_id(b"", b"", b"a"),
        ];
        assert!(ids.iter().all(|id| (1..1 << 44).contains(id)));
        assert!(ids.iter().enumerate().all(|(i, id)| !ids[..i].contains(id)));
        assert_eq!(provider_id(b"a", b"b", b"c"), provider_id(b"a", b"x", b"y"));
    }
}
