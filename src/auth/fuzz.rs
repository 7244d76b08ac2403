//! Entry points for fuzzers: any bytes as a token, as the claims of a well-signed one, as a set of keys, as capabilities.

use super::{
    Allow, Caps, Hs, KeySet, Refused, Verifier,
    caps::{RawCap, wildcard},
    jwt::Algorithm,
    sign,
};
use crate::config::Client;
use regex::Regex;
use serde_json::Value;

const ALGORITHMS: [Algorithm; 10] = [
    Algorithm::Hs256,
    Algorithm::Hs384,
    Algorithm::Hs512,
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::Es512,
    Algorithm::EdDsa,
];

/// Longer inputs are passed over where the other way to say the same takes long.
const LONG: usize = 1000;

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
        let read: Option<Value> = serde_json::from_str(&text).ok();
        let exp = read.as_ref().and_then(|it| it.get("exp")).filter(|it| !it.is_null());
        match verifier.connect(&token, UNIX_MS) {
            Ok(claims) => {
                let exp = exp.map(|it| it.as_f64().expect("a number"));
                assert!(exp.is_none_or(|it| it * 1000.0 >= UNIX_MS as f64), "{text}");
                assert!(claims.user.len() <= text.len());
            }
            Err(Refused::Expired { .. }) => assert!(exp.is_some_and(Value::is_number), "{text}"),
            Err(refused) => assert!(!matches!(refused, Refused::Signature | Refused::Algorithm), "{text}"),
        }
        let _ = verifier.subscribe(&token, UNIX_MS);
    });
}

/// A key that is found is one of the document's with its id, verifies by no algorithm that another reader of the
/// document does not grant it, and nothing it did not sign. No public key is a secret.
pub fn key_sets(input: &[u8]) {
    let Ok(set) = KeySet::read(input) else { return };
    let Ok(read) = serde_json::from_slice::<Value>(input) else { return };
    // Lists that stand for objects are none of ours.
    let Some(keys) = read["keys"].as_array().filter(|keys| keys.iter().all(Value::is_object)) else { return };
    let signature = &input[..input.len().min(64)];
    let mut found = 0;
    for id in keys.iter().filter_map(|key| key["kid"].as_str()) {
        let Some(key) = set.find(id) else { continue };
        found += 1;
        for algorithm in ALGORITHMS {
            let granted = keys.iter().any(|key| key["kid"] == id && may_sign(key, algorithm));
            match key.verify(algorithm, b"message", signature) {
                Err(Refused::Algorithm) => {}
                Err(Refused::Signature) => assert!(granted, "{id} signs by {algorithm:?}"),
                other => panic!("{id}, {algorithm:?}: {other:?}"),
            }
        }
    }
    assert!(found > 0 && set.find("").is_none());
}

/// Whether this key may sign so, as RFC 7517 and 7518 have it.
fn may_sign(key: &Value, algorithm: Algorithm) -> bool {
    use Algorithm as A;
    let said = |name: &str| key[name].as_str();
    let fits = match (said("kty"), said("crv")) {
        (Some("RSA"), _) => matches!(algorithm, A::Rs256 | A::Rs384 | A::Rs512),
        (Some("EC"), Some("P-256")) => algorithm == A::Es256,
        (Some("EC"), Some("P-384")) => algorithm == A::Es384,
        (Some("EC"), Some("P-521")) => algorithm == A::Es512,
        (Some("OKP"), Some("Ed25519")) => algorithm == A::EdDsa,
        _ => false,
    };
    fits && said("use").is_none_or(|it| it == "sig")
        && said("alg").is_none_or(|it| A::named(it) == Some(algorithm))
}

/// Capabilities allow what another reader of the same claim finds, to whom all patterns are regular expressions. The
/// input is the claim as JSON, a line break, and the name of a channel; a claim that is no JSON is one pattern.
pub fn caps(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (claim, name) = text.rsplit_once('\n').unwrap_or((&text, ""));
    if claim.len() > LONG {
        return;
    }
    let Ok(raw) = serde_json::from_str::<Vec<RawCap<'_>>>(claim) else {
        let same = expression(Some("wildcard"), claim);
        assert_eq!(wildcard(claim, name), same.is_match(name), "{claim:?} {name:?}");
        return;
    };
    let (Ok(caps), Ok(read)) = (Caps::read(&raw), serde_json::from_str::<Value>(claim)) else { return };
    // Lists that stand for objects are none of ours.
    let Some(read) = read.as_array().filter(|caps| caps.iter().all(Value::is_object)) else { return };
    let texts = |cap: &Value, key: &str| -> Vec<String> {
        cap[key].as_array().into_iter().flatten().filter_map(|it| Some(it.as_str()?.to_owned())).collect()
    };
    let others: Vec<(Vec<String>, Vec<Regex>)> = read
        .iter()
        .map(|cap| {
            let patterns = texts(cap, "channels");
            let patterns = patterns.iter().map(|it| expression(cap["match"].as_str(), it)).collect();
            (texts(cap, "allow"), patterns)
        })
        .collect();
    for channel in read.iter().flat_map(|cap| texts(cap, "channels")).chain([name.to_owned()]) {
        for (what, verb) in [
            (Allow::SUBSCRIBE, "sub"),
            (Allow::PUBLISH, "pub"),
            (Allow::PRESENCE, "prs"),
            (Allow::HISTORY, "hst"),
        ] {
            let by = |(allow, patterns): &(Vec<String>, Vec<Regex>)| {
                allow.iter().any(|it| it == verb) && patterns.iter().any(|it| it.is_match(&channel))
            };
            assert_eq!(caps.allow(what, &channel), others.iter().any(by), "{claim}: {verb} {channel:?}");
        }
    }
}

/// A pattern of this kind as a regular expression.
fn expression(kind: Option<&str>, pattern: &str) -> Regex {
    let text = match kind {
        Some("regex") => pattern.to_owned(),
        Some("wildcard") => {
            let parts: Vec<_> = pattern.split('*').map(regex::escape).collect();
            format!("(?s)^{}$", parts.join(".*"))
        }
        _ => format!("^{}$", regex::escape(pattern)),
    };
    Regex::new(&text).expect("a regular expression")
}
