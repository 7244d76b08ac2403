//! Good tokens of every algorithm, and attacks: each a row with what it must be told.

use super::*;
use crate::config::{Client, Flag, SourceFile, Sources, Token, load};
use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
        RSA_PKCS1_SHA512, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as URL};

mod jwks;
mod mutated;

/// 2023-11-14 22:13:20.
const NOW_S: u64 = 1_700_000_000;
const NOW: u64 = NOW_S * 1000;
const SECRET: &str = "secret";

fn verifier(change: impl FnOnce(&mut Client)) -> Verifier {
    let mut client = Client::default();
    client.token.hmac_secret_key = SECRET.into();
    change(&mut client);
    assert_eq!(check(&client), []);
    Verifier::of_connections(&client)
}

fn hs256(claims: &str) -> String {
    sign(Hs::Hs256, SECRET, claims)
}

/// A token with this header, signed by `with`.
fn signed(header: &str, claims: &str, with: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", URL.encode(header), URL.encode(claims));
    let signature = with(signed.as_bytes());
    format!("{signed}.{}", URL.encode(signature))
}

fn hmac256(secret: &[u8]) -> impl FnOnce(&[u8]) -> Vec<u8> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    move |message| aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
}

fn pem(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("PUBLIC KEY", der))
}

struct Rsa(RsaKeyPair);

