use super::*;
use crate::config::Namespace;
use std::time::Duration;

fn namespaces() -> Namespaces {
    let named = |name: &str, history_size| Namespace {
        name: name.into(),
        options: ChannelOptions { history_size, ..ChannelOptions::default() },
        ..Namespace::default()
    };
    Namespaces::new(&Channel {
        without_namespace: ChannelOptions { history_size: 100, ..ChannelOptions::default() },
        namespaces: vec![named("news", 1), named("chat", 2), named("zoo", 3), named("Chat", 4)],
        max_length: 20,
        ..Channel::default()
    })
}

#[test]
fn resolve_table() {
    #[track_caller]
    fn check(namespaces: &Namespaces, channel: &str, history_size: Result<usize, ErrorCode>) {
        let got = namespaces.resolve(channel).map(|options| options.history_size);
        assert_eq!(got, history_size, "{channel}");
        let by_index = namespaces.index(channel).map(|at| namespaces.options().nth(at).unwrap().history_size);
        assert_eq!(by_index, history_size, "{channel}");
    }
    let default = namespaces();
    assert_eq!((default.count(), default.options().count()), (5, 5));
    check(&default, "lobby", Ok(100));
    check(&default, "news:today", Ok(1));
    check(&default, "chat:1:2", Ok(2));
    check(&default, "Chat:1", Ok(4));
    check(&default, "zoo:", Ok(3));
    check(&default, "$news:today", Ok(1));
    check(&default, "$lobby", Ok(100));
    // Only one prefix is stripped.
    check(&default, "$$news:today", Err(ErrorCode::UnknownChannel));
    check(&default, "new:s", Err(ErrorCode::UnknownChannel));
    check(&default, "nope:1", Err(ErrorCode::UnknownChannel));
    // An empty namespace is none.
    check(&default, ":1", Ok(100));
    check(&default, "#42", Ok(100));

    let with = |change: fn(&mut Channel)| {
        let mut channel = default.settings().clone();
        change(&mut channel);
        Namespaces::new(&channel)
    };
    check(&with(|it| it.allow_unknown_namespaces = true), "nope:1", Ok(100));
    check(&with(|it| it.allow_unknown_namespaces = true), "news:1", Ok(1));
    check(&with(|it| it.namespace_boundary = "::".into()), "news::a:b", Ok(1));
    check(&with(|it| it.namespace_boundary = "::".into()), "nope:a", Ok(100));
    check(&with(|it| it.namespace_boundary = String::new()), "nope:a", Ok(100));
    check(&with(|it| it.private_prefix = String::new()), "$news:a", Err(ErrorCode::UnknownChannel));
    check(&with(|it| it.private_prefix = "_".into()), "_news:a", Ok(1));
}

#[test]
fn what_holds_for_all_namespaces_holds_where_they_say_nothing() {
    let mut channel = namespaces().settings().clone();
    channel.publication_data_format = DataFormat::Json;
    channel.namespaces[0].options.publication_data_format = DataFormat::Binary;
    let namespaces = Namespaces::new(&channel);
    let format = |channel: &str| namespaces.resolve(channel).map(|options| options.publication_data_format);
    assert_eq!(format("news:a"), Ok(DataFormat::Binary));
    assert_eq!((format("chat:a"), format("a")), (Ok(DataFormat::Json), Ok(DataFormat::Json)));
}

#[test]
fn check_name_table() {
    #[track_caller]
    fn check(channel: &str, want: Result<(), ErrorCode>) {
        assert_eq!(namespaces().check_name(channel), want, "{channel}");
    }
    check("news:today", Ok(()));
    check(&"x".repeat(20), Ok(()));
    check(&"x".repeat(21), Err(ErrorCode::BadRequest));
    check("n\u{e9}ws", Err(ErrorCode::BadRequest));
}

#[test]
fn check_server_name_table() {
    let channel = Channel { server_max_length: 30, ..namespaces().settings().clone() };
    let namespaces = Namespaces::new(&channel);
    for (channel, want) in [
        ("n\u{e9}ws".to_owned(), Ok(())),
        ("x".repeat(21), Ok(())),
        ("\u{e9}".repeat(15), Ok(())),
        ("\u{e9}".repeat(15) + "x", Err(ErrorCode::BadRequest)),
    ] {
        assert_eq!(namespaces.check_server_name(&channel), want, "{channel}");
    }
}

