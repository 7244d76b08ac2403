//! `corecast sub`: shows what happens in channels, and stays through reconnects.

use super::client::{
    Client, ClientError, Target,
    message::{Body, Event, Message, Received, Subscribed, Who},
    printable,
};
use crate::{
    model::Protocol,
    wire::client::{Request, SubscribeRequest},
};
use std::{
    collections::HashMap,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    thread,
    time::Duration,
};

const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(20);

/// Subscribe to channels and print what they bring.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Channels to subscribe to.
    #[arg(required = true, value_name = "CHANNEL")]
    channels: Vec<String>,
    /// WebSocket address of the server.
    #[arg(long, default_value = "ws://127.0.0.1:8000/connection/websocket")]
    url: String,
    /// Trust the certificates in this PEM file instead of the system's (wss://).
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Speak Protobuf instead of JSON.
    #[arg(long)]
    protobuf: bool,
    /// Connection token (JWT).
    #[arg(long, default_value = "")]
    token: String,
    /// After a lost connection ask for what was missed.
    #[arg(long)]
    recover: bool,
    /// End after so many publications.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
}

/// Runs until `--count` is reached or the server refuses for good.
///
/// # Errors
/// [`ClientError`] that reconnecting cannot mend, or that the very first connection met.
pub fn run(args: Args) -> Result<ExitCode, ClientError> {
    let target = Target::parse(&args.url)?;
    let mut session = Session { args, positions: HashMap::new(), seen: 0, subscribed: false };
    let mut pause = BACKOFF_MIN;
    loop {
        let error = match session.listen(&target) {
            Ok(()) => return Ok(ExitCode::SUCCESS),
            Err(Ended::Output) => return Ok(ExitCode::SUCCESS),
            Err(Ended::Client(error)) => error,
        };
        // A first attempt that fails is a mistake to be told; a later one is weather.
        if session.positions.is_empty() && !session.subscribed || !error.transient() {
            return Err(error);
        }
        if std::mem::take(&mut session.subscribed) {
            pause = BACKOFF_MIN;
        }
        let wait = pause.mul_f64(0.5 + f64::from(random_byte()) / 512.0);
        eprintln!("{error}; connecting again in {} ms", wait.as_millis());
        thread::sleep(wait);
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}

fn random_byte() -> u8 {
    let mut byte = [128];
    // Without randomness the pause is only less spread.
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

enum Ended {
    Client(ClientError),
    /// Nobody reads our output any more.
    Output,
}

impl From<ClientError> for Ended {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

struct Session {
    args: Args,
    /// Epoch and last offset of the channels that told one.
    positions: HashMap<String, (String, u64)>,
    seen: u64,
    /// Whether the present connection subscribed to all channels.
    subscribed: bool,
}

impl Session {
    /// One connection, from its beginning to its end; `Ok` when enough was seen.
    fn listen(&mut self, target: &Target) -> Result<(), Ended> {
        let protocol = if self.args.protobuf { Protocol::Protobuf } else { Protocol::Json };
        let mut client = Client::connect(target, protocol, &self.args.token, self.args.ca.as_deref())?;
        for channel in self.args.channels.clone() {
            let request = self.request(&channel);
            let id = client.send(Request::Subscribe(Box::new(request)))?;
            let what = format!("the subscription to {}", printable(channel.as_bytes()));
            if let Body::Subscribe(result) = client.answer(id, &what)?
                && self.on_subscribed(&channel, result)?
            {
                client.close();
                return Ok(());
            }
        }
        self.subscribed = true;
        eprintln!("subscribed to {}", printable(self.args.channels.join(", ").as_bytes()));
        loop {
            let Message { body: Body::Push { channel, event }, .. } = client.next()? else { continue };
            if self.on_event(&channel, event)? {
                client.close();
                return Ok(());
            }
        }
    }

    fn request(&self, channel: &str) -> SubscribeRequest<'static> {
        let mut request = SubscribeRequest {
            channel: channel.to_owned().into(),
            recoverable: self.args.recover,
            join_leave: true,
            ..Default::default()
        };
        if let (true, Some((epoch, offset))) = (self.args.recover, self.positions.get(channel)) {
            request.recover = true;
            request.epoch = epoch.clone().into();
            request.offset = *offset;
        }
        request
    }

    fn on_subscribed(&mut self, channel: &str, result: Subscribed) -> Result<bool, Ended> {
        if result.was_recovering && !result.recovered {
            eprintln!("{}: what was missed could not be recovered", printable(channel.as_bytes()));
        }
        if result.recoverable {
            self.positions.insert(channel.into(), (result.epoch, result.offset));
        }
        for publication in result.publications {
            if self.on_event(channel, Event::Publication(publication))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Prints one event; true when enough publications were seen.
    fn on_event(&mut self, channel: &str, event: Event) -> Result<bool, Ended> {
        let line = if self.args.json { as_json(channel, &event) } else { as_text(channel, &event) };
        if !line.is_empty() {
            let mut out = io::stdout().lock();
            writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|_| Ended::Output)?;
        }
        match event {
            Event::Publication(publication) => {
                if let Some((_, offset)) = self.positions.get_mut(channel)
                    && publication.offset > 0
                {
                    *offset = publication.offset;
                }
                self.seen += 1;
                Ok(self.args.count.is_some_and(|count| self.seen >= count))
            }
            // 2500 and up ask the client to subscribe again; a new connection does that.
            Event::Unsubscribe { code, reason } if code < 2500 => {
                let what = format!("{} any longer", printable(channel.as_bytes()));
                Err(ClientError::Refused { what, code, message: reason, temporary: false }.into())
            }
            Event::Unsubscribe { code, reason } => {
                Err(ClientError::Broken(format!("unsubscribed with {code} {reason}")).into())
            }
            _ => Ok(false),
        }
    }
}

fn as_text(channel: &str, event: &Event) -> String {
    let channel = printable(channel.as_bytes());
    match event {
        Event::Publication(Received { data, offset: 0, .. }) => format!("[{channel}] {}", printable(data)),
        Event::Publication(it) => format!("[{channel} {}] {}", it.offset, printable(&it.data)),
        Event::Join(who) => format!("[{channel}] join {}", name(who)),
        Event::Leave(who) => format!("[{channel}] leave {}", name(who)),
        Event::Unsubscribe { .. } | Event::Disconnect { .. } | Event::Other => String::new(),
    }
}

fn name(who: &Who) -> String {
    let client = printable(who.client.as_bytes());
    if who.user.is_empty() { client } else { format!("{} ({client})", printable(who.user.as_bytes())) }
}

fn as_json(channel: &str, event: &Event) -> String {
    let value = match event {
        Event::Publication(it) => {
            let data = serde_json::from_slice::<serde_json::Value>(&it.data)
                .unwrap_or_else(|_| String::from_utf8_lossy(&it.data).into());
            let info =
                it.info.as_ref().map(|who| serde_json::json!({"user": who.user, "client": who.client}));
            serde_json::json!({"channel": channel, "event": "publication", "offset": it.offset, "data": data, "info": info})
        }
        Event::Join(who) => member(channel, "join", who),
        Event::Leave(who) => member(channel, "leave", who),
        Event::Unsubscribe { .. } | Event::Disconnect { .. } | Event::Other => return String::new(),
    };
    value.to_string()
}

fn member(channel: &str, event: &str, who: &Who) -> serde_json::Value {
    serde_json::json!({"channel": channel, "event": event, "user": who.user, "client": who.client})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        #[track_caller]
        fn check(event: Event, text: &str, json: &str) {
            assert_eq!(as_text("c", &event), text);
            assert_eq!(as_json("c", &event), json);
        }
        let who = Who { user: "u".into(), client: "k".into() };
        let received = |offset| Received { data: b"[1]".into(), offset, info: None };
        check(
            Event::Publication(received(0)),
            "[c] [1]",
            r#"{"channel":"c","data":[1],"event":"publication","info":null,"offset":0}"#,
        );
        check(
            Event::Publication(received(7)),
            "[c 7] [1]",
            r#"{"channel":"c","data":[1],"event":"publication","info":null,"offset":7}"#,
        );
        check(
            Event::Join(who),
            "[c] join u (k)",
            r#"{"channel":"c","client":"k","event":"join","user":"u"}"#,
        );
        check(Event::Other, "", "");
    }
}
