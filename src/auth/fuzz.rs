//! Entry point for fuzzers: any bytes as a token, and as the claims of a well-signed one.

use super::{Hs, KeySet, Refused, Verifier, sign};
use crate::config::Client;

/// What is fuzzed is judged at this time.
const UNIX_MS: u64 = 1_700_000_000_000;

/// No bytes but those that were signed are a token; claims of any form are read or refused, and what was
/// read of the time is what another reader of JSON finds.
pub fn tokens(input: &[u8]) {
    thread_local! {
        static VERIFIER: Verifier = {
            let mut client = Client::default();
            client.token.hmac_secret_key = "secret".into();
            Verifier::of_connections(&client)
        };
    }
    let text = String::from_utf8_lossy(input);
    VERIFIER.with(|verifier| {
        let good = sign(Hs::Hs256, "secret", r#"{"sub":"42"}"#);
        // A change somewhere: the first byte of the input says where.
        let at = usize::from(input.first().copied().unwrap_or(0)) % good.len();
        let mut changed = good.clone();
        changed.replace_range(at..=at, text.get(1..).unwrap_or_default());
        for token in [&*text, &*changed] {
            assert!(verifier.connect(token, UNIX_MS).is_err() || token == good, "{token}");
        }
        let token = sign(Hs::Hs256, "secret", &text);
        let read: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let exp = read.as_ref().and_then(|it| it.get("exp")).filter(|it| !it.is_null());
        match verifier.connect(&token, UNIX_MS) {
            Ok(claims) => {
                let exp = exp.map(|it| it.as_f64().expect("a number"));
                assert!(exp.is_none_or(|it| it * 1000.0 >= UNIX_MS as f64), "{text}");
                assert!(claims.user.len() <= text.len());
            }
            Err(Refused::Expired { .. }) => assert!(exp.is_some_and(serde_json::Value::is_number), "{text}"),
            Err(refused) => assert!(!matches!(refused, Refused::Signature | Refused::Algorithm), "{text}"),
        }
        let _ = verifier.subscribe(&token, UNIX_MS);
        let _ = KeySet::read(input);
    });
}
