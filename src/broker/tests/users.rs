//! Users: how many sessions one may have, and what the server API does to them.

use super::{One, open_settings};
use crate::{
    broker::{
        core::SessionStart,
        mesh::{Answer, Ask, Mesh, Survey, SurveyAnswer, Tell, Whom},
        outbox::Framing,
        seam::{ApiReply, ApiRequest, Overrides, Refresh, Target},
    },
    config::Settings,
    model::{ConnKey, Disconnect, ErrorCode, Protocol},
};
use std::sync::Arc;

/// A connection whose proxy says that it is `user`; its connect is sent.
fn connect(one: &mut One, user: &str) -> ConnKey {
    let conn = ConnKey { index: one.conns, generation: 7 };
    one.conns += 1;
    one.core.open(conn);
    let user = Some(user.into());
    let start = SessionStart { user, ..SessionStart::new(Protocol::Json, Framing::WebSocketText) };
    one.core.start_session(conn, start);
    one.say(conn, r#"{"id":1,"connect":{}}"#);
    one.turn();
    conn
}

fn heard_connect(one: &One, conn: ConnKey) -> bool {
    one.heard(conn).first().is_some_and(|line| line.contains(r#""connect":{"client""#))
}

fn settings(limit: usize, single: bool) -> Settings {
    let mut settings = open_settings();
    settings.client.user_connection_limit = limit;
    settings.client.subscribe_to_user_personal_channel.enabled = single;
    settings.client.subscribe_to_user_personal_channel.single_connection = single;
    settings
}

#[test]
fn a_user_has_so_many_sessions() {
    let mut one = One::new(settings(2, false));
    let first = connect(&mut one, "a");
    assert!(heard_connect(&one, first));
    connect(&mut one, "a");
    let other = connect(&mut one, "b");
    assert!(heard_connect(&one, other) && one.closed.is_empty());
    let third = connect(&mut one, "a");
    assert_eq!((one.heard(third), &one.closed[..]), (vec![], &[(third, Disconnect::CONNECTION_LIMIT)][..]));
    one.closed.clear();
    one.core.end_session(first);
    let fourth = connect(&mut one, "a");
    assert!(heard_connect(&one, fourth) && one.closed.is_empty(), "there is room again");
    for _ in 0..5 {
        let nobody = connect(&mut one, "");
        assert!(heard_connect(&one, nobody), "nobody is no user");
    }
}

#[test]
fn a_single_session_replaces_the_others() {
    let mut one = One::new(settings(0, true));
    let first = connect(&mut one, "a");
    let second = connect(&mut one, "a");
    assert!(heard_connect(&one, second));
    assert_eq!(one.closed, [(first, Disconnect::CONNECTION_LIMIT)]);
    assert_eq!(one.core.stats().users, 1);
    one.core.end_session(second);
    assert_eq!(one.core.stats().users, 0);
}

#[test]
fn the_server_api_reaches_everybody() {
    let mut one = One::new(settings(0, false));
    let conns = [connect(&mut one, "a"), connect(&mut one, "b"), connect(&mut one, "")];
    let target = Target { all: true, ..Target::default() };
    for conn in conns {
        one.hear(conn, r#"{"id":2,"subscribe":{"channel":"news"}}"#);
    }
    let call = |one: &mut One, request| {
        one.core.begin_turn(one.now);
        one.core.api(1, request);
        one.turn();
        one.api.pop().unwrap().1.map(drop)
    };
    let unsubscribe = ApiRequest::Unsubscribe { target: target.clone(), channel: "news".into() };
    assert_eq!(call(&mut one, unsubscribe), Ok(()));
    let push = r#"{"push":{"channel":"news","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#;
    for conn in conns {
        assert!(one.heard(conn).iter().any(|it| it == push), "{:?}", one.heard(conn));
    }
    let subscribe = ApiRequest::Subscribe {
        target: target.clone(),
        channel: "news".into(),
        info: None,
        data: None,
        recover_since: None,
        overrides: Overrides::default(),
        expires_unix_ms: None,
    };
    assert_eq!(call(&mut one, subscribe), Err(ErrorCode::NotAvailable));
    let kept = one.core.info(conns[1]).unwrap().client.to_string().into();
    let disconnect = ApiRequest::Disconnect { target, whitelist: vec![kept], disconnect: Disconnect::FORCE };
    assert_eq!(call(&mut one, disconnect), Ok(()));
    let ended: Vec<ConnKey> = one.closed.iter().map(|(conn, _)| *conn).collect();
    assert_eq!(ended, [conns[0], conns[2]]);
    one.core.invariants();
}

/// A user that another core owns.
fn foreign(one: &One) -> String {
    (0..).map(|n| format!("u{n}")).find(|user| one.core.owners.of(user) == 1).unwrap()
}

/// What core 0 sends to core 1.
fn sent(one: &mut One) -> Vec<Mesh> {
    std::mem::take(one.core.outgoing(1))
}

fn asked(one: &mut One) -> crate::broker::mesh::AskKey {
    match &sent(one)[..] {
        [Mesh::Ask { id, ask }] if matches!(**ask, Ask::Enter { .. } | Ask::Act { .. }) => *id,
        other => panic!("{other:?}"),
    }
}

fn answer(one: &mut One, id: crate::broker::mesh::AskKey, answer: Answer) {
    one.core.begin_turn(one.now);
    one.core.on_mesh(1, Mesh::Answer { id, answer: Box::new(answer) });
    one.turn();
}

#[test]
fn connect_waits_for_the_owner_of_the_user() {
    let refusals = [
        (ErrorCode::LimitExceeded, vec![], Some(Disconnect::CONNECTION_LIMIT)),
        (
            ErrorCode::Internal,
            vec![r#"{"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}"#],
            None,
        ),
    ];
    for (error, says, closes) in refusals {
        let mut one = One::of(2, settings(0, false));
        let user = foreign(&one);
        let conn = connect(&mut one, &user);
        assert!(one.heard(conn).is_empty());
        let id = asked(&mut one);
        answer(&mut one, id, Answer::Error(error));
        assert_eq!(
            (one.heard(conn), one.closed.pop().map(|(_, why)| why)),
            (says.iter().map(|it| (*it).to_owned()).collect(), closes)
        );
        assert!(matches!(&sent(&mut one)[..], [Mesh::Tell(Tell::Leave { .. })]), "whatever it knows of this");
    }
    let mut one = One::of(2, settings(0, false));
    let user = foreign(&one);
    let conn = connect(&mut one, &user);
    let id = asked(&mut one);
    // What is said behind connect waits with it.
    assert!(one.hear(conn, r#"{"id":2,"presence":{"channel":"plain:a"}}"#).is_empty());
    answer(&mut one, id, Answer::Entered(None));
    assert!(heard_connect(&one, conn) && one.heard(conn)[1].contains("\"id\":2"), "{:?}", one.heard(conn));
    one.core.begin_turn(one.now);
    one.core.on_mesh(1, Mesh::Tell(Tell::Replaced { conn }));
    one.turn();
    assert_eq!(one.closed, [(conn, Disconnect::CONNECTION_LIMIT)]);
    // Another connection gives up before the owner answers.
    sent(&mut one);
    let conn = connect(&mut one, &user);
    let id = asked(&mut one);
    one.core.end_session(conn);
    assert!(matches!(&sent(&mut one)[..], [Mesh::Tell(Tell::Leave { conn: left, .. })] if *left == conn));
    answer(&mut one, id, Answer::Entered(None));
    assert_eq!(one.core.residue().sessions, 0);
}

fn to(user: &str) -> Target {
    Target { user: user.into(), ..Target::default() }
}

fn disconnect(user: &str) -> ApiRequest {
    ApiRequest::Disconnect { target: to(user), whitelist: vec![], disconnect: Disconnect::FORCE }
}

#[test]
fn a_call_about_a_user_goes_through_its_owner() {
    let mut one = One::of(2, settings(0, false));
    let user = foreign(&one);
    let conn = connect(&mut one, &user);
    let id = asked(&mut one);
    answer(&mut one, id, Answer::Entered(None));
    // This core's caller: the owner says how many will answer, before or after they do.
    for answered_first in [false, true] {
        one.core.api(5, disconnect(&user));
        one.turn();
        let (id, gather) = match &sent(&mut one)[..] {
            [Mesh::Ask { id, ask }] => match &**ask {
                Ask::Act { gather, .. } => (*id, *gather),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        let acted = Mesh::SurveyAnswer { id: gather, answer: Box::new(SurveyAnswer::Acted) };
        if answered_first {
            one.core.on_mesh(1, acted);
            assert!(one.api.is_empty());
            answer(&mut one, id, Answer::Acting(1));
        } else {
            answer(&mut one, id, Answer::Acting(1));
            assert!(one.api.is_empty());
            one.core.on_mesh(1, acted);
            one.turn();
        }
        assert!(matches!(one.api.pop(), Some((5, Ok(ApiReply::Done)))));
    }
    // A caller elsewhere is answered by this core, which the owner of the user sent the call to.
    let act = Arc::new(disconnect(&user));
    let survey = Arc::new(Survey::Act { act, whom: Whom::These(vec![conn]) });
    let id = crate::stdx::slab::Key { index: 3, generation: 4 };
    one.core.begin_turn(one.now);
    one.core.on_mesh(1, Mesh::Survey { asker: 1, id, survey });
    one.turn();
    assert_eq!(one.closed, [(conn, Disconnect::FORCE)]);
    let answers = sent(&mut one);
    assert!(
        answers.iter().any(|it| matches!(it, Mesh::SurveyAnswer { id: answered, .. } if *answered == id))
    );
}

#[test]
fn an_owner_that_stays_silent_is_an_error() {
    let mut one = One::of(2, settings(0, false));
    let user = foreign(&one);
    one.core.api(5, disconnect(&user));
    one.later(6_000);
    for _ in 0..60 {
        one.later(100);
    }
    assert!(matches!(one.api.pop(), Some((5, Err(ErrorCode::Internal)))));
    assert_eq!(one.core.residue().pending, 0);
}

#[test]
fn the_server_gives_and_takes_time() {
    let refresh = |one: &mut One, refresh: Refresh| {
        one.core.begin_turn(one.now);
        one.core.api(1, ApiRequest::Refresh { target: to("a"), refresh });
        one.turn();
        assert!(matches!(one.api.pop(), Some((1, Ok(ApiReply::Done)))));
    };
    let at = 1_700_000_000;
    let mut one = One::new(settings(0, false));
    let conn = connect(&mut one, "a");
    refresh(&mut one, Refresh { expire_at: at + 100, ..Refresh::default() });
    assert_eq!(one.heard(conn), [r#"{"push":{"refresh":{"expires":true,"ttl":100}}}"#]);
    refresh(&mut one, Refresh { info: Some(b"{\"n\":1}"[..].into()), ..Refresh::default() });
    assert_eq!(one.heard(conn), [r#"{"push":{"refresh":{}}}"#], "for ever");
    let said = one.hear(conn, r#"{"id":2,"publish":{"channel":"a","data":1}}"#);
    assert_eq!(said, [r#"{"id":2,"publish":{}}"#]);
    let said = one.hear(conn, r#"{"id":3,"history":{"channel":"a","limit":1}}"#);
    assert!(said[0].contains(r#""conn_info":{"n":1}"#), "{said:?}");
    let other = connect(&mut one, "b");
    refresh(&mut one, Refresh { expired: true, ..Refresh::default() });
    assert_eq!(one.closed, [(conn, Disconnect::EXPIRED)]);
    one.closed.clear();
    let conn = connect(&mut one, "a");
    refresh(&mut one, Refresh { expire_at: at, ..Refresh::default() });
    assert_eq!(one.closed, [(conn, Disconnect::EXPIRED)], "that was before now");
    assert_eq!(one.core.stats().clients, 1, "{other:?} is another user");
}

/// A call that names a client finds it by its id, if the user is right as well.
#[test]
fn a_call_about_a_client_asks_its_core_only() {
    let mut one = One::of(2, settings(0, false));
    let conn = connect(&mut one, "");
    let client = one.core.info(conn).unwrap().client.to_string();
    let call = |one: &mut One, user: &str, client: &str| {
        let target = Target { user: user.into(), client: client.into(), ..Target::default() };
        let disconnect = Disconnect::FORCE;
        one.core.begin_turn(one.now);
        one.core.api(1, ApiRequest::Disconnect { target, whitelist: vec![], disconnect });
        one.turn();
        assert!(sent(one).is_empty());
        assert!(matches!(one.api.pop(), Some((1, Ok(ApiReply::Done)))));
        std::mem::take(&mut one.closed).len()
    };
    assert_eq!(call(&mut one, "x", &client), 0);
    assert_eq!(call(&mut one, "", "not an id"), 0);
    assert_eq!(call(&mut one, "", &client), 1);
}