#[test]
fn user_list_table() {
    #[track_caller]
    fn check(namespaces: &Namespaces, channel: &str, user: &str, allowed: bool) {
        let options = ChannelOptions { allow_user_limited_channels: true, ..ChannelOptions::default() };
        let who = Who { user, subscribed: false, insecure: false };
        let got = namespaces.decide(Verb::Subscribe, &options, who, channel);
        assert_eq!(got.is_ok(), allowed, "{channel} by {user}");
    }
    let default = namespaces();
    check(&default, "d#42", "42", true);
    check(&default, "d#42", "4", false);
    check(&default, "d#4,42", "42", true);
    check(&default, "d#4,42", "4", true);
    check(&default, "d#4,42", "4,42", false);
    // The last boundary counts.
    check(&default, "d#1#2", "1", false);
    check(&default, "d#1#2", "2", true);
    check(&default, "#42", "42", true);
    // Nobody is on an empty list, and nameless users are on none.
    check(&default, "d#", "42", false);
    check(&default, "d#", "", false);
    check(&default, "d#42,", "", false);
    // Without a list the general rule decides, and nothing is allowed here.
    check(&default, "d", "42", false);

    let with = |change: fn(&mut Channel)| {
        let mut channel = default.settings().clone();
        change(&mut channel);
        Namespaces::new(&channel)
    };
    check(&with(|it| it.user_separator = String::new()), "d#4,42", "4,42", true);
    check(&with(|it| it.user_separator = String::new()), "d#4,42", "42", false);
    check(&with(|it| it.user_boundary = String::new()), "d#42", "42", false);
    check(&with(|it| it.user_boundary = "@@".into()), "d@@42", "42", true);
}

/// Calls `check` with every combination of `bits` booleans.
fn every(bits: u32, mut check: impl FnMut(&dyn Fn(u32) -> bool)) {
    for mask in 0u32..1 << bits {
        check(&|bit| mask & (1 << bit) != 0);
    }
}

/// The rules once more, as the list of reasons for which something may be allowed.
fn reasons(
    (role, subscriber, anonymous): (bool, bool, bool),
    is_anonymous: bool,
    subscribed: bool,
    insecure: bool,
) -> bool {
    let mut allowed = false;
    if role {
        allowed = !is_anonymous || anonymous;
    }
    if subscriber && subscribed && !is_anonymous {
        allowed = true;
    }
    if subscriber && subscribed && anonymous {
        allowed = true;
    }
    if insecure {
        allowed = true;
    }
    allowed
}

fn history(options: &mut ChannelOptions, size: bool, ttl: bool) {
    options.history_size = usize::from(size);
    options.history_ttl = Duration::from_millis(ttl.into());
}

#[test]
fn subscribe_exhaustively() {
    let namespaces = namespaces();
    // Name, private, limited, lists user 42.
    let names = [
        ("c", false, false, false),
        ("c#42", false, true, true),
        ("c#7", false, true, false),
        ("$c", true, false, false),
        ("$c#42", true, true, true),
    ];
    every(6, |bit| {
        let options = ChannelOptions {
            allow_subscribe_for_client: bit(0),
            allow_subscribe_for_anonymous: bit(1),
            allow_user_limited_channels: bit(2),
            ..ChannelOptions::default()
        };
        let user = if bit(3) { "" } else { "42" };
        let who = Who { user, insecure: bit(4), subscribed: bit(5) };
        for (name, private, limited, listed) in names {
            let limited = limited && options.allow_user_limited_channels;
            let open_to = |user: &str| !user.is_empty() || options.allow_subscribe_for_anonymous;
            let mut want = who.insecure;
            if limited {
                want |= listed && !user.is_empty();
            } else {
                want |= options.allow_subscribe_for_client && open_to(user);
            }
            if private {
                want = false;
            }
            let want = if want { Ok(()) } else { Err(ErrorCode::PermissionDenied) };
            let got = namespaces.decide(Verb::Subscribe, &options, who, name);
            assert_eq!(got, want, "{name} {who:?} {options:?}");
        }
    });
}

#[test]
fn publish_presence_and_history_exhaustively() {
    let namespaces = namespaces();
    for verb in [Verb::Publish, Verb::Presence, Verb::History] {
        // Options that belong to the other verbs must not matter: `bit(9)` sets them all.
        every(10, |bit| {
            let other = bit(9);
            let own = |mine: Verb, at| if verb == mine { bit(at) } else { other };
            let mut options = ChannelOptions {
                presence: bit(3),
                allow_subscribe_for_client: other,
                allow_subscribe_for_anonymous: other,
                allow_publish_for_client: own(Verb::Publish, 0),
                allow_publish_for_subscriber: own(Verb::Publish, 1),
                allow_publish_for_anonymous: own(Verb::Publish, 2),
                allow_presence_for_client: own(Verb::Presence, 0),
                allow_presence_for_subscriber: own(Verb::Presence, 1),
                allow_presence_for_anonymous: own(Verb::Presence, 2),
                allow_history_for_client: own(Verb::History, 0),
                allow_history_for_subscriber: own(Verb::History, 1),
                allow_history_for_anonymous: own(Verb::History, 2),
                ..ChannelOptions::default()
            };
            history(&mut options, bit(4), bit(5));
            let who = Who { user: if bit(6) { "" } else { "42" }, insecure: bit(7), subscribed: bit(8) };
            let off = match verb {
                Verb::Presence => !bit(3),
                Verb::History => !(bit(4) && bit(5)),
                Verb::Publish | Verb::Subscribe => false,
            };
            let want = if off {
                Err(ErrorCode::NotAvailable)
            } else if reasons((bit(0), bit(1), bit(2)), bit(6), bit(8), bit(7)) {
                Ok(())
            } else {
                Err(ErrorCode::PermissionDenied)
            };
            for name in ["c", "$c", "c#7"] {
                let got = namespaces.decide(verb, &options, who, name);
                assert_eq!(got, want, "{verb:?} {name} {who:?} {options:?}");
            }
        });
    }
}

