//! Keys that are fetched: what a set may hold, and that no key verifies what is not of its endpoint.

use super::*;
use std::sync::Arc;

fn field(bytes: &[u8]) -> String {
    URL.encode(bytes)
}

fn ed25519(id: &str) -> (Ed25519KeyPair, String) {
    let pair = Ed25519KeyPair::generate().unwrap();
    let x = field(pair.public_key().as_ref());
    let key = format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{id}","use":"sig","x":"{x}"}}"#);
    (pair, key)
}

fn set(keys: &[&str]) -> Option<Arc<KeySet>> {
    Some(Arc::new(KeySet::read(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes()).unwrap()))
}

fn header(alg: &str, id: &str) -> String {
    format!(r#"{{"alg":"{alg}","kid":"{id}"}}"#)
}

fn eddsa(pair: &Ed25519KeyPair, id: &str, claims: &str) -> String {
    signed(&header("EdDSA", id), claims, |message| pair.sign(message).as_ref().to_vec())
}

fn by_endpoint(endpoint: &str) -> Verifier {
    verifier(|client| {
        client.token.jwks_public_endpoint = endpoint.into();
        client.token.issuer_regex = "^https://id/(?P<realm>[a-z]+)$".into();
        client.token.insecure_skip_jwks_endpoint_safety_check = true;
    })
}

const OURS: &str = r#"{"sub":"42","iss":"https://id/ours"}"#;

#[test]
fn every_type_of_key() {
    let mut verifier = by_endpoint("https://id/keys");
    let at: Arc<str> = "https://id/keys".into();
    let (ed, ed_key) = ed25519("ed");
    let rsa = Rsa::new();
    // PKCS #1 of 2048 bits: the modulus with a zero in front, and 65537.
    let der = rsa.0.public_key().as_ref();
    let (n, e) = (field(&der[9..265]), field(&der[267..]));
    let rsa_key = format!(r#"{{"kty":"RSA","kid":"rsa","n":"{n}","e":"{e}"}}"#);
    let rs512_key = format!(r#"{{"kty":"RSA","kid":"rs512","alg":"RS512","n":"{n}","e":"{e}"}}"#);
    let sealing = format!(r#"{{"kty":"RSA","kid":"enc","use":"enc","n":"{n}","e":"{e}"}}"#);
    let curves = [
        ("P-256", "ES256", &ECDSA_P256_SHA256_FIXED_SIGNING),
        ("P-384", "ES384", &ECDSA_P384_SHA384_FIXED_SIGNING),
        ("P-521", "ES512", &ECDSA_P521_SHA512_FIXED_SIGNING),
    ];
    let mut keys = vec![ed_key, rsa_key, rs512_key, sealing];
    let mut good = vec![eddsa(&ed, "ed", OURS)];
    for (curve, name, algorithm) in curves {
        let pair = Ecdsa::new(algorithm);
        let point = pair.0.public_key().as_ref();
        let (x, y) = point[1..].split_at((point.len() - 1) / 2);
        keys.push(format!(
            r#"{{"kty":"EC","crv":"{curve}","kid":"{name}","x":"{}","y":"{}"}}"#,
            field(x),
            field(y)
        ));
        good.push(signed(&header(name, name), OURS, |message| {
            pair.0.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
        }));
    }
    let by_rsa = |alg: &str, id: &str| {
        signed(&header(alg, id), OURS, |message| {
            let padding = if alg == "RS512" { &RSA_PKCS1_SHA512 } else { &RSA_PKCS1_SHA256 };
            let mut signature = vec![0; rsa.0.public_modulus_len()];
            rsa.0.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
            signature
        })
    };
    good.extend([by_rsa("RS256", "rsa"), by_rsa("RS512", "rsa"), by_rsa("RS512", "rs512")]);
    for token in &good {
        assert_eq!(user(&verifier, token), Err(Refused::Key), "nothing is known yet");
    }
    assert_eq!(verifier.plan(&good[0], 0), Plan::Fetch(at.clone()));
    verifier.take_keys(&at, set(&keys.iter().map(String::as_str).collect::<Vec<_>>()), 0);
    good.iter().for_each(|token| accepts(&verifier, token));
    let forged = Ed25519KeyPair::generate().unwrap();
    for (token, want) in [
        (by_rsa("RS256", "rs512"), Refused::Algorithm),
        (by_rsa("RS256", "enc"), Refused::Key),
        (by_rsa("RS256", "ed"), Refused::Algorithm),
        (eddsa(&ed, "other", OURS), Refused::Key),
        (eddsa(&ed, "", OURS), Refused::Malformed),
        (eddsa(&forged, "ed", OURS), Refused::Signature),
        // A public key is no secret.
        (signed(&header("HS256", "ed"), OURS, hmac256(ed.public_key().as_ref())), Refused::Algorithm),
        // Keys of the configuration do not count beside an endpoint.
        (hs256(OURS), Refused::Malformed),
        (eddsa(&ed, "ed", r#"{"sub":"42","iss":"https://evil/ours"}"#), Refused::Issuer),
        (eddsa(&ed, "ed", r#"{"sub":"42"}"#), Refused::Issuer),
    ] {
        assert_eq!(user(&verifier, &token), Err(want), "{token}");
    }
}

/// Two tenants whose keys have the same id: neither signs for the other, and nobody chooses where keys come from.
#[test]
fn keys_belong_to_their_endpoint() {
    let mut verifier = by_endpoint("https://id/{{realm}}/keys");
    let [(ours, our_key), (theirs, their_key)] = ["1", "1"].map(ed25519);
    let token =
        |pair, realm: &str| eddsa(pair, "1", &format!(r#"{{"sub":"42","iss":"https://id/{realm}"}}"#));
    let at = |realm: &str| -> Arc<str> { format!("https://id/{realm}/keys").into() };
    for (pair, realm, key) in [(&ours, "ours", &our_key), (&theirs, "theirs", &their_key)] {
        let token = token(pair, realm);
        assert_eq!(user(&verifier, &token), Err(Refused::Key));
        assert_eq!(verifier.plan(&token, 0), Plan::Fetch(at(realm)));
        verifier.take_keys(&at(realm), set(&[key]), 0);
        accepts(&verifier, &token);
    }
    for (pair, realm) in [(&ours, "theirs"), (&theirs, "ours")] {
        assert_eq!(user(&verifier, &token(pair, realm)), Err(Refused::Signature), "{realm}");
    }
    for issuer in ["https://id/", "https://id/a/b", "https://evil/ours", "https://id/../x"] {
        let token = eddsa(&ours, "1", &format!(r#"{{"iss":"{issuer}"}}"#));
        assert_eq!(user(&verifier, &token), Err(Refused::Issuer), "{issuer}");
        assert_eq!(verifier.plan(&token, 0), Plan::Refuse, "{issuer}: nobody is asked");
    }
}

#[test]
fn what_is_no_key_set() {
    let (_, key) = ed25519("1");
    let pair = Ecdsa::new(&ECDSA_P384_SHA384_FIXED_SIGNING);
    let (x, y) = pair.0.public_key().as_ref()[1..].split_at(48);
    let (x, y) = (field(x), field(y));
    for bad in [
        "".to_owned(),
        "[]".into(),
        "{}".into(),
        r#"{"keys":{}}"#.into(),
        r#"{"keys":[]}"#.into(),
        r#"{"keys":[{"kty":"oct","kid":"1","k":"AA"}]}"#.into(),
        r#"{"keys":[{"kty":"RSA","kid":"1","n":"AQAB","e":"AQAB"}]}"#.into(),
        r#"{"keys":[{"kty":"RSA","kid":"1"}]}"#.into(),
        r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"AA","y":"AA"}]}"#.into(),
        // A point of another curve.
        format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"1","x":"{x}","y":"{y}"}}]}}"#),
        format!(r#"{{"keys":[{}]}}"#, key.replace(r#""kid":"1","#, "")),
        format!(r#"{{"keys":[{}]}}"#, key.replace("Ed25519", "X25519")),
        format!(r#"{{"keys":[{key}]"#),
    ] {
        assert!(KeySet::read(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn an_endpoint_must_be_one() {
    for bad in ["id/keys", "https://{{realm}}/keys", "https://id/{{other}}", "https://id/{{realm"] {
        let mut client = Client::default();
        client.token.jwks_public_endpoint = bad.into();
        client.token.issuer_regex = "^(?P<realm>ours|theirs)$".into();
        let problems = check(&client);
        assert_eq!(problems.len(), 1, "{bad}");
        assert_eq!(problems[0].0, "client.token.jwks_public_endpoint");
    }
    for (group, skip, good) in [("ours|theirs", false, true), (".+", false, false), (".+", true, true)] {
        let mut client = Client::default();
        client.token.jwks_public_endpoint = "https://id/{{realm}}".into();
        client.token.issuer_regex = format!("^(?P<realm>{group})$");
        client.token.insecure_skip_jwks_endpoint_safety_check = skip;
        let problems = check(&client);
        assert_eq!(problems.is_empty(), good, "{group}: {problems:?}");
        assert!(problems.iter().all(|(key, _)| key == "client.token.jwks_public_endpoint"));
    }
}
