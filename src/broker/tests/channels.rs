//! What the options of a namespace change for a client: rights with and without tokens, names, payloads, recovery.

use super::{
    One,
    abroad::{Abroad, OWNED},
    open_settings,
};
use crate::{
    auth::{Hs, sign},
    broker::{
        mesh::{Forward, Mesh},
        seam::{ApiReply, ApiRequest, Overrides, PublishOptions, Target},
    },
    config::{ChannelOptions, DataFormat, RecoveryMode, Settings},
    model::{ConnKey, Disconnect, ErrorCode, Protocol, Publication},
};
use std::{sync::Arc, time::Duration};

fn of(options: ChannelOptions) -> Settings {
    let mut settings = open_settings();
    settings.client.insecure = false;
    settings.client.allow_anonymous_connect_without_token = true;
    settings.client.token.hmac_secret_key = "secret".into();
    settings.channel.without_namespace = options;
    settings
}

fn token(claims: &str) -> String {
    sign(Hs::Hs256, "secret", claims)
}

fn client(one: &mut One, user: &str) -> ConnKey {
    let conn = one.open(Protocol::Json);
    let token = if user.is_empty() { String::new() } else { token(&format!(r#"{{"sub":"{user}"}}"#)) };
    one.hear(conn, &format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
    assert!(one.closed.is_empty());
    conn
}

/// The error a command is answered with; 0 for none.
fn code(heard: &[String]) -> u32 {
    let number = |at: &str| at.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
    heard[0].split_once(r#""error":{"code":"#).map_or(0, |(_, rest)| number(rest))
}

/// What a subscription token says, if there is one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Token {
    None,
    Good,
    Expired,
    Forged,
    OfAnother,
}

impl Token {
    fn text(self, channel: &str, user: &str) -> String {
        let exp = if self == Self::Expired { 1_600_000_000u64 } else { 1_800_000_000 };
        let channel = if self == Self::OfAnother { "another" } else { channel };
        let claims = format!(r#"{{"channel":"{channel}","sub":"{user}","exp":{exp}}}"#);
        match self {
            Self::None => String::new(),
            Self::Forged => sign(Hs::Hs256, "forged", &claims),
            _ => token(&claims),
        }
    }
}

/// The rules as §10.3 lists them, naively: what subscribing comes to. `None`: the connection ends.
fn subscribe_rule(bit: &dyn Fn(u32) -> bool, user: &str, channel: &str, token: Token) -> Option<u32> {
    match token {
        Token::Good => return Some(0),
        Token::Expired => return Some(109),
        Token::Forged => return Some(103),
        Token::OfAnother => return None,
        Token::None => {}
    }
    let private = channel.starts_with('$');
    let listed = channel.rsplit_once('#').map(|(_, users)| users.split(',').any(|it| it == user));
    let limited = bit(2) && listed.is_some();
    let allowed = if private {
        false
    } else if bit(3) {
        true
    } else if limited {
        !user.is_empty() && listed == Some(true)
    } else {
        bit(0) && (!user.is_empty() || bit(1))
    };
    Some(if allowed { 0 } else { 103 })
}

#[test]
fn subscribing_with_and_without_tokens_exhaustively() {
    let tokens = [Token::None, Token::Good, Token::Expired, Token::Forged, Token::OfAnother];
    for mask in 0u32..16 {
        let bit = |at: u32| mask & (1 << at) != 0;
        let mut settings = of(ChannelOptions {
            allow_subscribe_for_client: bit(0),
            allow_subscribe_for_anonymous: bit(1),
            allow_user_limited_channels: bit(2),
            ..ChannelOptions::default()
        });
        settings.client.insecure = bit(3);
        let mut one = One::new(settings);
        for user in ["", "42"] {
            for channel in ["c", "c#42", "c#7,42", "c#7", "$c", "$c#42"] {
                for token in tokens {
                    let conn = client(&mut one, user);
                    let text = token.text(channel, user);
                    let said =
                        format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}","token":"{text}"}}}}"#);
                    let heard = one.hear(conn, &said);
                    let row = format!("{mask:04b} {user:?} {channel} {token:?}");
                    match subscribe_rule(&bit, user, channel, token) {
                        Some(want) => assert_eq!(code(&heard), want, "{row}"),
                        None => assert_eq!(one.closed, [(conn, Disconnect::INVALID_TOKEN)], "{row}"),
                    }
                    one.closed.clear();
                    one.core.end_session(conn);
                }
            }
        }
        one.core.invariants();
    }
}

/// A good token makes a subscriber; what subscribers may, is the options' to say. §10.3, naively.
#[test]
fn what_subscribers_by_token_may_exhaustively() {
    let verbs = [
        r#"{"id":3,"publish":{"channel":"$c","data":1}}"#,
        r#"{"id":3,"presence":{"channel":"$c"}}"#,
        r#"{"id":3,"presence_stats":{"channel":"$c"}}"#,
        r#"{"id":3,"history":{"channel":"$c"}}"#,
    ];
    for mask in 0u32..16 {
        let bit = |at: u32| mask & (1 << at) != 0;
        let mut settings = of(ChannelOptions {
            presence: true,
            history_size: 1,
            history_ttl: Duration::from_secs(1),
            allow_publish_for_client: bit(0),
            allow_publish_for_subscriber: bit(1),
            allow_publish_for_anonymous: bit(2),
            allow_presence_for_client: bit(0),
            allow_presence_for_subscriber: bit(1),
            allow_presence_for_anonymous: bit(2),
            allow_history_for_client: bit(0),
            allow_history_for_subscriber: bit(1),
            allow_history_for_anonymous: bit(2),
            ..ChannelOptions::default()
        });
        settings.client.insecure = bit(3);
        let mut one = One::new(settings);
        for (user, subscribed) in [("", false), ("", true), ("42", false), ("42", true)] {
            let conn = client(&mut one, user);
            let text = if subscribed { Token::Good } else { Token::Forged }.text("$c", user);
            one.hear(conn, &format!(r#"{{"id":2,"subscribe":{{"channel":"$c","token":"{text}"}}}}"#));
            let role = bit(0) || (bit(1) && subscribed);
            let allowed = bit(3) || (role && (bit(2) || !user.is_empty()));
            for said in verbs {
                let heard = one.hear(conn, said);
                let answer: Vec<_> = heard.into_iter().filter(|it| it.starts_with(r#"{"id":3"#)).collect();
                let want = if allowed { 0 } else { 103 };
                assert_eq!(code(&answer), want, "{mask:04b} {user:?} {subscribed} {said}");
            }
            one.core.end_session(conn);
        }
    }
}

#[test]
fn payloads_are_what_the_namespace_says() {
    use DataFormat::{Any, Binary, Json, JsonObject};
    // A payload, and the formats that take it.
    let rows: &[(&[u8], &[DataFormat])] = &[
        (b"", &[Binary]),
        (b"1", &[Any, Json, Binary]),
        (b"null", &[Any, Json, Binary]),
        (b" {\"a\":1}", &[Any, Json, JsonObject, Binary]),
        (b"[{}]", &[Any, Json, Binary]),
        (b"{\"a\":", &[Any, Binary]),
        (b"\xff\0", &[Any, Binary]),
    ];
    for format in [Any, Json, JsonObject, Binary] {
        let mut settings = open_settings();
        settings.channel.without_namespace =
            ChannelOptions { publication_data_format: format, ..ChannelOptions::default() };
        let mut one = One::new(settings);
        let conn = one.open(Protocol::Protobuf);
        one.core.begin_turn(one.now);
        one.core.on_message(conn, b"\x04\x08\x01\x22\x00");
        one.turn();
        for (data, takers) in rows {
            let takes = takers.contains(&format);
            // Command 3: publish (7) with channel (1) and data (2).
            let len = data.len() as u8;
            let publish = [&[0x0a, 1, b'a', 0x12, len][..], data].concat();
            let command = [&[0x08, 3, 0x3a, publish.len() as u8][..], &publish].concat();
            one.core.begin_turn(one.now);
            one.core.on_message(conn, &[&[command.len() as u8][..], &command].concat());
            one.turn();
            // A frame with a reply 3 that is `publish` (8), or an error (2) that begins with its code.
            let want: &[u8] =
                if takes { b"\x82\x05\x04\x08\x03\x42\x00" } else { b"\x08\x03\x12\x0f\x08\x6b" };
            let written = &one.written[0].1;
            assert!(written.windows(want.len()).any(|it| it == want), "{format:?} {data:?}: {written:?}");
            if !data.is_empty() {
                assert_eq!(api_publish(&mut one, data).is_ok(), takes, "{format:?} {data:?} by the API");
            }
        }
    }
}

fn api_publish(one: &mut One, data: &[u8]) -> Result<ApiReply, ErrorCode> {
    let (tags, options) = (vec![], PublishOptions::default());
    one.core.begin_turn(one.now);
    one.core.api(1, ApiRequest::Publish { channel: "a".into(), data: data.into(), tags, options });
    one.turn();
    one.api.pop().unwrap().1
}

#[test]
fn names_are_what_the_namespace_says() {
    let mut settings = open_settings();
    settings.channel.without_namespace.channel_regex = "^[a-z]+$".into();
    settings.channel.namespaces[0].options.channel_regex = r"^\p{L}+$".into();
    let rows = [
        ("abc", 0),
        ("a1", 107),
        ("plain:\u{fc}ml", 0),
        ("$plain:ab", 103),
        ("$plain:a1", 107),
        ("plain:", 107),
        ("plain:a:b", 107),
        // No expression: ASCII.
        ("joins:a1", 0),
        ("joins:\u{fc}", 107),
        ("nons:a", 102),
    ];
    for (name, want) in rows {
        let mut one = One::new(settings.clone());
        let conn = one.client();
        let heard = one.hear(conn, &format!(r#"{{"id":2,"subscribe":{{"channel":"{name}"}}}}"#));
        assert_eq!(code(&heard), want, "{name}");
    }
}

/// The same settings for names of the server's: they are not what clients may say.
#[test]
fn names_of_the_server_are_its_own() {
    let mut settings = of(ChannelOptions { channel_regex: "^[a-z]+$".into(), ..ChannelOptions::default() });
    settings.channel.max_length = 20;
    settings.channel.server_max_length = 100;
    let (long, too_long) = ("\u{e9}".repeat(40), "\u{e9}".repeat(51));
    let rows =
        [("J\u{f3}zef 1", Ok(())), (long.as_str(), Ok(())), (too_long.as_str(), Err(ErrorCode::BadRequest))];
    for (name, want) in rows {
        let mut one = One::new(settings.clone());
        let conn = one.open(Protocol::Json);
        let by_token = token(&format!(r#"{{"sub":"1","channels":["{name}"]}}"#));
        let heard = one.hear(conn, &format!(r#"{{"id":1,"connect":{{"token":"{by_token}"}}}}"#));
        assert_eq!(code(&heard), if want.is_ok() { 0 } else { 107 }, "{heard:?}");
        assert_eq!(heard[0].contains(&format!(r#""subs":{{"{name}":{{}}}}"#)), want.is_ok(), "{heard:?}");
        let (tags, options) = (vec![], PublishOptions::default());
        one.core.begin_turn(one.now);
        one.core.api(1, ApiRequest::Publish { channel: name.into(), data: b"1"[..].into(), tags, options });
        one.turn();
        assert_eq!(one.api.pop().unwrap().1.map(|_| ()), want, "{name}");
        if want.is_ok() {
            assert!(one.heard(conn)[0].contains(r#""pub":{"data":1}"#), "{name}");
            let said = format!(r#"{{"id":2,"publish":{{"channel":"{name}","data":1}}}}"#);
            assert_eq!(code(&one.hear(conn, &said)), 107, "a client may not say {name}");
            let conn = client(&mut one, "2");
            let target = Target { user: "2".into(), ..Target::default() };
            one.core.begin_turn(one.now);
            one.core.api(
                2,
                ApiRequest::Subscribe {
                    target,
                    channel: name.into(),
                    info: None,
                    data: None,
                    recover_since: None,
                    overrides: Overrides::default(),
                    expires_unix_ms: None,
                },
            );
            one.turn();
            let push = format!(r#"{{"push":{{"channel":"{name}","subscribe":{{}}}}}}"#);
            assert_eq!(one.heard(conn), [push]);
        }
        one.core.invariants();
    }
}

/// Every user has a channel of its own, or is told why not.
#[test]
fn no_user_goes_without_its_own_channel() {
    let mut settings = of(ChannelOptions { channel_regex: "^#[a-z]+$".into(), ..ChannelOptions::default() });
    settings.client.subscribe_to_user_personal_channel.enabled = true;
    let longer_than_clients_may_say = "x".repeat(300);
    let too_long = "x".repeat(settings.channel.server_max_length);
    settings.client.token.size_max = 1 << 20;
    for (user, want) in [
        ("42", 0),
        ("J\u{f3}zef", 0),
        (longer_than_clients_may_say.as_str(), 0),
        // Its channel would be of a namespace there is not.
        ("a:b", 102),
        (too_long.as_str(), 107),
    ] {
        let mut one = One::new(settings.clone());
        let conn = one.open(Protocol::Json);
        let token = token(&format!(r#"{{"sub":"{user}"}}"#));
        let heard = one.hear(conn, &format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
        assert_eq!(code(&heard), want, "{heard:?}");
        let has = heard[0].contains(&format!("\"subs\":{{\"#{user}\":{{}}}}"));
        assert_eq!(has, want == 0, "{heard:?}");
    }
}

#[test]
fn the_latest_publication_is_all_that_a_cache_recovers() {
    let mut settings = open_settings();
    let options = &mut settings.channel.without_namespace;
    (options.join_leave, options.force_recovery_mode) = (false, RecoveryMode::Cache);
    let reply =
        |rest: &str| vec![format!(r#"{{"id":2,"subscribe":{{"recoverable":true,"epoch":"E",{rest}}}}}"#)];
    let latest = r#""publications":[{"data":3,"offset":3}],"recovered":true,"#;
    let was = r#""positioned":true,"was_recovering":true"#;
    for auto in [false, true] {
        settings.channel.without_namespace.auto_cache_recover = auto;
        let mut one = One::new(settings.clone());
        let hear = |one: &mut One, request: &str| {
            let conn = one.client();
            one.hear(conn, &format!(r#"{{"id":2,"subscribe":{{"channel":"a"{request}}}}}"#))
        };
        let recover =
            |offset: u64, flag: u8| format!(r#","recover":true,"offset":{offset},"epoch":"","flag":{flag}"#);
        // Nothing is there yet.
        assert_eq!(hear(&mut one, &recover(0, 0)), reply(was), "empty");
        assert_eq!(code(&hear(&mut one, &recover(0, 2))), 112);
        let unasked = r#","flag":2"#;
        let empty = if auto { reply(was) } else { reply(r#""positioned":true"#) };
        assert_eq!(hear(&mut one, unasked), empty, "{auto}: nobody asked for more");
        for data in [b"1", b"2", b"3"] {
            assert!(api_publish(&mut one, data).is_ok());
        }
        assert_eq!(hear(&mut one, &recover(0, 2)), reply(&format!(r#"{latest}"offset":3,{was}"#)), "behind");
        let two = format!(r#"{latest}"offset":3,{was}"#);
        assert_eq!(hear(&mut one, &recover(2, 2)), reply(&two), "one behind");
        let conn = one.client();
        let epoch = super::epoch_of(&mut one, conn, "a");
        let same = format!(r#","recover":true,"offset":3,"epoch":"{epoch}""#);
        let nothing = format!(r#""recovered":true,"offset":3,{was}"#);
        assert_eq!(hear(&mut one, &same), reply(&nothing), "up to date");
        let want = if auto { two } else { r#""offset":3,"positioned":true"#.into() };
        assert_eq!(hear(&mut one, ""), reply(&want), "{auto}: not asked");
    }
}

#[test]
fn a_publication_that_comes_too_late_tells_of_a_loss() {
    for (lag_max_ms, late_ms, lost) in [(0, 3_600_000, false), (500, 500, false), (500, 501, true)] {
        let mut abroad = Abroad::subscribed_with(|settings| {
            settings.client.channel_position_max_time_lag = Duration::from_millis(lag_max_ms);
        });
        let time_ms = abroad.one.now.unix_ms - late_ms;
        let data = b"1"[..].into();
        let publication = Arc::new(Publication { offset: 6, data, time_ms, ..Publication::default() });
        abroad.tell(Mesh::Forward { channel: OWNED, forward: Forward::Publication(publication) });
        if lost {
            abroad.is_told_of_a_loss();
        } else {
            assert!(abroad.one.heard(abroad.conn)[0].contains(r#""offset":6"#), "{lag_max_ms} {late_ms}");
        }
    }
}

#[test]
fn the_server_api_says_how_long_and_with_what_a_subscription_is() {
    let mut one = One::new(open_settings());
    let conn = one.client();
    let target =
        Target { client: one.core.info(conn).unwrap().client.to_string().into(), ..Target::default() };
    let subscribe = |one: &mut One, channel: &str, expires_unix_ms, force_recovery| {
        one.core.begin_turn(one.now);
        let request = ApiRequest::Subscribe {
            target: target.clone(),
            channel: channel.into(),
            info: None,
            data: None,
            recover_since: None,
            overrides: Overrides {
                force_recovery,
                force_push_join_leave: Some(false),
                ..Overrides::default()
            },
            expires_unix_ms,
        };
        one.core.api(1, request);
        one.turn();
        (one.api.pop().unwrap().1.map(|_| ()), one.heard(conn))
    };
    let now = one.now.unix_ms;
    assert_eq!(subscribe(&mut one, "a", Some(now), None), (Err(ErrorCode::Expired), vec![]));
    let plain = r#"{"push":{"channel":"a","subscribe":{}}}"#.to_owned();
    assert_eq!(subscribe(&mut one, "a", None, Some(false)), (Ok(()), vec![plain]));
    let kept = r#"{"push":{"channel":"b","subscribe":{"recoverable":true,"epoch":"E","positioned":true}}}"#;
    assert_eq!(subscribe(&mut one, "b", Some(now + 5_000), None), (Ok(()), vec![kept.into()]));
    // Its time and that for a refresh.
    while one.closed.is_empty() && one.now.unix_ms < now + 40_000 {
        one.later(1_000);
        if one.heard(conn) == ["{}"] {
            one.hear(conn, "{}");
        }
    }
    assert_eq!(one.closed, [(conn, Disconnect::SUBSCRIPTION_EXPIRED)]);
    assert!((30_000..40_000).contains(&(one.now.unix_ms - now)));
}

#[test]
fn json_clients_are_never_told_what_is_not_json() {
    let mut one = One::new(open_settings());
    let conn = one.client();
    one.hear(conn, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    for (call, data) in [&b"1"[..], b"\"}}\n{", b"3"].into_iter().enumerate() {
        let (tags, options) = (vec![], PublishOptions::default());
        let request = ApiRequest::Publish { channel: "a".into(), data: data.into(), tags, options };
        one.core.begin_turn(one.now);
        one.core.api(call as u64, request);
    }
    one.turn();
    let push = |publication: &str| format!(r#"{{"push":{{"channel":"a","pub":{{{publication}}}}}}}"#);
    let live = [push(r#""data":1,"offset":1,"epoch":"E""#), push(r#""data":3,"offset":3"#)];
    assert_eq!(one.heard(conn), live, "live");
    let history = r#"{"id":3,"history":{"publications":[{"data":1,"offset":1,"epoch":"E"},{"data":3,"offset":3}],"epoch":"E","offset":3}}"#;
    assert_eq!(one.hear(conn, r#"{"id":3,"history":{"channel":"a","limit":9}}"#), [history]);
    let late = one.client();
    let recovered = r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"E","publications":[{"data":3,"offset":3}],"recovered":true,"offset":1,"positioned":true,"was_recovering":true}}"#;
    let subscribe = r#"{"id":2,"subscribe":{"channel":"a","recover":true,"offset":1,"epoch":""}}"#;
    assert_eq!(one.hear(late, subscribe)[0], recovered);
}

/// Who is not shown, or announced, or the other way round, whatever the namespace says; by API and by token alike.
#[test]
fn others_see_a_subscriber_as_it_was_said() {
    let mut settings = open_settings();
    settings.client.token.hmac_secret_key = "secret".into();
    let join = |channel: &str| {
        format!(r#"{{"push":{{"channel":"{channel}","join":{{"info":{{"user":"","client":"ID"}}}}}}}}"#)
    };
    let leave = |channel: &str| join(channel).replace(r#""join":"#, r#""leave":"#);
    let stats =
        |clients: u32| format!(r#"{{"id":3,"presence_stats":{{"num_clients":{clients},"num_users":1}}}}"#);
    // Namespace, what is said of presence and of joins; whether both happen.
    for (channel, presence, join_leave, seen, told) in [
        ("joins:a", None, None, true, true),
        ("joins:a", Some(false), None, false, true),
        ("joins:a", None, Some(false), true, false),
        ("joins:a", Some(false), Some(false), false, false),
        ("joins:a", Some(true), Some(true), true, true),
        ("plain:a", None, None, false, false),
        ("plain:a", Some(true), Some(true), false, true),
    ] {
        let mut one = One::new(settings.clone());
        let who = format!("{channel} {presence:?} {join_leave:?}");
        let watcher = one.client();
        let said = Overrides { presence, join_leave, ..Overrides::default() };
        let subscribe = |one: &mut One, conn, overrides| {
            let client = one.core.info(conn).unwrap().client.to_string().into();
            let request = ApiRequest::Subscribe {
                target: Target { client, ..Target::default() },
                channel: channel.into(),
                info: None,
                data: None,
                recover_since: None,
                overrides,
                expires_unix_ms: None,
            };
            one.core.begin_turn(one.now);
            one.core.api(1, request);
            one.turn();
            assert_eq!(one.api.pop().unwrap().1.map(drop), Ok(()), "{who}");
        };
        let watches = Overrides { force_push_join_leave: Some(true), ..Overrides::default() };
        subscribe(&mut one, watcher, watches);
        let conn = one.client();
        subscribe(&mut one, conn, said);
        assert_eq!(one.heard(watcher), if told { vec![join(channel)] } else { vec![] }, "{who}");
        let answer = one.hear(watcher, &format!(r#"{{"id":3,"presence_stats":{{"channel":"{channel}"}}}}"#));
        if channel.starts_with("joins") {
            assert_eq!(answer, [stats(1 + u32::from(seen))], "{who}");
        }
        one.core.invariants();
        one.core.end_session(conn);
        one.turn();
        assert_eq!(one.heard(watcher), if told { vec![leave(channel)] } else { vec![] }, "{who}");
        one.core.end_session(watcher);
        one.core.invariants();
        assert_eq!(one.core.residue().sessions, 0);
    }
    // A token says the same.
    let mut one = One::new(settings);
    let watcher = one.client();
    one.hear(watcher, r#"{"id":2,"subscribe":{"channel":"joins:a","join_leave":true}}"#);
    let quiet = r#"{"sub":"","subs":{"joins:a":{"override":{"presence":{"value":false},"join_leave":{"value":false}}}}}"#;
    let conn = one.open(Protocol::Json);
    let token = token(quiet);
    let heard = one.hear(conn, &format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
    assert!(heard[0].contains(r#""subs":{"joins:a":{}}"#), "{heard:?}");
    assert!(one.heard(watcher).is_empty());
    let answer = one.hear(watcher, r#"{"id":3,"presence_stats":{"channel":"joins:a"}}"#);
    assert_eq!(answer, [stats(1)]);
}
