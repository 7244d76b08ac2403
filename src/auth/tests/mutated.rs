//! Mutations of what is good, through the entry points of fuzzers.

use super::*;

/// Feeds mutations of the seeds; `letters` are what is put in.
fn mutated(seeds: &[String], letters: &[u8], rounds: u32, fuzz: fn(&[u8])) {
    let rounds = std::env::var("FUZZ_ROUNDS").map_or(rounds, |it| it.parse().unwrap());
    let mut rng = crate::stdx::rng::Rng::new(7);
    for _ in 0..rounds {
        let mut bytes = seeds[rng.below(seeds.len() as u64) as usize].clone().into_bytes();
        for _ in 0..rng.below(4) {
            let at = rng.below(bytes.len() as u64 + 1) as usize;
            match rng.below(4) {
                0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.below(8)),
                1 => drop(bytes.drain(at..(at + rng.below(6) as usize).min(bytes.len()))),
                2 => drop(bytes.splice(at..at, *b"\"exp\":")),
                _ => bytes.insert(at, letters[rng.below(letters.len() as u64) as usize]),
            }
        }
        fuzz(&bytes);
    }
}

const LETTERS: &[u8] = b"0123456789{}[]\",:.eE-n";

#[test]
fn mutated_tokens_hold() {
    let seeds = [
        hs256(CLAIMS),
        r#"{"sub":"42","exp":1700000001.5,"info":{"a":[1]},"channels":["a"],"aud":["x"]}"#.to_owned(),
        r#"{"subs":{"a":{"b64info":"AP8=","override":{"force_recovery":{"value":true}}}},"expire_at":0}"#
            .into(),
    ];
    mutated(&seeds, LETTERS, 20_000, fuzz);
}

#[test]
fn mutated_key_sets_hold() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let x = URL.encode(pair.public_key().as_ref());
    let ed = format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"a","x":"{x}"}}"#);
    let pair = Ecdsa::new(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let (x, y) = pair.0.public_key().as_ref()[1..].split_at(32);
    let (x, y) = (URL.encode(x), URL.encode(y));
    let ec =
        format!(r#"{{"kty":"EC","crv":"P-256","kid":"b","alg":"ES256","use":"sig","x":"{x}","y":"{y}"}}"#);
    // Another key of the same name that cannot be used, and one that is for something else.
    let oct = r#"{"kty":"oct","kid":"b","alg":"HS256","k":"AA"}"#;
    let sealing = ec.replace("sig", "enc").replace("\"b\"", "\"c\"");
    let seeds = [
        format!(r#"{{"keys":[{ed},{ec}]}}"#),
        format!(r#"{{"keys":[{oct},{ec},{sealing}]}}"#),
        format!(r#"{{"keys":[{}]}}"#, ec.replace("P-256", "P-384")),
        format!(r#"{{"keys":[{},{ed}]}}"#, ec.replace("ES256", "HS256")),
    ];
    mutated(&seeds, LETTERS, 5_000, fuzz_key_sets);
}

#[test]
fn mutated_capabilities_hold() {
    let seeds = [
        r#"[{"channels":["a*","b"],"allow":["sub","pub"],"match":"wildcard"},{"channels":["c"],"allow":["sub"]}]"#,
        r#"[{"channels":["^a+$","b"],"allow":["hst","prs"],"match":"regex"},{"channels":["a*"],"allow":["x"]}]"#,
        "a*b*c",
        "*a*",
        "ab*ba",
    ];
    let names = ["", "ab", "aaa", "a-b-b-c", "bab", "aba", "a*"];
    let seeds: Vec<_> = seeds.iter().flat_map(|seed| names.map(|name| format!("{seed}\n{name}"))).collect();
    mutated(&seeds, b"ab*\n\"{}[],:.(+", 3_000, fuzz_caps);
}
