//! What must be true before a core may start, found out by trying.
//!
//! glommio ends the process or panics when the kernel does not suit it, so everything it needs is
//! probed here first. Kernel versions are never compared: a feature is there when it works.

use super::{
    error::{StartError, UringRemedy},
    net,
    options::{Backend, BackendChoice, Options},
    sys,
};
use io_uring::{IoUring, Probe, opcode as op};
use std::io;

/// What glommio wants to be allowed to lock (its own check, `sys/uring.rs`).
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
/// Descriptors for standard streams, the callers' own and a first few connections.
const OPEN_FILES_BASE: u64 = 16;
/// Descriptors of one core: the executor's rings and notifiers, the net ring, bell, reserve.
const OPEN_FILES_PER_CORE: u64 = 12;

/// What the checks found out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub backend: Backend,
    /// How many files this process may open.
    pub open_files_max: u64,
}

/// Operations the executor and the poll backend cannot do without.
const NEEDED: &[(u8, &str)] = &[
    (op::Nop::CODE, "NOP"),
    (op::Readv::CODE, "READV"),
    (op::Writev::CODE, "WRITEV"),
    (op::Fsync::CODE, "FSYNC"),
    (op::ReadFixed::CODE, "READ_FIXED"),
    (op::WriteFixed::CODE, "WRITE_FIXED"),
    (op::PollAdd::CODE, "POLL_ADD"),
    (op::PollRemove::CODE, "POLL_REMOVE"),
    (op::SendMsg::CODE, "SENDMSG"),
    (op::RecvMsg::CODE, "RECVMSG"),
    (op::Timeout::CODE, "TIMEOUT"),
    (op::TimeoutRemove::CODE, "TIMEOUT_REMOVE"),
    (op::Accept::CODE, "ACCEPT"),
    (op::AsyncCancel::CODE, "ASYNC_CANCEL"),
    (op::LinkTimeout::CODE, "LINK_TIMEOUT"),
    (op::Connect::CODE, "CONNECT"),
    (op::Fallocate::CODE, "FALLOCATE"),
    (op::OpenAt::CODE, "OPENAT"),
    (op::Close::CODE, "CLOSE"),
    (op::Statx::CODE, "STATX"),
    (op::Read::CODE, "READ"),
    (op::Write::CODE, "WRITE"),
    (op::Send::CODE, "SEND"),
    (op::Recv::CODE, "RECV"),
];

pub(super) fn check(options: &Options) -> Result<Found, StartError> {
    check_buffers(options)?;
    let open_files_max = check_open_files(options.cpus.len())?;
    check_uring()?;
    check_memlock()?;
    let backend = match (options.backend, net::probe_ring_backend(options)) {
        (BackendChoice::Poll, _) | (BackendChoice::Auto, Err(_)) => Backend::Poll,
        (_, Ok(())) => Backend::Ring,
        (BackendChoice::Ring, Err(missing)) => return Err(StartError::NoRingBackend { missing }),
    };
    Ok(Found { backend, open_files_max })
}

fn check_buffers(options: &Options) -> Result<(), StartError> {
    let (count, bytes) = (options.buffer_count, options.buffer_size);
    let fits = count.is_power_of_two() && count <= 1 << 15 && (1..=1 << 20).contains(&bytes);
    if fits { Ok(()) } else { Err(StartError::Buffers { count, bytes }) }
}

fn check_open_files(cores: usize) -> Result<u64, StartError> {
    let found = sys::raise_limit(libc::RLIMIT_NOFILE)
        .map_err(|source| StartError::System { what: "the limit on open files", source })?;
    let needed = OPEN_FILES_BASE + OPEN_FILES_PER_CORE * cores as u64;
    if found < needed { Err(StartError::OpenFiles { found, needed }) } else { Ok(found) }
}

fn check_memlock() -> Result<(), StartError> {
    let found = sys::raise_limit(libc::RLIMIT_MEMLOCK)
        .map_err(|source| StartError::System { what: "the limit on locked memory", source })?;
    if found < MEMLOCK_BYTES_MIN {
        return Err(StartError::Memlock { found_kib: found / 1024, needed_kib: MEMLOCK_BYTES_MIN / 1024 });
    }
    Ok(())
}

fn check_uring() -> Result<(), StartError> {
    let ring = IoUring::new(8).map_err(no_uring)?;
    let mut probe = Probe::new();
    if ring.submitter().register_probe(&mut probe).is_err() {
        return Err(StartError::KernelTooOld { missing: "the probe of operations".into() });
    }
    missing_operations(NEEDED, |code| probe.is_supported(code))
}

fn missing_operations(needed: &[(u8, &str)], is_supported: impl Fn(u8) -> bool) -> Result<(), StartError> {
    let missing: Vec<&str> =
        needed.iter().filter(|(code, _)| !is_supported(*code)).map(|(_, name)| *name).collect();
    if missing.is_empty() { Ok(()) } else { Err(StartError::KernelTooOld { missing: missing.join(", ") }) }
}

fn no_uring(reason: io::Error) -> StartError {
    let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    let remedy = remedy(reason.raw_os_error(), sysctl);
    StartError::NoIoUring { reason, remedy }
}

fn remedy(errno: Option<i32>, sysctl: u8) -> UringRemedy {
    match errno {
        Some(libc::EPERM | libc::EACCES) if sysctl != 0 => UringRemedy::Sysctl(sysctl),
        Some(libc::EPERM | libc::EACCES) => UringRemedy::Seccomp,
        Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE) => UringRemedy::Limits,
        _ => UringRemedy::NewerKernel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedy_table() {
        #[track_caller]
        fn check(errno: i32, sysctl: u8, want: UringRemedy) {
            assert_eq!(remedy(Some(errno), sysctl), want, "errno {errno}, sysctl {sysctl}");
        }
        check(libc::ENOSYS, 0, UringRemedy::NewerKernel);
        check(libc::EPERM, 0, UringRemedy::Seccomp);
        check(libc::EPERM, 1, UringRemedy::Sysctl(1));
        check(libc::EPERM, 2, UringRemedy::Sysctl(2));
        check(libc::ENOMEM, 0, UringRemedy::Limits);
    }

    #[test]
    fn missing_operations_are_named() {
        let error = missing_operations(&[(1, "ONE"), (2, "TWO"), (3, "THREE")], |code| code == 2)
            .expect_err("two are missing");
        assert_eq!(
            error.to_string(),
            "the kernel's io_uring lacks ONE, THREE: use Linux 5.8 or newer (6.1 or newer for full speed)"
        );
        assert!(missing_operations(&[(2, "TWO")], |code| code == 2).is_ok());
    }

    #[test]
    fn buffers_are_checked_on_both_sides() {
        #[track_caller]
        fn check(buffer_count: u16, buffer_size: usize, want: bool) {
            let options = Options { buffer_count, buffer_size, ..Options::default() };
            assert_eq!(check_buffers(&options).is_ok(), want, "{buffer_count} x {buffer_size}");
        }
        check(256, 16 * 1024, true);
        check(1, 1, true);
        check(1 << 15, 1 << 20, true);
        check(0, 16, false);
        check(3, 16, false);
        check(4, 0, false);
        check(4, (1 << 20) + 1, false);
    }
}
