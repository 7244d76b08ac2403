//! `corecast pub`: publishes into a channel, as a client over WebSocket or through the server API.

use super::client::{self, Client, ClientError, Target};
use crate::{
    model::Protocol,
    wire::client::{PublishRequest, Request},
};
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

/// Publish data into a channel.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Channel to publish into.
    channel: String,
    /// A JSON value; with --text any text.
    data: String,
    /// WebSocket address of the server.
    #[arg(long, default_value = "ws://127.0.0.1:8000/connection/websocket")]
    url: String,
    /// Trust the certificates in this PEM file instead of the system's (wss://, https://).
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Speak Protobuf instead of JSON.
    #[arg(long)]
    protobuf: bool,
    /// Connection token (JWT).
    #[arg(long, default_value = "")]
    token: String,
    /// Publish DATA as a JSON string.
    #[arg(long)]
    text: bool,
    /// Publish so many times.
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u64,
    /// Publications per second; by default each waits for the reply to the one before.
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Publish through the server API at this address (http://127.0.0.1:8000/api) instead.
    #[arg(long, value_name = "URL")]
    api: Option<String>,
    /// Key for the server API.
    #[arg(long, value_name = "KEY", default_value = "")]
    api_key: String,
}

/// Why nothing, or not everything, was published.
#[derive(Debug, thiserror::Error)]
pub enum PubError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0} is not a JSON value; to publish it as text add --text")]
    NotJson(String),
    #[error("--rate must be above 0")]
    Rate,
    #[error("--api-key may not contain control characters")]
    ApiKey,
    #[error("{url} did not answer: {source}; is the server running, and its HTTP API not disabled?")]
    Api { url: String, source: io::Error },
    #[error("{url} answered {answer}{}", if *.unauthorized { "; give the server's http_api.key with --api-key" } else { "" })]
    ApiRefused { url: String, answer: String, unauthorized: bool },
}

/// Publishes `--count` times and waits for every answer.
///
/// # Errors
/// [`PubError`]; everything before the failure was published.
pub fn run(args: Args) -> Result<ExitCode, PubError> {
    let data = payload(&args.data, args.text)?;
    if args.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
        return Err(PubError::Rate);
    }
    match &args.api {
        Some(url) => {
            let body = serde_json::json!({"channel": args.channel, "data": data}).to_string();
            paced(&args, || call_api(url, &args.api_key, args.ca.as_deref(), &body))
        }
        None => {
            let target = Target::parse(&args.url)?;
            let protocol = if args.protobuf { Protocol::Protobuf } else { Protocol::Json };
            let mut client = Client::connect(&target, protocol, &args.token, args.ca.as_deref())?;
            paced(&args, || {
                let data = Some(data.get().as_bytes());
                let request = PublishRequest {
                    channel: args.channel.as_str().into(),
                    data,
                    ..PublishRequest::default()
                };
                let id = client.send(Request::Publish(request))?;
                client.answer(id, "the publication")?;
                Ok(())
            })?;
            client.close();
            Ok(())
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

fn payload(data: &str, text: bool) -> Result<Box<serde_json::value::RawValue>, PubError> {
    let json = if text { serde_json::Value::from(data).to_string() } else { data.trim().to_owned() };
    // A raw line break would end the message in the JSON protocol.
    let json = json.replace(['\n', '\r'], " ");
    serde_json::value::RawValue::from_string(json).map_err(|_| PubError::NotJson(data.into()))
}

/// Each publication has its time on the schedule, whatever the one before took.
fn paced(args: &Args, mut publish: impl FnMut() -> Result<(), PubError>) -> Result<(), PubError> {
    let step = args
        .rate
        .map_or(Duration::ZERO, |rate| Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX));
    let mut due = Instant::now();
    for _ in 0..args.count {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        publish()?;
        due = due.checked_add(step).ok_or(PubError::Rate)?;
    }
    Ok(())
}

fn call_api(url: &str, key: &str, ca: Option<&Path>, body: &str) -> Result<(), PubError> {
    if key.contains(|c: char| c.is_control()) {
        return Err(PubError::ApiKey);
    }
    let target = Target::parse(url)?;
    let failed = |source| PubError::Api { url: url.into(), source };
    let answer = exchange(&target, key, ca, body).map_err(failed)?;
    let refused =
        |answer: String, unauthorized| PubError::ApiRefused { url: url.into(), answer, unauthorized };
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(head)) = response.parse(&answer) else {
        return Err(refused("something that is not HTTP".into(), false));
    };
    let content = String::from_utf8_lossy(answer.get(head..).unwrap_or_default()).into_owned();
    match response.code {
        Some(200) if !content.contains("\"error\"") => Ok(()),
        Some(200) => Err(refused(content.trim().to_owned(), false)),
        code => Err(refused(format!("HTTP {}", code.unwrap_or_default()), code == Some(401))),
    }
}

/// One request, one connection: the answer ends when the server closes.
fn exchange(target: &Target, key: &str, ca: Option<&Path>, body: &str) -> io::Result<Vec<u8>> {
    const ANSWER_MAX: u64 = 1024 * 1024;
    let patience = Duration::from_secs(10);
    let stream = TcpStream::connect_timeout(&target.address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut stream = client::secure(stream, target, ca)?;
    let path = target.path.trim_end_matches('/');
    let authorization = if key.is_empty() { String::new() } else { format!("X-API-Key: {key}\r\n") };
    let head = format!(
        "POST {path}/publish HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{authorization}Content-Length: {}\r\nConnection: close\r\n\r\n",
        target.host,
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn payloads() {
        #[track_caller]
        fn check(data: &str, text: bool, want: Option<&str>) {
            assert_eq!(
                payload(data, text).ok().map(|it| it.get().to_owned()),
                want.map(str::to_owned),
                "{data}"
            );
        }
        check("{\"a\": 1}", false, Some("{\"a\": 1}"));
        check("{\n\"a\":1}", false, Some("{ \"a\":1}"));
        check("hello", false, None);
        check("hello", true, Some("\"hello\""));
        check("a\nb", true, Some("\"a\\nb\""));
        check("", false, None);
    }

    #[test]
    fn api_answers() {
        #[track_caller]
        fn check(answer: &'static str, want: &str) {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/api", listener.local_addr().unwrap());
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"{}") {
                    let mut part = [0; 1024];
                    let count = stream.read(&mut part).unwrap();
                    request.extend_from_slice(&part[..count]);
                }
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8(request).unwrap()
            });
            let got =
                call_api(&url, "secret", None, "{}").map_or_else(|error| error.to_string(), |()| "ok".into());
            assert!(got.contains(want), "{answer}: {got}");
            let request = server.join().unwrap();
            assert!(request.starts_with("POST /api/publish HTTP/1.1\r\n"), "{request}");
            assert!(request.contains("\r\nX-API-Key: secret\r\n"), "{request}");
        }
        check("HTTP/1.1 200 OK\r\n\r\n{\"result\":{}}", "ok");
        check("HTTP/1.1 200 OK\r\n\r\n{\"error\":{\"code\":102}}", "102");
        check("HTTP/1.1 401 Unauthorized\r\n\r\n", "http_api.key");
        check("nonsense\r\n\r\n", "not HTTP");
    }
}
