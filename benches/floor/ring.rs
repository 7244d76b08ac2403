//! The io_uring way: publishers are received through the ring, and all sends of a turn enter it together.
//!
//! Setup stays on epoll, whose descriptor the ring polls; a connection moves to the ring when it first
//! publishes. Sends succeed silently; only the ones that did not take everything complete visibly, and are
//! finished with plain sends.

use crate::{
    Floor,
    conn::{self, Epoll},
};
use io_uring::{IoUring, opcode, squeue, types};
use std::{collections::HashMap, io};

const SETUP: u64 = 1 << 62;
const RECEIVE: u64 = 1 << 61;
const BUFFER_BYTES: usize = 64 * 1024;

pub fn run(floor: &mut Floor) -> io::Result<()> {
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(65_536)
        .build(4096)?;
    let mut events = Epoll::events();
    // One lent buffer for each publisher on the ring.
    let mut buffers: HashMap<usize, Box<[u8]>> = HashMap::new();
    arm_setup(&mut ring, floor)?;
    // Completions that came up while sends were submitted; with any there is no sleep.
    let mut early: Vec<(u64, i32)> = Vec::new();
    loop {
        ring.submit_and_wait(usize::from(early.is_empty()))?;
        let mut completions = std::mem::take(&mut early);
        completions.extend(ring.completion().map(|it| (it.user_data(), it.result())));
        for (data, result) in completions {
            if data == SETUP {
                on_setup(floor, &mut events)?;
                promote(&mut ring, floor, &mut buffers)?;
                arm_setup(&mut ring, floor)?;
            } else {
                let token = (data ^ RECEIVE) as usize;
                on_received(&mut ring, floor, &mut buffers, token, result)?;
            }
        }
        if floor.turn.close(floor.protobuf()) {
            early = send_frame(&mut ring, floor)?;
            floor.send_replies()?;
        }
    }
}

/// Moves whoever has begun to publish to the ring.
fn promote(ring: &mut IoUring, floor: &Floor, buffers: &mut HashMap<usize, Box<[u8]>>) -> io::Result<()> {
    for (token, conn) in floor.conns.iter().enumerate() {
        if let Some(conn) = conn.as_ref().filter(|it| it.publisher && !buffers.contains_key(&token)) {
            floor.epoll.remove(conn.fd())?;
            buffers.insert(token, vec![0; BUFFER_BYTES].into_boxed_slice());
            receive(ring, floor, buffers, token)?;
        }
    }
    Ok(())
}

fn arm_setup(ring: &mut IoUring, floor: &Floor) -> io::Result<()> {
    let poll =
        opcode::PollAdd::new(types::Fd(floor.epoll.fd()), libc::POLLIN as u32).build().user_data(SETUP);
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
    if let Some(conn) = &mut floor.conns[token] {
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
    let entry = opcode::Recv::new(types::Fd(conn.fd()), buffer.as_mut_ptr(), buffer.len() as u32)
        .build()
        .user_data(RECEIVE | token as u64);
    push(ring, &entry)
}

/// One send for each subscriber, in order; every one has ended when the submit returns. Returns the
/// completions of receives that came up meanwhile.
fn send_frame(ring: &mut IoUring, floor: &Floor) -> io::Result<Vec<(u64, i32)>> {
    let frame = floor.turn.frame();
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
    for &token in &floor.subscribers {
        let Some(conn) = &floor.conns[token] else { continue };
        let entry = opcode::Send::new(types::Fd(conn.fd()), frame.as_ptr(), frame.len() as u32)
            .flags(flags)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(token as u64);
        push(ring, &entry)?;
    }
    ring.submit()?;
    let (unfinished, early): (Vec<_>, Vec<_>) = ring
        .completion()
        .map(|it| (it.user_data(), it.result()))
        .partition(|(data, _)| data & (SETUP | RECEIVE) == 0);
    for (token, result) in unfinished {
        if let Some(conn) = &floor.conns[token as usize] {
            let sent = usize::try_from(result).unwrap_or(0);
            conn::send_all(conn.fd(), &frame[sent..])?;
        }
    }
    Ok(early)
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