impl Rsa {
    fn new() -> Self {
        Self(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn pem(&self) -> String {
        pem(self.0.public_key().as_der().unwrap().as_ref())
    }

    fn token(&self, name: &str, claims: &str) -> String {
        let padding = match name {
            "RS384" => &RSA_PKCS1_SHA384,
            "RS512" => &RSA_PKCS1_SHA512,
            _ => &RSA_PKCS1_SHA256,
        };
        signed(&format!(r#"{{"alg":"{name}"}}"#), claims, |message| {
            let mut signature = vec![0; self.0.public_modulus_len()];
            self.0.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
            signature
        })
    }
}

struct Ecdsa(EcdsaKeyPair);

impl Ecdsa {
    fn new(algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        Self(EcdsaKeyPair::generate(algorithm).unwrap())
    }

    fn pem(&self) -> String {
        pem(self.0.public_key().as_der().unwrap().as_ref())
    }

    fn token(&self, name: &str, claims: &str) -> String {
        signed(&format!(r#"{{"alg":"{name}"}}"#), claims, |message| {
            self.0.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
        })
    }
}

const CLAIMS: &str = r#"{"sub":"42"}"#;

#[track_caller]
fn user(verifier: &Verifier, token: &str) -> Result<String, Refused> {
    verifier.connect(token, NOW).map(|claims| claims.user.into())
}

#[track_caller]
fn accepts(verifier: &Verifier, token: &str) {
    assert_eq!(user(verifier, token), Ok("42".into()), "{token}");
}

#[test]
fn every_algorithm_by_its_key() {
    let plain = verifier(|_| {});
    for algorithm in [Hs::Hs256, Hs::Hs384, Hs::Hs512] {
        accepts(&plain, &sign(algorithm, SECRET, CLAIMS));
        assert_eq!(user(&plain, &sign(algorithm, "other", CLAIMS)), Err(Refused::Signature));
    }
    let (rsa, other) = (Rsa::new(), Rsa::new());
    let by_rsa = verifier(|client| client.token.rsa_public_key = rsa.pem());
    for name in ["RS256", "RS384", "RS512"] {
        accepts(&by_rsa, &rsa.token(name, CLAIMS));
        assert_eq!(user(&by_rsa, &other.token(name, CLAIMS)), Err(Refused::Signature), "{name}");
        assert_eq!(user(&plain, &rsa.token(name, CLAIMS)), Err(Refused::Algorithm), "{name}");
    }
    let curves: [(&str, &'static EcdsaSigningAlgorithm); 3] = [
        ("ES256", &ECDSA_P256_SHA256_FIXED_SIGNING),
        ("ES384", &ECDSA_P384_SHA384_FIXED_SIGNING),
        ("ES512", &ECDSA_P521_SHA512_FIXED_SIGNING),
    ];
    for (name, curve) in curves {
        let (key, other) = (Ecdsa::new(curve), Ecdsa::new(curve));
        let by_key = verifier(|client| client.token.ecdsa_public_key = key.pem());
        accepts(&by_key, &key.token(name, CLAIMS));
        assert_eq!(user(&by_key, &other.token(name, CLAIMS)), Err(Refused::Signature), "{name}");
        // The key decides: the header cannot ask for another curve.
        for (named, _) in curves.iter().filter(|(named, _)| *named != name) {
            assert_eq!(
                user(&by_key, &key.token(named, CLAIMS)),
                Err(Refused::Algorithm),
                "{name} as {named}"
            );
        }
    }
    let key = Ed25519KeyPair::generate().unwrap();
    let token = signed(r#"{"alg":"EdDSA"}"#, CLAIMS, |message| key.sign(message).as_ref().to_vec());
    let key = pem(key.public_key().as_der().unwrap().as_ref());
    accepts(&verifier(|client| client.token.ed25519_public_key = key), &token);
    assert_eq!(user(&plain, &token), Err(Refused::Algorithm));
}

#[test]
fn the_token_does_not_choose_its_key() {
    let rsa = Rsa::new();
    let public = rsa.pem();
    let only_rsa = verifier(|client| {
        client.token.hmac_secret_key = String::new();
        client.token.rsa_public_key = public.clone();
    });
    let both = verifier(|client| client.token.rsa_public_key = public.clone());
    let by_public_key = |header: &str| signed(header, CLAIMS, hmac256(public.as_bytes()));
    let rows = [
        ("the public key as a secret", by_public_key(r#"{"alg":"HS256"}"#), Refused::Algorithm),
        ("none", signed(r#"{"alg":"none"}"#, CLAIMS, |_| vec![]), Refused::Algorithm),
        ("none, signed", by_public_key(r#"{"alg":"None"}"#), Refused::Algorithm),
        ("no algorithm", by_public_key(r#"{"typ":"JWT"}"#), Refused::Malformed),
        ("two algorithms", by_public_key(r#"{"alg":"RS256","alg":"HS256"}"#), Refused::Malformed),
        ("a list of algorithms", by_public_key(r#"{"alg":["HS256"]}"#), Refused::Malformed),
        ("lower case", by_public_key(r#"{"alg":"hs256"}"#), Refused::Algorithm),
        ("RSA with another padding", by_public_key(r#"{"alg":"PS256"}"#), Refused::Algorithm),
        ("RSA claimed, HMAC made", by_public_key(r#"{"alg":"RS256"}"#), Refused::Signature),
        ("extensions", by_public_key(r#"{"alg":"RS256","crit":["b64"],"b64":false}"#), Refused::Malformed),
    ];
    for (name, token, want) in rows {
        assert_eq!(user(&only_rsa, &token), Err(want), "{name}");
    }
    assert_eq!(user(&both, &by_public_key(r#"{"alg":"HS256"}"#)), Err(Refused::Signature));
    // Keys that come with the token, and names that lead elsewhere, are nothing to us.
    for header in [
        r#"{"alg":"HS256","kid":"../../dev/null"}"#,
        r#"{"alg":"HS256","kid":"x' UNION SELECT 'secret","jku":"http://127.0.0.1/keys"}"#,
        r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AA"},"x5u":"http://127.0.0.1/"}"#,
    ] {
        assert_eq!(user(&both, &signed(header, CLAIMS, hmac256(b""))), Err(Refused::Signature), "{header}");
        assert_eq!(user(&both, &signed(header, CLAIMS, hmac256(b"\0"))), Err(Refused::Signature), "{header}");
        accepts(&both, &signed(header, CLAIMS, hmac256(SECRET.as_bytes())));
    }
    let none = verifier(|client| client.token.hmac_secret_key = String::new());
    assert_eq!(user(&none, &signed(r#"{"alg":"HS256"}"#, CLAIMS, hmac256(b""))), Err(Refused::Algorithm));
    let skips = verifier(|client| client.insecure_skip_token_signature_verify = true);
    accepts(&skips, &sign(Hs::Hs256, "whatever", CLAIMS));
    assert_eq!(user(&skips, "a.b"), Err(Refused::Malformed));
    assert_eq!(user(&Verifier::default(), &hs256(CLAIMS)), Err(Refused::TooLong));
}

#[test]
fn forms() {
    let verifier = verifier(|client| client.token.size_max = 400);
    let good = hs256(CLAIMS);
    accepts(&verifier, &good);
    let parts: Vec<_> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!() };
    let other = URL.encode(r#"{"sub":"1"}"#);
    for (name, token, want) in [
        ("empty", String::new(), Refused::Malformed),
        ("one part", "bad".into(), Refused::Malformed),
        ("two parts", format!("{header}.{payload}"), Refused::Malformed),
        ("four parts", format!("{good}.{signature}"), Refused::Malformed),
        ("dots", "..".into(), Refused::Malformed),
        ("padding", format!("{good}="), Refused::Malformed),
        ("no base64", format!("{header}.{payload}.%%%"), Refused::Malformed),
        ("the other base64", format!("{header}.{payload}.+/+/"), Refused::Malformed),
        ("a space", format!(" {good}"), Refused::Malformed),
        ("a newline", format!("{good}\n"), Refused::Malformed),
        ("header no JSON", format!("{}.{payload}.{signature}", URL.encode("x")), Refused::Malformed),
        ("header a list", format!("{}.{payload}.{signature}", URL.encode("[]")), Refused::Malformed),
        ("no signature", format!("{header}.{payload}."), Refused::Signature),
        ("a short signature", format!("{header}.{payload}.{}", &signature[..40]), Refused::Signature),
        ("other claims", format!("{header}.{other}.{signature}"), Refused::Signature),
        (
            "bits left over in the signature",
            {
                let last = signature.chars().last().unwrap();
                let next = char::from_u32(u32::from(last) + 1).unwrap();
                format!("{header}.{payload}.{}{next}", &signature[..signature.len() - 1])
            },
            Refused::Malformed,
        ),
    ] {
        assert_eq!(user(&verifier, &token), Err(want), "{name}");
    }
    let long = |len: usize| hs256(&format!(r#"{{"sub":"42","x":"{}"}}"#, "x".repeat(len)));
    let fits = (0..400).rev().map(long).find(|token| token.len() <= 400).unwrap();
    accepts(&verifier, &fits);
    assert_eq!(user(&verifier, &long(400)), Err(Refused::TooLong));
}

#[test]
fn claims_have_their_types_and_times() {
    let verifier = verifier(|_| {});
    #[track_caller]
    fn check_row(verifier: &Verifier, claims: &str, want: Result<&str, Refused>) {
        assert_eq!(user(verifier, &hs256(claims)), want.map(str::to_owned), "{claims}");
    }
    let row = |claims: &str, want| check_row(&verifier, claims, want);
    let expired = |ago_ms| Err(Refused::Expired { ago_ms });
    row(r#"{"sub":"42","exp":1700000001}"#, Ok("42"));
    row(r#"{"sub":"42","exp":1700000000.001}"#, Ok("42"));
    row(r#"{"sub":"42","exp":1700000000}"#, expired(0));
    row(r#"{"sub":"42","exp":1699999999}"#, expired(1000));
    row(r#"{"sub":"42","exp":0}"#, expired(NOW));
    row(r#"{"sub":"42","exp":-1}"#, expired(NOW + 1000));
    row(r#"{"sub":"42","exp":1e300}"#, Ok("42"));
    row(r#"{"sub":"42","exp":18446744073709551615}"#, Ok("42"));
    row(r#"{"sub":"42","exp":null}"#, Ok("42"));
    row(r#"{"sub":"42","nbf":1700000000}"#, Ok("42"));
    row(r#"{"sub":"42","nbf":1700000001}"#, Err(Refused::NotYet { in_ms: 1000 }));
    row(r#"{"sub":"42","iat":1700000009,"jti":"1"}"#, Ok("42"));
    row("{}", Ok(""));
    row(r#"{"sub":""}"#, Ok(""));
    row(r#"{"sub":"\u0034\u0032"}"#, Ok("42"));
    for wrong in [
        r#"{"sub":"42","exp":"1700000001"}"#,
        r#"{"sub":"42","exp":[1700000001]}"#,
        r#"{"sub":"42","exp":true}"#,
        r#"{"sub":"42","exp":{}}"#,
        r#"{"sub":"42","nbf":"1600000000"}"#,
        r#"{"sub":"42","iat":"1600000000"}"#,
        r#"{"sub":"42","jti":1}"#,
        r#"{"sub":42}"#,
        r#"{"sub":["42"]}"#,
        r#"{"sub":"1","sub":"42"}"#,
        r#"{"sub":"42","exp":1,"exp":1700000001}"#,
        r#"{"sub":"42","channels":"a"}"#,
        r#"{"sub":"42","channels":[""]}"#,
        r#"{"sub":"42","subs":["a"]}"#,
        r#"{"sub":"42","subs":{"a":{"override":{"force_recovery":true}}}}"#,
        r#"{"sub":"42","b64info":"%"}"#,
        r#"{"sub":"42","expire_at":"1"}"#,
        r#"{"sub":"42","aud":1}"#,
        r#"{"sub":"42","iss":["x"]}"#,
        r#"{"sub":"42"} x"#,
        r#""42""#,
        "null",
        "",
        "{\"sub\":\"\u{0}\"}",
    ] {
        row(wrong, Err(Refused::Claims));
    }
    row(r#"{"sub":"42","channel":"a"}"#, Err(Refused::Purpose));
    row(r#"{"sub":"42","channel":""}"#, Ok("42"));
    let deep = format!(r#"{{"sub":"42","x":{}1{}}}"#, "[".repeat(4000), "]".repeat(4000));
    // Passed over, whatever it holds; nobody recurses.
    row(&deep, Ok("42"));
}

#[test]
fn audience_issuer_and_user() {
    #[track_caller]
    fn row(change: impl FnOnce(&mut Token), claims: &str, want: Result<&str, Refused>) {
        let verifier = verifier(|client| change(&mut client.token));
        assert_eq!(user(&verifier, &hs256(claims)), want.map(str::to_owned), "{claims}");
    }
    let audience = |token: &mut Token| token.audience = "us".into();
    row(audience, r#"{"aud":"us"}"#, Ok(""));
    row(audience, r#"{"aud":["them","us"]}"#, Ok(""));
    for wrong in ["{}", r#"{"aud":"use"}"#, r#"{"aud":["them"]}"#, r#"{"aud":[]}"#, r#"{"aud":"us","exp":1}"#]
        .into_iter()
        .filter(|it| !it.contains("exp"))
    {
        row(audience, wrong, Err(Refused::Audience));
    }
    // Who is not meant is not told that the token is too old.
    row(audience, r#"{"aud":"them","exp":1}"#, Err(Refused::Audience));
    let regex = |token: &mut Token| token.audience_regex = "^u.$".into();
    row(regex, r#"{"aud":["x","us"]}"#, Ok(""));
    row(regex, r#"{"aud":"use"}"#, Err(Refused::Audience));
    let issuer = |token: &mut Token| token.issuer = "me".into();
    row(issuer, r#"{"iss":"me"}"#, Ok(""));
    row(issuer, r#"{"iss":"you"}"#, Err(Refused::Issuer));
    row(issuer, "{}", Err(Refused::Issuer));
    row(|token| token.issuer_regex = "^https://".into(), r#"{"iss":"http://x"}"#, Err(Refused::Issuer));
    let claim = |token: &mut Token| token.user_id_claim = "uid".into();
    row(claim, r#"{"sub":"1","uid":"42"}"#, Ok("42"));
    row(claim, r#"{"sub":"1"}"#, Ok(""));
    row(claim, r#"{"sub":"1","uid":42}"#, Err(Refused::Claims));
}

#[test]
fn a_previous_secret_is_good_until_its_time() {
    let until = |seconds| {
        verifier(|client| {
            client.token.hmac_previous_secret_key = "before".into();
            client.token.hmac_previous_secret_key_valid_until = seconds;
        })
    };
    let old = sign(Hs::Hs512, "before", CLAIMS);
    accepts(&until(0), &old);
    accepts(&until(NOW_S + 1), &old);
    assert_eq!(user(&until(NOW_S), &old), Err(Refused::Signature));
    assert_eq!(user(&until(1), &old), Err(Refused::Signature));
    accepts(&until(1), &hs256(CLAIMS));
}

#[test]
fn what_a_connection_is_told() {
    let verifier = verifier(|_| {});
    let read = |claims: &str| verifier.connect(&hs256(claims), NOW).unwrap();
    let claims = read(
        r#"{"sub":"42","exp":1700000100,"info":{"n": 1},"meta":{"plan":"a"},"channels":["zz"],
            "subs":{"news":{"data":[1],"override":{"force_recovery":{"value":true},"presence":{"value":false},
                    "join_leave":{},"force_positioning":{"value":null},"force_push_join_leave":null}},
                    "b":{"b64info":"AP8="}}}"#,
    );
    assert_eq!(claims.expires_unix_ms, Some((NOW_S + 100) * 1000));
    assert_eq!(claims.info.as_deref(), Some(&b"{\"n\": 1}"[..]));
    assert_eq!(claims.meta.as_deref(), Some(&b"{\"plan\":\"a\"}"[..]));
    let [b, news] = &claims.subs[..] else { panic!("{:?}", claims.subs) };
    assert_eq!((&*b.channel, b.info.as_deref()), ("b", Some(&[0, 255][..])));
    assert_eq!((&*news.channel, news.data.as_deref()), ("news", Some(&b"[1]"[..])));
    assert_eq!(
        news.overrides,
        Overrides {
            force_recovery: Some(true),
            presence: Some(false),
            join_leave: Some(false),
            force_positioning: Some(false),
            force_push_join_leave: None,
        }
    );
    let names = |claims: &str| read(claims).subs.iter().map(|it| it.channel.to_string()).collect::<Vec<_>>();
    assert_eq!(names(r#"{"channels":["b","a","b"]}"#), ["a", "b"]);
    let expires = |claims: &str| read(claims).expires_unix_ms;
    assert_eq!(expires("{}"), None);
    assert_eq!(expires(r#"{"exp":1700000100,"expire_at":0}"#), None);
    assert_eq!(expires(r#"{"exp":1700000100,"expire_at":5}"#), Some(5000));
    assert_eq!(expires(r#"{"exp":1700000100,"expire_at":-5}"#), None);
}

#[test]
fn subscriptions_have_keys_of_their_own_when_told_so() {
    let mut client = Client::default();
    client.token.hmac_secret_key = SECRET.into();
    client.subscription_token.token.hmac_secret_key = "sub".into();
    let claims = r#"{"sub":"42","channel":"$a","client":"c","info":1,"data":{}}"#;
    let read = |client: &Client, secret| {
        Verifier::of_subscriptions(client).subscribe(&sign(Hs::Hs256, secret, claims), NOW)
    };
    let found = read(&client, SECRET).unwrap();
    assert_eq!((&*found.user, &*found.channel, &*found.client), ("42", "$a", "c"));
    assert_eq!(read(&client, "sub"), Err(Refused::Signature));
    client.subscription_token.enabled = true;
    assert!(read(&client, "sub").is_ok());
    assert_eq!(read(&client, SECRET), Err(Refused::Signature));
    let plain = Verifier::of_subscriptions(&client);
    let token = sign(Hs::Hs256, "sub", CLAIMS);
    assert_eq!(plain.subscribe(&token, NOW), Err(Refused::Purpose));
}

#[test]
fn a_bad_key_is_told_with_its_place() {
    let small = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----";
    let rsa = Rsa::new().pem();
    let text = serde_json::json!({ "client": { "token": {
        "rsa_public_key": small,
        "ecdsa_public_key": rsa,
        "ed25519_public_key": "secret key",
        "audience_regex": "(",
    }, "subscription_token": { "rsa_public_key": small.replace("PUBLIC", "PRIVATE") } } });
    let text = serde_json::to_string_pretty(&text).unwrap();
    let file = SourceFile { name: "c.json".into(), text };
    let flags = vec![Flag::set("client.token.issuer_regex=[").unwrap()];
    let loaded = load(Sources { file: Some(file), flags, ..Sources::default() }).unwrap();
    let errors = loaded.complain(check(&loaded.settings.client)).to_string();
    let lines: Vec<_> = errors.lines().collect();
    assert_eq!(lines.iter().filter(|line| line.contains("client.")).count(), 6, "{errors}");
    for wanted in [
        "client.token.rsa_public_key: is no RSA public key of 2048 to 8192 bits",
        "client.token.ecdsa_public_key: is no ECDSA public key",
        "client.token.ed25519_public_key: is no PEM",
        "client.token.audience_regex: is no regular expression",
        "--set client.token.issuer_regex: client.token.issuer_regex: is no regular expression",
        "client.subscription_token.rsa_public_key: is a private key",
        "c.json:",
    ] {
        assert!(errors.contains(wanted), "{wanted}\n{errors}");
    }
    assert!(!errors.contains("secret key"), "{errors}");
}
