//! `corecast gen-token`, `gen-sub-token` and `check-token`: tokens by the configuration's own secret and rules.

use super::{ConfigArgs, Failure, print};
use crate::{
    auth::{Hs, Refused, Verifier, sign},
    config::{Token, parse_duration},
};
use serde_json::{Map, Value};
use std::{
    fmt::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

#[derive(clap::Args, Debug)]
pub struct Common {
    #[command(flatten)]
    config: ConfigArgs,
    /// The user's id; empty for an anonymous one
    #[arg(short, long, default_value = "", value_name = "ID")]
    user: String,
    /// How long it is good, as 1h30m; 0s: for ever
    #[arg(short, long, default_value = "168h", value_name = "DURATION", value_parser = duration)]
    ttl: Duration,
    /// Further claims, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    claims: Option<Map<String, Value>>,
}

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  corecast gen-token --config config.json --user 42 --ttl 1h\n\n\
                        Signed with HS256 and client.token.hmac_secret_key. For development and scripts: your backend makes its own.")]
pub struct GenTokenArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  corecast gen-sub-token --config config.json --user 42 --channel '$secret'\n\n\
                        Signed with HS256 and the secret of client.subscription_token if that is enabled, else of client.token."
)]
pub struct GenSubTokenArgs {
    #[command(flatten)]
    common: Common,
    /// The channel it opens
    #[arg(long, value_name = "CHANNEL")]
    channel: String,
}

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  corecast check-token --config config.json eyJhbGciOi…")]
pub struct CheckTokenArgs {
    #[command(flatten)]
    config: ConfigArgs,
    token: String,
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("must be a duration, as 25s or 1h30m")
}

fn object(text: &str) -> Result<Map<String, Value>, &'static str> {
    serde_json::from_str(text).map_err(|_| "must be a JSON object, as {\"info\":{\"name\":\"Ann\"}}")
}

fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

pub fn generate(args: &GenTokenArgs) -> Result<(), Failure> {
    let settings = args.common.config.load()?.settings;
    print(&(made(&args.common, &settings.client.token, "client.token", None)? + "\n"))
}

pub fn generate_sub(args: &GenSubTokenArgs) -> Result<(), Failure> {
    let client = args.common.config.load()?.settings.client;
    let (section, token) = match &client.subscription_token {
        own if own.enabled => ("client.subscription_token", &own.token),
        _ => ("client.token", &client.token),
    };
    print(&(made(&args.common, token, section, Some(&args.channel))? + "\n"))
}

/// A token that this configuration accepts.
fn made(args: &Common, token: &Token, section: &str, channel: Option<&str>) -> Result<String, Failure> {
    if token.hmac_secret_key.is_empty() {
        return Err(Failure::Run(format!(
            "{section}.hmac_secret_key is empty, and tokens are signed with it: set it in the configuration"
        )));
    }
    let mut claims = Map::new();
    let mut claim = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    let user_claim = if token.user_id_claim.is_empty() { "sub" } else { &token.user_id_claim };
    claim(user_claim, args.user.as_str().into());
    claim("iat", unix().as_secs().into());
    if !args.ttl.is_zero() {
        claim("exp", (unix() + args.ttl).as_secs().into());
    }
    if !token.audience.is_empty() {
        claim("aud", token.audience.as_str().into());
    }
    if !token.issuer.is_empty() {
        claim("iss", token.issuer.as_str().into());
    }
    if let Some(channel) = channel {
        claim("channel", channel.into());
    }
    for (name, value) in args.claims.iter().flatten() {
        claim(name, value.clone());
    }
    Ok(sign(Hs::Hs256, &token.hmac_secret_key, &Value::Object(claims).to_string()))
}

pub fn check(args: &CheckTokenArgs) -> Result<(), Failure> {
    let client = args.config.load()?.settings.client;
    let unix_ms = u64::try_from(unix().as_millis()).unwrap_or(u64::MAX);
    let connection = match Verifier::of_connections(&client).connect(&args.token, unix_ms) {
        Ok(claims) => {
            let mut text = format!("good connection token of {}\n", named(&claims.user));
            let _ = writeln!(text, "expires: {}", left(claims.expires_unix_ms, unix_ms));
            for sub in claims.subs {
                let _ = writeln!(text, "subscribes to: {}", sub.channel);
            }
            return print(&text);
        }
        Err(refused) => refused,
    };
    let subscription = match Verifier::of_subscriptions(&client).subscribe(&args.token, unix_ms) {
        Ok(claims) => {
            let mut text = format!("good subscription token of {}\n", named(&claims.user));
            let _ = writeln!(text, "channel: {}", claims.channel);
            let _ = writeln!(text, "expires: {}", left(claims.expires_unix_ms, unix_ms));
            return print(&text);
        }
        Err(refused) => refused,
    };
    Err(Failure::Run(match (connection, subscription) {
        (one, other) if one == other => format!("refused: {one}"),
        (one, Refused::Purpose) => format!("refused: {one}"),
        (Refused::Purpose, other) => format!("refused: {other}"),
        (one, other) => format!("refused as a connection token: {one}; as a subscription token: {other}"),
    }))
}

fn named(user: &str) -> String {
    if user.is_empty() { "an anonymous user".into() } else { format!("user {user:?}") }
}

fn left(expires_unix_ms: Option<u64>, unix_ms: u64) -> String {
    match expires_unix_ms.map(|it| it.saturating_sub(unix_ms)) {
        None => "never".into(),
        Some(0) => "it has (expire_at)".into(),
        Some(left_ms) => format!("in {} s", left_ms.div_ceil(1000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_accepted() {
        let mut client = crate::config::Client::default();
        let mut args = Common {
            config: ConfigArgs::default(),
            user: "42".into(),
            ttl: Duration::from_secs(60),
            claims: object(r#"{"info":{"n":1}}"#).ok(),
        };
        assert!(made(&args, &client.token, "client.token", None).is_err(), "no secret");
        client.token.hmac_secret_key = "secret".into();
        client.token.audience = "us".into();
        client.token.issuer = "me".into();
        client.token.user_id_claim = "uid".into();
        let now_ms = u64::try_from(unix().as_millis()).unwrap();
        let token = made(&args, &client.token, "client.token", None).unwrap();
        let claims = Verifier::of_connections(&client).connect(&token, now_ms).unwrap();
        assert_eq!((&*claims.user, claims.info.as_deref()), ("42", Some(&b"{\"n\":1}"[..])));
        assert!(claims.expires_unix_ms.is_some_and(|at| at > now_ms && at <= now_ms + 62_000));
        args.ttl = Duration::ZERO;
        let token = made(&args, &client.token, "client.token", Some("$a")).unwrap();
        let claims = Verifier::of_subscriptions(&client).subscribe(&token, now_ms).unwrap();
        assert_eq!((&*claims.channel, claims.expires_unix_ms), ("$a", None));
    }
}
