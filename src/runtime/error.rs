//! Why the cores cannot start, or had to stop. One sentence each: the cause, then the remedy.

use std::{fmt, io, net::SocketAddr};

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("io_uring is not available ({reason}): {remedy}")]
    NoIoUring { reason: io::Error, remedy: UringRemedy },
    #[error("the kernel's io_uring lacks {missing}: use Linux 5.8 or newer (6.1 or newer for full speed)")]
    KernelTooOld { missing: String },
    #[error(
        "the ring backend needs Linux 6.1 or newer ({missing} missing): use backend auto or poll, or a newer kernel"
    )]
    NoRingBackend { missing: String },
    #[error(
        "only {found_kib} KiB of memory may be locked, {needed_kib} KiB are needed: raise it with `ulimit -l`, LimitMEMLOCK= (systemd) or --ulimit memlock=-1 (containers)"
    )]
    Memlock { found_kib: u64, needed_kib: u64 },
    #[error(
        "only {found} files may be open, at least {needed} are needed: raise it with `ulimit -n`, LimitNOFILE= (systemd) or --ulimit nofile= (containers)"
    )]
    OpenFiles { found: u64, needed: u64 },
    #[error("the address {address} is taken: stop the other server or choose another port")]
    AddressInUse { address: SocketAddr },
    #[error(
        "no permission to listen on {address}: choose a port of 1024 or above, or grant CAP_NET_BIND_SERVICE"
    )]
    AddressForbidden { address: SocketAddr },
    #[error("cannot listen on {address} ({source}): choose an address of this machine")]
    Address { address: SocketAddr, source: io::Error },
    #[error("CPU {cpu} may not be used by this process: choose from {allowed:?}")]
    CpuNotAllowed { cpu: usize, allowed: Vec<usize> },
    #[error("no CPUs to run on: ask for at least one core")]
    NoCores,
    #[error("cannot find out which CPUs may be used: give the list of CPUs, and see that /sys is mounted")]
    CpusUnknown,
    #[error(
        "{count} read buffers of {bytes} bytes cannot be used: the count must be a power of two up to 32768, the size 1 to 1048576 bytes"
    )]
    Buffers { count: u16, bytes: usize },
    #[error("core {core} cannot start: {reason}")]
    Core { core: usize, reason: String },
    #[error("the system refused {what} ({source}): check the limits of this process")]
    System { what: &'static str, source: io::Error },
}

/// What to do about a missing io_uring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UringRemedy {
    /// ENOSYS: built without it, older than 5.1, or filtered.
    NewerKernel,
    /// `kernel.io_uring_disabled` is not 0.
    Sysctl(u8),
    /// EPERM with the sysctl at 0: a seccomp filter, as container engines install.
    Seccomp,
    /// Out of memory, descriptors or the like.
    Limits,
}

impl fmt::Display for UringRemedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewerKernel => f.write_str(
                "use Linux 5.8 or newer built with CONFIG_IO_URING, and a sandbox that passes io_uring on",
            ),
            Self::Sysctl(value) => {
                write!(f, "kernel.io_uring_disabled is {value}; set it with `sysctl kernel.io_uring_disabled=0`")
            }
            Self::Seccomp => f.write_str(
                "a seccomp profile forbids it; allow io_uring_setup, io_uring_enter and io_uring_register (containers: --security-opt seccomp=…)",
            ),
            Self::Limits => f.write_str("raise the limits on locked memory and open files"),
        }
    }
}

/// Why a running core ended although its driver had not asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    #[error("core {core} panicked: {message}")]
    Panicked { core: usize, message: String },
    #[error("core {core} lost its ring: {reason}")]
    Ring { core: usize, reason: String },
}

impl RunError {
    /// The core that failed.
    #[must_use]
    pub fn core(&self) -> usize {
        match self {
            Self::Panicked { core, .. } | Self::Ring { core, .. } => *core,
        }
    }
}
