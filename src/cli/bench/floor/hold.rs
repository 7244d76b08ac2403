//! Accepts, arms a multishot receive for each connection, and answers nothing: what a connection costs the
//! kernel whoever serves it. For `corecast bench idle --bare`.

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::{
    io,
    net::TcpListener,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

const ACCEPT: u64 = u64::MAX;
const PROVIDED: u64 = u64::MAX - 1;
const GROUP: u16 = 0;
const BUFFERS: u16 = 64;
const BUFFER_BYTES: i32 = 4096;

pub fn run(listener: &TcpListener) -> io::Result<()> {
    let mut ring: IoUring =
        IoUring::builder().setup_single_issuer().setup_defer_taskrun().setup_cqsize(65_536).build(4096)?;
    let length = usize::from(BUFFERS) * usize::try_from(BUFFER_BYTES).unwrap_or(0);
    let mut buffers = vec![0u8; length];
    let start = buffers.as_mut_ptr();
    push(
        &mut ring,
        &opcode::ProvideBuffers::new(start, BUFFER_BYTES, BUFFERS, GROUP, 0).build().user_data(PROVIDED),
    )?;
    let accept = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).build().user_data(ACCEPT);
    push(&mut ring, &accept)?;
    loop {
        ring.submit_and_wait(1)?;
        let done: Vec<_> = ring.completion().map(|it| (it.user_data(), it.result(), it.flags())).collect();
        for (data, result, flags) in done {
            match data {
                PROVIDED if result < 0 => return Err(io::Error::from_raw_os_error(-result)),
                PROVIDED => {}
                ACCEPT => {
                    if result < 0 {
                        return Err(io::Error::from_raw_os_error(-result));
                    }
                    receive(&mut ring, result)?;
                    if !cqueue::more(flags) {
                        push(&mut ring, &accept)?;
                    }
                }
                fd => on_received(&mut ring, start, fd, result, flags)?,
            }
        }
    }
}

fn receive(ring: &mut IoUring, fd: i32) -> io::Result<()> {
    push(ring, &opcode::RecvMulti::new(types::Fd(fd), GROUP).build().user_data(u64::from(fd.unsigned_abs())))
}

/// Gives the buffer back unread; closes what has ended.
fn on_received(ring: &mut IoUring, start: *mut u8, fd: u64, result: i32, flags: u32) -> io::Result<()> {
    if let Some(id) = cqueue::buffer_select(flags) {
        let at = usize::from(id) * usize::try_from(BUFFER_BYTES).unwrap_or(0);
        // SAFETY: the kernel names only buffers it was given, all of which lie in the block at `start`.
        let buffer = unsafe { start.add(at) };
        push(
            ring,
            &opcode::ProvideBuffers::new(buffer, BUFFER_BYTES, 1, GROUP, id).build().user_data(PROVIDED),
        )?;
    }
    if cqueue::more(flags) {
        return Ok(());
    }
    let Ok(fd) = i32::try_from(fd) else { return Ok(()) };
    if result > 0 || result == -libc::ENOBUFS {
        return receive(ring, fd);
    }
    // SAFETY: the descriptor came from an accept, belongs to nobody else, and its receive has just ended.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
    // SAFETY: buffers and listener live as long as the ring; descriptors are closed after their receive has ended.
    while unsafe { ring.submission().push(entry) }.is_err() {
        ring.submit()?;
    }
    Ok(())
}
