//! How many clients a node, an address and a user may have, over real sockets and several cores.

use crate::{
    client::{Frame, PATH, WebSocket, upgrade},
    http,
    server::{Server, VARIANTS, eventually},
};
use std::io::Write as _;

fn servers(settings: &'static [&'static str]) -> impl Iterator<Item = Server> {
    VARIANTS.iter().map(move |variant| {
        let own = ["client.allow_anonymous_connect_without_token=true", "http_api.insecure=true"];
        let all: Vec<_> = settings.iter().chain(&own).chain(variant).copied().collect();
        Server::start(&all)
    })
}

/// The status of a handshake, and the connection.
fn knock(server: &Server, fields: &str) -> (u16, std::net::TcpStream) {
    let mut stream = server.connect();
    stream.write_all(upgrade(PATH, fields).as_bytes()).expect("a write");
    let status = http::answer(&mut stream, false).expect("an answer").status;
    (status, stream)
}

#[test]
fn a_node_is_full_before_the_upgrade() {
    for server in servers(&["client.connection_limit=2"]) {
        let (first, _) = WebSocket::open_at(&server, PATH, "");
        let second = knock(&server, "");
        assert_eq!((second.0, knock(&server, "").0), (101, 503));
        assert!(http::get(&server, "/metrics").1.contains("corecast_connections_turned_away_total"));
        first.stream.shutdown(std::net::Shutdown::Both).expect("a socket");
        eventually(|| (knock(&server, "").0 == 101).then_some(()));
    }
}

#[test]
fn an_address_has_so_many_connections() {
    let settings = &["client.connection_limit_per_ip=1", "http_server.trusted_proxies=127.0.0.1"];
    for server in servers(settings) {
        let kept: Vec<_> = [
            ("X-Forwarded-For: 192.0.2.1\r\n", 101),
            ("X-Forwarded-For: 192.0.2.1\r\n", 503),
            ("X-Forwarded-For: 192.0.2.2\r\n", 101),
            ("X-Forwarded-For: 2001:db8::1\r\n", 101),
            ("X-Forwarded-For: 2001:db8::2\r\n", 503),
        ]
        .into_iter()
        .map(|(fields, want)| {
            let (status, stream) = knock(&server, fields);
            assert_eq!(status, want, "{fields}");
            stream
        })
        .collect();
        drop(kept);
        eventually(|| (knock(&server, "X-Forwarded-For: 192.0.2.1\r\n").0 == 101).then_some(()));
    }
}

#[test]
fn a_second_has_room_for_so_many() {
    for server in servers(&["client.connection_rate_limit=5"]) {
        let statuses: Vec<_> = (0..30).map(|_| knock(&server, "").0).collect();
        let refused = statuses.iter().filter(|status| **status == 503).count();
        assert_eq!(statuses[..5], [101; 5], "{statuses:?}");
        assert!(refused > 0, "{statuses:?}");
    }
}

/// Sessions of one user on whatever core they are: the same limit, and calls that find them all.
#[test]
fn a_user_is_one_on_all_cores() {
    for server in servers(&["client.user_id_http_header=X-User", "client.user_connection_limit=3"]) {
        let join = |server: &Server| {
            let (mut client, _) = WebSocket::open_at(server, PATH, "X-User: 7\r\n");
            client.text(r#"{"id":1,"connect":{}}"#);
            client
        };
        let mut clients: Vec<_> = (0..3).map(|_| join(&server)).collect();
        for client in &mut clients {
            assert!(client.line().contains("\"connect\":{\"client\""));
        }
        assert_eq!(join(&server).close(), (3504, "connection limit".to_owned()));
        let call = |method: &str, body: &str| {
            let request = format!(
                "POST /api/{method} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            http::exchange(&server, &request).body
        };
        assert_eq!(call("refresh", r#"{"user":"7","expire_at":32503680000}"#), r#"{"result":{}}"#);
        for client in &mut clients {
            assert_eq!(client.line(), r#"{"push":{"refresh":{"expires":true,"ttl":31536000}}}"#);
        }
        assert!(call("info", "{}").contains(r#""num_clients":3,"num_users":1"#));
        assert_eq!(
            call("disconnect", r#"{"user":"7","disconnect":{"code":4501,"reason":"bye"}}"#),
            r#"{"result":{}}"#
        );
        for client in &mut clients {
            assert_eq!(client.close(), (4501, "bye".to_owned()));
        }
        let mut again = join(&server);
        assert!(!matches!(again.frame(), Frame::Close(..)), "their places are free");
    }
}
