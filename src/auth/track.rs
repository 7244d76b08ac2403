//! Signatures over the keys a client may track in a shared poll: who may have which, says the backend.
//!
//! A signature reads `iat:exp:mac`: two times in seconds since 1970 (`exp` 0: for ever) and, in hexadecimal, the
//! HMAC-SHA256 of `iat`, `exp`, the user, the channel and the hexadecimal SHA-256 of the keys, all separated by
//! zero bytes, as the keys are. Keys stand in the order of the request; none has a zero byte.

use crate::config::SharedPoll;
use aws_lc_rs::{digest, hmac};

/// Seconds a signature is accepted beyond its expiry: it may have been on its way.
const GRACE_S: u64 = 5;

/// Far above every signature there is.
const SIZE_MAX: usize = 256;

/// Why a client may not track the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackRefused {
    /// The backend did not sign this.
    Signature,
    /// It did, and that time is over.
    Expired,
}

/// What somebody wants to track, and as whom.
#[derive(Clone, Copy, Debug)]
pub struct Tracked<'a> {
    pub user: &'a str,
    pub channel: &'a str,
    pub keys: &'a [&'a str],
}

/// Judges signatures. The default one has no secret and refuses all.
#[derive(Clone, Debug, Default)]
pub struct TrackVerifier {
    key: Option<hmac::Key>,
    previous: Option<Previous>,
    skip_signature: bool,
}

#[derive(Clone, Debug)]
struct Previous {
    key: hmac::Key,
    /// In seconds since 1970; `u64::MAX`: for ever.
    until_s: u64,
}

