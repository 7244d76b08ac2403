//! The io_uring way: publishers are received through the ring, and all sends of a turn enter it together.
//!
//! Setup stays on epoll, whose descriptor the ring polls; a connection moves to the ring when it first
//! publishes. Sends succeed silently; only the ones that did not take everything complete visibly, and are
//! finished with plain sends.

use super::{
    BUFFER_BYTES, Floor,
    conn::{self, Epoll},
};
use io_uring::{IoUring, opcode, squeue, types};
use std::{collections::HashMap, io, mem};

const SETUP: u64 = 1 << 62;
const RECEIVE: u64 = 1 << 61;
/// Of a publisher with a channel of its own: there may be many, and each sends little.
const OWN_BUFFER_BYTES: usize = 4 * 1024;

/// The ring, with what Linux 6.1 has.
///
/// # Errors
/// Those of `io_uring_setup`: an older kernel, or one that forbids it.
pub fn build() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(65_536)
        .build(4096)
}

pub fn run(floor: &mut Floor, mut ring: IoUring) -> io::Result<()> {
    let mut events = Epoll::events();
    // One lent buffer for each publisher on the ring.
    let mut buffers: HashMap<usize, Box<[u8]>> = HashMap::new();
    arm_setup(&mut ring, floor)?;
    // Completions that came up while sends were submitted; with any there is no sleep.
    let mut early: Vec<(u64, i32)> = Vec::new();
    loop {
        ring.submit_and_wait(usize::from(early.is_empty()))?;
        let mut completions = mem::take(&mut early);
        completions.extend(ring.completion().map(|it| (it.user_data(), it.result())));
        for (data, result) in completions {
            if data == SETUP {
                on_setup(floor, &mut events)?;
                promote(&mut ring, floor, &mut buffers)?;
                arm_setup(&mut ring, floor)?;
            } else {
                let token = usize::try_from(data ^ RECEIVE).unwrap_or(usize::MAX);
                on_received(&mut ring, floor, &mut buffers, token, result)?;
            }
        }
        if floor.turn.close(floor.protobuf()) {
            early = send_frame(&mut ring, floor)?;
            floor.turn.count_writes(floor.subscribers.len());
            floor.send_replies()?;
        }
        if !floor.turn.own.is_empty() {
            early.extend(send_own(&mut ring, floor)?);
        }
    }
}

/// Moves whoever has begun to publish to the ring.
fn promote(ring: &mut IoUring, floor: &mut Floor, buffers: &mut HashMap<usize, Box<[u8]>>) -> io::Result<()> {
    for token in mem::take(&mut floor.turn.began) {
        let Some(Some(conn)) = floor.conns.get(token) else { continue };
        floor.epoll.remove(conn.fd())?;
        let bytes = if conn.subscribed { OWN_BUFFER_BYTES } else { BUFFER_BYTES };
        buffers.insert(token, vec![0; bytes].into_boxed_slice());
        receive(ring, floor, buffers, token)?;
    }
    Ok(())
}

fn arm_setup(ring: &mut IoUring, floor: &Floor) -> io::Result<()> {
    let poll = opcode::PollAdd::new(types::Fd(floor.epoll.fd()), libc::POLLIN.cast_unsigned().into())
        .build()
        .user_data(SETUP);
    push(ring, &poll)
}

fn on_setup(floor: &mut Floor, events: &mut [libc::epoll_event]) -> io::Result<()> {
    loop {
        let tokens = floor.epoll.poll(events, 0)?;
        if tokens.is_empty() {
            return Ok(());
        }
        for token in tokens {
            floor.on_ready(token)?;
        }
    }
}

fn on_received(
    ring: &mut IoUring,
    floor: &mut Floor,
    buffers: &mut HashMap<usize, Box<[u8]>>,
    token: usize,
    result: i32,
) -> io::Result<()> {
    let Some(buffer) = buffers.get(&token) else { return Ok(()) };
    let count = usize::try_from(result).unwrap_or(0);
    if let Some(Some(conn)) = floor.conns.get_mut(token) {
        conn.input.extend_from_slice(&buffer[..count]);
    }
    floor.on_bytes(token, count > 0)?;
    if floor.conns[token].is_none() {
        buffers.remove(&token);
        return Ok(());
    }
    receive(ring, floor, buffers, token)
}

fn receive(
    ring: &mut IoUring,
    floor: &Floor,
    buffers: &mut HashMap<usize, Box<[u8]>>,
    token: usize,
) -> io::Result<()> {
    let (Some(Some(conn)), Some(buffer)) = (floor.conns.get(token), buffers.get_mut(&token)) else {
        return Ok(());
    };
    let entry = opcode::Recv::new(types::Fd(conn.fd()), buffer.as_mut_ptr(), length(buffer))
        .build()
        .user_data(RECEIVE | number(token));
    push(ring, &entry)
}

/// One send for each subscriber, in order; every one has ended when the submit returns. Returns the
/// completions of receives that came up meanwhile.
fn send_frame(ring: &mut IoUring, floor: &Floor) -> io::Result<Vec<(u64, i32)>> {
    let frame = floor.turn.frame();
    for &token in &floor.subscribers {
        let Some(conn) = &floor.conns[token] else { continue };
        push(ring, &send(conn.fd(), frame, token))?;
    }
    finish(ring, |token, sent| match floor.conns.get(token) {
        Some(Some(conn)) => conn::send_all(conn.fd(), &frame[sent..]),
        _ => Ok(()),
    })
}

/// The same for publishers with channels of their own, each with its own bytes.
fn send_own(ring: &mut IoUring, floor: &mut Floor) -> io::Result<Vec<(u64, i32)>> {
    let own = mem::take(&mut floor.turn.own);
    for (index, (token, bytes)) in own.iter().enumerate() {
        let Some(conn) = &floor.conns[*token] else { continue };
        push(ring, &send(conn.fd(), bytes, index))?;
    }
    finish(ring, |index, sent| {
        let Some((token, bytes)) = own.get(index) else { return Ok(()) };
        match &floor.conns[*token] {
            Some(conn) => conn::send_all(conn.fd(), &bytes[sent..]),
            None => Ok(()),
        }
    })
}

fn send(fd: i32, bytes: &[u8], number_of: usize) -> squeue::Entry {
    opcode::Send::new(types::Fd(fd), bytes.as_ptr(), length(bytes))
        .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
        .build()
        .flags(squeue::Flags::SKIP_SUCCESS)
        .user_data(number(number_of))
}

/// Submits; hands every send that did not take all to `rest` with the number it was given and what it took.
fn finish(ring: &mut IoUring, rest: impl Fn(usize, usize) -> io::Result<()>) -> io::Result<Vec<(u64, i32)>> {
    ring.submit()?;
    let (unfinished, early): (Vec<_>, Vec<_>) = ring
        .completion()
        .map(|it| (it.user_data(), it.result()))
        .partition(|(data, _)| data & (SETUP | RECEIVE) == 0);
    for (data, result) in unfinished {
        rest(usize::try_from(data).unwrap_or(usize::MAX), usize::try_from(result).unwrap_or(0))?;
    }
    Ok(early)
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn number(index: usize) -> u64 {
    u64::try_from(index).unwrap_or(u64::MAX)
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
    loop {
        // SAFETY: what the entry points to outlives its operation: receive buffers stay in their map while a
        // receive is armed, and sends end inside the submit, before the frame is touched again.
        if unsafe { ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        ring.submit()?;
    }
}
