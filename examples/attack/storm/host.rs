//! What can be learnt about the server from outside.

use super::Target;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// Private bytes of a process, and its open files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    pub private: u64,
    pub files: usize,
}

/// # Errors
/// The process is gone or not ours.
pub fn held(pid: u32) -> Result<Held, String> {
    let gone = |error: std::io::Error| format!("the server's process {pid}: {error}");
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).map_err(gone)?;
    let private = text
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
        .sum::<u64>();
    let files = fs::read_dir(format!("/proc/{pid}/fd")).map_err(gone)?.count();
    Ok(Held { private: private * 1024, files })
}

/// The body of an answer.
///
/// # Errors
/// There is none within ten seconds.
pub fn ask(target: &Target, request: &str) -> Result<String, String> {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&target.address, Duration::from_secs(10))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error: std::io::Error| format!("{request:?}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer without a head")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(format!("{request:?}: {head}"));
    }
    Ok(body.to_owned())
}

/// A counter of the server, summed over its cores.
///
/// # Errors
/// There is no such counter.
pub fn counter(target: &Target, name: &str) -> Result<u64, String> {
    let text = ask(target, "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let values: Vec<u64> = text
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse().ok())
        .collect();
    if values.is_empty() { Err(format!("no counter {name}")) } else { Ok(values.iter().sum()) }
}

/// How many channels the server knows.
///
/// # Errors
/// It does not tell.
pub fn channels(target: &Target) -> Result<usize, String> {
    let request =
        "POST /api/channels HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    let body = ask(target, request)?;
    let answer: serde_json::Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
    answer["result"]["channels"].as_object().map(serde_json::Map::len).ok_or(body)
}