impl TrackVerifier {
    /// `skip_signature`: everything is allowed to everybody.
    #[must_use]
    pub fn new(settings: &SharedPoll, skip_signature: bool) -> Self {
        let key =
            |secret: &str| (!secret.is_empty()).then(|| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
        let until_s = match settings.hmac_previous_secret_key_valid_until {
            0 => u64::MAX,
            seconds => seconds,
        };
        Self {
            key: key(&settings.hmac_secret_key),
            previous: key(&settings.hmac_previous_secret_key).map(|key| Previous { key, until_s }),
            skip_signature,
        }
    }

    /// Until when the keys may be tracked, in milliseconds since 1970; `None`: for ever.
    ///
    /// # Errors
    /// [`TrackRefused::Expired`] only where the signature is good otherwise.
    pub fn verify(
        &self,
        signature: &str,
        tracked: Tracked<'_>,
        unix_ms: u64,
    ) -> Result<Option<u64>, TrackRefused> {
        let parts = parts(signature);
        let Some((iat, exp, mac)) = parts else {
            return if self.skip_signature { Ok(None) } else { Err(TrackRefused::Signature) };
        };
        let now_s = unix_ms / 1000;
        let good = || {
            let message = message(iat, exp, tracked);
            let signs = |key: &hmac::Key| hmac::verify(key, &message, &mac).is_ok();
            // The time in the signature is the signer's word, so ours counts as well.
            let previous = self.previous.as_ref().filter(|it| now_s <= it.until_s);
            let previous = previous.filter(|it| seconds(iat).is_some_and(|iat| iat <= it.until_s));
            self.key.as_ref().is_some_and(signs) || previous.is_some_and(|it| signs(&it.key))
        };
        if !self.skip_signature && !good() {
            return Err(TrackRefused::Signature);
        }
        match seconds(exp) {
            None => Err(TrackRefused::Signature),
            Some(0) => Ok(None),
            Some(exp) if now_s > exp.saturating_add(GRACE_S) => Err(TrackRefused::Expired),
            Some(exp) => Ok(Some(exp.saturating_mul(1000))),
        }
    }
}

fn seconds(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

fn parts(signature: &str) -> Option<(&str, &str, [u8; 32])> {
    if signature.len() > SIZE_MAX {
        return None;
    }
    let (iat, rest) = signature.split_once(':')?;
    let (exp, hex) = rest.split_once(':')?;
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let mut mac = [0; 32];
    if pairs.len() != mac.len() || !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    for (byte, [high, low]) in mac.iter_mut().zip(pairs) {
        *byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
    }
    Some((iat, exp, mac))
}

/// What is signed.
fn message(iat: &str, exp: &str, tracked: Tracked<'_>) -> Vec<u8> {
    let mut hash = digest::Context::new(&digest::SHA256);
    for (index, key) in tracked.keys.iter().enumerate() {
        if index > 0 {
            hash.update(&[0]);
        }
        hash.update(key.as_bytes());
    }
    let mut message = Vec::new();
    for text in [iat, exp, tracked.user, tracked.channel] {
        message.extend_from_slice(text.as_bytes());
        message.push(0);
    }
    hex(hash.finish().as_ref(), &mut message);
    message
}

fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// What a backend answers to a client that wants to track keys.
#[cfg(test)]
pub fn sign_tracked(secret: &str, tracked: Tracked<'_>, iat_s: u64, exp_s: u64) -> String {
    let (iat, exp) = (iat_s.to_string(), exp_s.to_string());
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut mac = Vec::new();
    hex(hmac::sign(&key, &message(&iat, &exp, tracked)).as_ref(), &mut mac);
    format!("{iat}:{exp}:{}", String::from_utf8_lossy(&mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_700_000_000;

    fn verifier(set: impl FnOnce(&mut SharedPoll)) -> TrackVerifier {
        let mut settings = SharedPoll { hmac_secret_key: "secret".into(), ..SharedPoll::default() };
        set(&mut settings);
        TrackVerifier::new(&settings, false)
    }

    const TRACKED: Tracked<'static> = Tracked { user: "42", channel: "votes:feed", keys: &["a", "b"] };

    // Computed by the Python of docs/SHARED_POLL.md.
    #[test]
    fn agrees_with_what_backends_compute() {
        let want = "1700000000:1700003600:\
                    7d3ec4c17cdf44f702051ccb63b3fd756b32f415a501ce66ae5423fcdb0d15e2";
        assert_eq!(sign_tracked("secret", TRACKED, NOW_S, NOW_S + 3600), want);
        let got = verifier(|_| {}).verify(want, TRACKED, NOW_S * 1000);
        assert_eq!(got, Ok(Some((NOW_S + 3600) * 1000)));
    }

    #[test]
    fn signatures_table() {
        use TrackRefused::{Expired, Signature};
        let good = sign_tracked("secret", TRACKED, NOW_S, NOW_S + 60);
        let check = |text: &str, tracked, at_s: u64, want| {
            assert_eq!(
                verifier(|_| {}).verify(text, tracked, at_s * 1000),
                want,
                "{text} {tracked:?} {at_s}"
            );
        };
        let until = Ok(Some((NOW_S + 60) * 1000));
        check(&good, TRACKED, NOW_S, until);
        check(&good, TRACKED, NOW_S + 65, until);
        check(&good, TRACKED, NOW_S + 66, Err(Expired));
        check(&sign_tracked("secret", TRACKED, NOW_S, 0), TRACKED, u64::MAX / 1000, Ok(None));
        for other in [
            Tracked { user: "43", ..TRACKED },
            Tracked { user: "", ..TRACKED },
            Tracked { channel: "votes:other", ..TRACKED },
            Tracked { keys: &["b", "a"], ..TRACKED },
            Tracked { keys: &["a"], ..TRACKED },
            Tracked { keys: &["a", "b", "c"], ..TRACKED },
            Tracked { keys: &["ab"], ..TRACKED },
            // What a separator that may stand in names would let through.
            Tracked { user: "42\0votes:feed", channel: "", ..TRACKED },
        ] {
            check(&good, other, NOW_S, Err(Signature));
        }
        let (head, mac) = good.rsplit_once(':').unwrap();
        for bad in [
            "".to_owned(),
            ":".into(),
            "::".into(),
            head.into(),
            format!("{head}:"),
            format!("{head}:{}", &mac[1..]),
            format!("{head}:{mac}0"),
            format!("{head}:{}", "0".repeat(64)),
            format!("{head}:{}", "g".repeat(64)),
            format!("{head}:{}", "é".repeat(32)),
            format!("{}:{}:{mac}", NOW_S, NOW_S + 61),
            format!("{}:{mac}", head.replace(':', "::")),
            format!("{}{good}", "0".repeat(300)),
            sign_tracked("other", TRACKED, NOW_S, NOW_S + 60),
        ] {
            check(&bad, TRACKED, NOW_S, Err(Signature));
        }
        // The time of one that nobody signed is nobody's word.
        check(&sign_tracked("other", TRACKED, 1, 2), TRACKED, NOW_S, Err(Signature));
    }

    #[test]
    fn times_are_plain_numbers() {
        for exp in ["-1", "+1", "1.5", " 1", "x", "", "99999999999999999999"] {
            let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
            let mut mac = Vec::new();
            hex(hmac::sign(&key, &message("1", exp, TRACKED)).as_ref(), &mut mac);
            let text = format!("1:{exp}:{}", String::from_utf8(mac).unwrap());
            let got = verifier(|_| {}).verify(&text, TRACKED, NOW_S * 1000);
            assert_eq!(got, Err(TrackRefused::Signature), "{text}");
        }
    }

    #[test]
    fn an_earlier_secret_counts_for_as_long_as_it_shall() {
        let with = |until| {
            verifier(|it| {
                it.hmac_previous_secret_key = "before".into();
                it.hmac_previous_secret_key_valid_until = until;
            })
        };
        let old = |iat| sign_tracked("before", TRACKED, iat, 0);
        for (until, iat, at_s, good) in [
            (0, NOW_S, NOW_S, true),
            (NOW_S, NOW_S, NOW_S, true),
            (NOW_S, NOW_S, NOW_S + 1, false),
            (NOW_S, NOW_S + 1, NOW_S, false),
        ] {
            let got = with(until).verify(&old(iat), TRACKED, at_s * 1000);
            assert_eq!(got.is_ok(), good, "{until} {iat} {at_s}");
        }
        assert!(with(1).verify(&sign_tracked("secret", TRACKED, NOW_S, 0), TRACKED, NOW_S * 1000).is_ok());
    }

    #[test]
    fn without_a_secret_nobody_signs_and_where_all_is_allowed_nobody_needs_to() {
        let empty = sign_tracked("", TRACKED, NOW_S, 0);
        let none = TrackVerifier::new(&SharedPoll::default(), false);
        assert_eq!(none.verify(&empty, TRACKED, 0), Err(TrackRefused::Signature));
        assert_eq!(TrackVerifier::default().verify(&empty, TRACKED, 0), Err(TrackRefused::Signature));
        let open = TrackVerifier::new(&SharedPoll::default(), true);
        assert_eq!(open.verify("", TRACKED, 0), Ok(None));
    }
}
