//! What can be learnt about a server from outside: its processor time, its memory, its counters.

use super::BenchError;
use crate::cli::{
    client::Target,
    wire::{self, Wire},
};
use std::{
    collections::BTreeMap,
    fs, io,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// Processor time of all threads of a process, user and system, in nanoseconds.
///
/// # Errors
/// [`BenchError::Process`] when there is no such process, or the kernel keeps no such statistics.
pub fn cpu_ns(pid: u32) -> Result<u64, BenchError> {
    let failed = |source| BenchError::Process { pid, what: "processor time", source };
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).map_err(failed)? {
        let path = task.map_err(failed)?.path().join("schedstat");
        // A thread may end between the listing and the look.
        let Ok(text) = fs::read_to_string(path) else { continue };
        let first = text.split_ascii_whitespace().next().and_then(|it| it.parse::<u64>().ok());
        total += first.ok_or_else(|| failed(io::Error::from(io::ErrorKind::InvalidData)))?;
    }
    // A process that has only just started may have nothing on its account; this one has.
    let own = std::process::id();
    if total == 0 && (pid == own || cpu_ns(own).is_err()) {
        return Err(failed(io::Error::new(io::ErrorKind::Unsupported, "no schedstat in this kernel")));
    }
    Ok(total)
}

/// Ticks of the clock in which a process ran, in user space and in the kernel: by sampling on most kernels, so only
/// the shares of a longer time mean something.
///
/// # Errors
/// [`BenchError::Process`] when there is no such process.
pub fn ticks(pid: u32) -> Result<(u64, u64), BenchError> {
    let failed = |source| BenchError::Process { pid, what: "processor time", source };
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(failed)?;
    read_ticks(&text).ok_or_else(|| failed(io::Error::from(io::ErrorKind::InvalidData)))
}

/// Fields 14 and 15; the name, which may hold anything, ends at the last parenthesis.
fn read_ticks(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.rsplit_once(") ")?.1.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub rss: u64,
    pub pss: u64,
    /// Private clean and dirty pages: what ends with the process.
    pub private: u64,
}

/// # Errors
/// [`BenchError::Process`] when the process is not there or not ours.
pub fn memory(pid: u32) -> Result<Memory, BenchError> {
    let failed = |source| BenchError::Process { pid, what: "memory", source };
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).map_err(failed)?;
    Ok(read_rollup(&text))
}

fn read_rollup(text: &str) -> Memory {
    let mut memory = Memory::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(kib)) = (words.next(), words.next().and_then(|it| it.parse::<u64>().ok()))
        else {
            continue;
        };
        match name {
            "Rss:" => memory.rss = kib * 1024,
            "Pss:" => memory.pss = kib * 1024,
            "Private_Clean:" | "Private_Dirty:" => memory.private += kib * 1024,
            _ => {}
        }
    }
    memory
}

/// Files of a server beside its connections: rings, listeners, logs.
pub const FILES_SPARE: u64 = 64;

/// How to start a server for a scenario that needs these settings, for its help.
#[must_use]
pub fn help(why: &str, settings: &[&str]) -> String {
    let mut text =
        format!("{why}:\n  corecast serve --set client.insecure=true --set http_api.insecure=true");
    for setting in settings {
        text += &format!(" \\\n    --set \"{setting}\"");
    }
    text
}

/// Whether the server may hold so many connections more than nothing.
///
/// # Errors
/// [`BenchError::ServerFiles`] when its limit of open files is too low; [`BenchError::Process`] when it
/// cannot be read.
pub fn has_room(pid: Option<u32>, connections: usize) -> Result<(), BenchError> {
    let Some(pid) = pid else { return Ok(()) };
    let Some(limit) = file_limit(pid)? else { return Ok(()) };
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(FILES_SPARE);
    if needed > limit { Err(BenchError::ServerFiles { needed, limit }) } else { Ok(()) }
}

/// How many files a process may have open; `None`: as many as it likes.
///
/// # Errors
/// [`BenchError::Process`] when it cannot be read.
pub fn file_limit(pid: u32) -> Result<Option<u64>, BenchError> {
    let failed = |source| BenchError::Process { pid, what: "limits", source };
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).map_err(failed)?;
    Ok(read_file_limit(&text))
}