#[test]
fn grants_exhaustively() {
    every(23, |bit| {
        let mut options = ChannelOptions {
            allow_positioning: bit(0),
            force_positioning: bit(1),
            allow_recovery: bit(2),
            force_recovery: bit(3),
            join_leave: bit(4),
            force_push_join_leave: bit(5),
            allow_history_for_client: bit(6),
            allow_history_for_subscriber: bit(7),
            allow_history_for_anonymous: bit(8),
            allow_presence_for_client: bit(9),
            allow_presence_for_subscriber: bit(10),
            allow_presence_for_anonymous: bit(11),
            allow_channel_compaction: bit(21),
            allowed_delta_types: if bit(19) { vec!["fossil".into()] } else { vec![] },
            ..ChannelOptions::default()
        };
        let keeps = bit(12);
        history(&mut options, keeps, keeps);
        let who = Who { user: if bit(13) { "" } else { "42" }, insecure: bit(14), subscribed: bit(15) };
        let wishes = Grants {
            positioned: bit(16),
            recoverable: bit(17),
            join_leave: bit(18),
            delta: bit(20),
            numbered: bit(22),
            ..Grants::default()
        };
        // The client is about to be a subscriber, whatever it is while it asks.
        let history = reasons((bit(6), bit(7), bit(8)), bit(13), true, bit(14));
        let presence = reasons((bit(9), bit(10), bit(11)), bit(13), true, bit(14));

        let mut want = Grants::default();
        if bit(3) || (wishes.recoverable && bit(2)) || (wishes.recoverable && history) {
            want.recoverable = keeps;
        }
        if want.recoverable || bit(1) || (wishes.positioned && bit(0)) || (wishes.positioned && history) {
            want.positioned = true;
        }
        want.delta = bit(19) && bit(20);
        want.numbered = bit(21) && bit(22);
        if bit(4) {
            want.join_leave = bit(5) || (wishes.join_leave && presence);
        }
        assert_eq!(Namespaces::grant(&options, who, wishes), want, "{options:?} {who:?} {wishes:?}");
    });
}

#[test]
fn conflation_and_echo() {
    let who = Who { user: "42", subscribed: false, insecure: false };
    let ms = Duration::from_millis;
    for (own, most, wished, want) in [
        (0, 0, 0, 0),
        (0, 0, 500, 0),
        (0, 300, 200, 200),
        (0, 300, 500, 300),
        (400, 300, 0, 400),
        (100, 300, 200, 200),
    ] {
        let options = ChannelOptions {
            conflation_interval: ms(own),
            conflation_interval_max: ms(most),
            ..ChannelOptions::default()
        };
        let wishes = Grants { conflate_ms: wished, ..Grants::default() };
        let got = Namespaces::grant(&options, who, wishes);
        assert_eq!(got.conflate_ms, want, "{own} {most} {wished}");
    }
    for (own, wished) in [(false, false), (false, true), (true, false)] {
        let options = ChannelOptions { no_echo: own, ..ChannelOptions::default() };
        let wishes = Grants { no_echo: wished, ..Grants::default() };
        assert_eq!(Namespaces::grant(&options, who, wishes).no_echo, own || wished);
    }
}

#[test]
fn namespaces_by_the_form_of_names() {
    let named = |name: &str, pattern: &str, history_size| Namespace {
        name: name.into(),
        pattern: pattern.into(),
        options: ChannelOptions { history_size, ..ChannelOptions::default() },
    };
    let mut channel = Channel {
        patterns: true,
        namespaces: vec![named("users", "/users/:id", 1), named("news", "", 2), named("me", "/users/me", 3)],
        ..Channel::default()
    };
    for (patterns, name, history_size) in [
        (true, "/users/7", Some(1)),
        (true, "/users/a:b", Some(1)),
        (true, "/users/me", Some(3)),
        (true, "$/users/7", Some(1)),
        (true, "/rooms/7", None),
        (true, "users:7", None),
        (true, "news:7", Some(2)),
        (true, "lobby", Some(0)),
        (false, "/users/7", Some(0)),
        (false, "users:7", Some(1)),
    ] {
        channel.patterns = patterns;
        let namespaces = Namespaces::new(&channel);
        let got = namespaces.resolve(name).map(|options| options.history_size);
        assert_eq!(got, history_size.ok_or(ErrorCode::UnknownChannel), "{patterns} {name}");
    }
}
