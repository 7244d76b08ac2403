//! Subscriptions that come with the connection, as the client wishes them: filters, deltas, numbers; and no maps.

use super::{One, open_settings};
use crate::{
    auth::{Hs, sign},
    broker::seam::{ApiRequest, PublishOptions},
    config::{ChannelOptions, Map, MapMode, Namespace, Settings, SubscriptionType},
    model::{ConnKey, Protocol},
};
use std::time::Duration;

fn settings() -> Settings {
    let mut settings = open_settings();
    settings.client.token.hmac_secret_key = "secret".into();
    let kept = ChannelOptions {
        presence: false,
        join_leave: false,
        allow_tags_filter: true,
        allow_channel_compaction: true,
        allowed_delta_types: vec!["fossil".into()],
        delta_publish: true,
        ..settings.channel.without_namespace.clone()
    };
    settings.channel.without_namespace = kept.clone();
    let no_filters = ChannelOptions { allow_tags_filter: false, ..kept };
    let map = Map { mode: MapMode::Ephemeral, key_ttl: Duration::from_secs(60), ..Map::default() };
    let map = ChannelOptions { subscription_type: SubscriptionType::Map, map, ..ChannelOptions::default() };
    settings.channel.namespaces = [("off", no_filters), ("map", map)]
        .map(|(name, options)| Namespace { name: name.into(), options, ..Namespace::default() })
        .into();
    settings
}

/// Connects with these wishes and returns what the reply says of subscriptions, or the whole reply.
fn connect(one: &mut One, rest: &str) -> (ConnKey, String) {
    let conn = one.open(Protocol::Json);
    one.core.begin_turn(one.now);
    let heard = one.hear(conn, &format!(r#"{{"id":1,"connect":{{{rest}}}}}"#)).concat();
    let subs = heard.split_once(r#""subs":{"#).map(|it| it.1.split_once("},\"ping\"").unwrap().0.to_owned());
    (conn, subs.unwrap_or(heard))
}

fn publish(one: &mut One, channel: &str, data: &str, tag: &str) {
    one.core.begin_turn(one.now);
    let (channel, data) = (channel.into(), data.as_bytes().into());
    let (tags, options) = (vec![("t".into(), tag.into())], PublishOptions::default());
    one.core.api(1, ApiRequest::Publish { channel, data, tags, options });
    one.turn();
}

const OF_X: &str = r#""tf":{"key":"t","cmp":"eq","val":"x"}"#;

fn text(number: u32) -> String {
    format!("\"a long text that stays as it is, and a number behind it: {number}\"")
}

#[test]
fn as_the_client_wishes() {
    let mut one = One::new(settings());
    let wishes = format!(r#""subs":{{"d":{{"delta":"fossil","flag":1}},"f":{{{OF_X}}}}}"#);
    let (conn, subs) = connect(&mut one, &wishes);
    let settled = r#""recoverable":true,"epoch":"E","positioned":true"#;
    assert_eq!(subs, format!(r#""d":{{{settled},"delta":true,"id":1}},"f":{{{settled}}}"#));
    publish(&mut one, "d", &text(1), "");
    let quoted = text(1).replace('"', "\\\"");
    let full = format!(r#"{{"push":{{"id":1,"pub":{{"data":"{quoted}","offset":1,"tags":{{"t":""}}}}}}}}"#);
    assert_eq!(one.heard(conn), [full]);
    publish(&mut one, "d", &text(2), "");
    assert!(one.heard(conn)[0].ends_with(r#""offset":2,"tags":{"t":""},"delta":true}}}"#));
    publish(&mut one, "f", "1", "y");
    assert_eq!(one.heard(conn), [""; 0], "it does not pass");
    publish(&mut one, "f", "2", "x");
    let told = r#"{"push":{"channel":"f","pub":{"data":2,"offset":2,"tags":{"t":"x"}}}}"#;
    assert_eq!(one.heard(conn), [told]);
}

#[test]
fn what_was_missed_as_well() {
    let mut one = One::new(settings());
    for (number, tag) in [(1, "x"), (2, "x"), (3, "y")] {
        publish(&mut one, "c", &text(number), tag);
    }
    let recover = |offset, rest| format!(r#""subs":{{"c":{{"recover":true,"offset":{offset},{rest}}}}}"#);
    let quoted = text(1).replace('"', "\\\"");
    for (offset, rest, want) in [
        (0, r#""delta":"fossil""#, format!(r#""publications":[{{"data":"{quoted}","offset":1,"#)),
        (0, r#""delta":"fossil""#, r#","offset":3,"tags":{"t":"y"},"delta":true}],"recovered":true"#.into()),
        (1, OF_X, format!(r#""publications":[{{"data":{},"offset":2,"tags":{{"t":"x"}}}}],"#, text(2))),
        // At the top, so that it does not fall off the history.
        (2, OF_X, r#""epoch":"E","recovered":true,"offset":3,"positioned":true"#.into()),
    ] {
        let (_, subs) = connect(&mut one, &recover(offset, rest));
        assert!(subs.contains(&want), "{offset} {rest}: {subs}");
    }
}

#[test]
fn what_cannot_come() {
    let mut one = One::new(settings());
    let (_, said) = connect(&mut one, &format!(r#""subs":{{"off:c":{{{OF_X}}}}}"#));
    assert_eq!(said, r#"{"id":1,"error":{"code":107,"message":"bad request"}}"#);
    // A map is read in pages, which only a client can ask for.
    let (_, said) = connect(&mut one, r#""subs":{"map:c":{},"c":{}}"#);
    assert_eq!(said, r#""c":{"recoverable":true,"epoch":"E","positioned":true}"#);
    let token = sign(Hs::Hs256, "secret", r#"{"sub":"42","channels":["map:c"]}"#);
    let (_, said) = connect(&mut one, &format!(r#""token":"{token}""#));
    assert_eq!(said, r#"{"id":1,"error":{"code":107,"message":"bad request"}}"#);
}