/// The hard limit, to which servers raise the soft one; `None` means unlimited.
fn read_file_limit(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The server's own counters, summed over their labels; `None` when it has none to show.
#[must_use]
pub fn counters(target: &Target) -> Option<BTreeMap<String, f64>> {
    let text = fetch(target).ok()?;
    let counters = read_counters(&text);
    (!counters.is_empty()).then_some(counters)
}

/// The server's counters of every core, by their line up to the value: `corecast_turns_total{core="1"}`.
#[must_use]
pub fn counters_by_core(target: &Target) -> Option<BTreeMap<String, f64>> {
    let text = fetch(target).ok()?;
    let lines = text.lines().filter(|line| line.starts_with("corecast_") && line.contains("{core="));
    let counters: BTreeMap<_, _> = lines
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect();
    (!counters.is_empty()).then_some(counters)
}

fn fetch(target: &Target) -> io::Result<String> {
    const ANSWER_MAX: usize = 4 * 1024 * 1024;
    let patience = Duration::from_secs(2);
    let stream = TcpStream::connect_timeout(&target.address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut stream = match target.tls {
        false => Wire::Plain(stream),
        true => Wire::tls(stream, &wire::anybody()?, &target.host)?,
    };
    let request =
        format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", target.path, target.host);
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 16 * 1024];
    // Not to the end of the stream alone: some servers keep it open whatever they are asked.
    while answer.len() < ANSWER_MAX && !complete(&answer) {
        match stream.read(&mut part)? {
            0 => break,
            count => answer.extend_from_slice(&part[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Whether all of an answer with a declared length is there.
fn complete(answer: &[u8]) -> bool {
    let Some(head) = memchr::memmem::find(answer, b"\r\n\r\n") else { return false };
    let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    length.is_some_and(|length: usize| answer.len() - head - 4 >= length)
}

fn read_counters(text: &str) -> BTreeMap<String, f64> {
    let mut counters = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("corecast_")) {
        if let Some((name, value)) = line.rsplit_once(' ')
            && let Ok(value) = value.parse::<f64>()
        {
            let name = name.split('{').next().unwrap_or(name);
            *counters.entry(name.to_owned()).or_insert(0.0) += value;
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_stand_behind_the_name() {
        let text = "7 (a) 1 (b) S 1 7 7 0 -1 4194560 9 0 0 0 250 750 0 0 20 0 3 0 5 6 7";
        assert_eq!(read_ticks(text), Some((250, 750)));
        assert!(ticks(std::process::id()).is_ok() && ticks(u32::MAX).is_err());
    }

    #[test]
    fn rollup() {
        let text = "00400000-7ff [rollup]\nRss:   30 kB\nPss: 20 kB\nPss_Dirty: 1 kB\nPrivate_Clean: 4 kB\nPrivate_Dirty: 5 kB\n";
        assert_eq!(read_rollup(text), Memory { rss: 30 * 1024, pss: 20 * 1024, private: 9 * 1024 });
    }

    #[test]
    fn answers_end_with_their_length() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert!(complete(answer));
        for short in 0..answer.len() {
            assert!(!complete(&answer[..short]), "{short}");
        }
        assert!(!complete(b"HTTP/1.1 200 OK\r\n\r\nabc"), "without a length only the end says so");
    }

    #[test]
    fn counters_are_summed() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# HELP corecast_a x\ncorecast_a{core=\"0\"} 1\ncorecast_a{core=\"1\"} 2\ncorecast_b 7\nother 1\ncorecast_c x\n";
        let want = BTreeMap::from([("corecast_a".into(), 3.0), ("corecast_b".into(), 7.0)]);
        assert_eq!(read_counters(text), want);
    }

    #[test]
    fn file_limits() {
        let text = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 20000                files\n";
        assert_eq!(read_file_limit(text), Some(20_000));
        assert_eq!(read_file_limit(&text.replace("20000", "unlimited")), None);
        let pid = Some(std::process::id());
        assert!(has_room(pid, 1).is_ok());
        assert!(matches!(has_room(pid, usize::MAX / 2), Err(BenchError::ServerFiles { .. })));
    }

    #[test]
    fn our_own_processor_time() {
        assert!(cpu_ns(std::process::id()).unwrap() > 0);
        assert!(memory(std::process::id()).unwrap().private > 0);
        assert!(matches!(cpu_ns(u32::MAX), Err(BenchError::Process { .. })));
    }
}
