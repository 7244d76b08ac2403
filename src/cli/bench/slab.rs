//! What the kernel's slabs hold, of which sockets are made: `/proc/slabinfo`, for root only.
//!
//! The whole machine is counted, both ends of each loopback connection and everybody else's work: the
//! figures mean something as a slope over many connections on an otherwise idle machine, beside the same
//! slope of bare sockets opened by the same client.

use std::{collections::BTreeMap, fs, io};

/// Bytes in use by cache.
pub type Slabs = BTreeMap<String, u64>;

/// # Errors
/// Permission denied for anybody but root; not found where the kernel has no such file.
pub fn read() -> io::Result<Slabs> {
    Ok(parse(&fs::read_to_string("/proc/slabinfo")?))
}

fn parse(text: &str) -> Slabs {
    let mut slabs = Slabs::new();
    for line in text.lines().filter(|line| !line.starts_with(['#', ' '])) {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|it| it.parse::<u64>().ok());
        // Objects in use, objects in all, bytes of one.
        if let (Some(active), Some(_), Some(size)) = (number(), number(), number()) {
            *slabs.entry(name.to_owned()).or_insert(0) += active.saturating_mul(size);
        }
    }
    slabs
}

/// Whether connections and their buffers live in this cache; the others move for reasons of their own.
#[must_use]
pub fn of_sockets(name: &str) -> bool {
    const NAMES: [&str; 12] = [
        "TCP",
        "TCPv6",
        "sock_inode_cache",
        "filp",
        "dentry",
        "eventpoll_epi",
        "eventpoll_pwq",
        "io_kiocb",
        "request_sock_TCP",
        "tw_sock_TCP",
        "lsm_inode_cache",
        "lsm_file_cache",
    ];
    NAMES.contains(&name) || name.starts_with("kmalloc-") || name.starts_with("skbuff_")
}

/// Rise of each cache by so many bytes for each of `count`, largest first; what moved by less than a byte is
/// left out.
pub fn slopes(from: &Slabs, to: &Slabs, count: usize) -> Vec<(String, f64)> {
    let slope = |(name, after): (&String, &u64)| {
        let before = from.get(name).copied().unwrap_or_default();
        (name.clone(), (*after as f64 - before as f64) / count as f64)
    };
    let mut slopes: Vec<_> = to.iter().map(slope).filter(|(_, slope)| slope.abs() >= 1.0).collect();
    slopes.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    slopes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "slabinfo - version: 2.1\n\
        # name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables\n\
        TCP 10 12 2368 13 8 : tunables 0 0 0 : slabdata 1 1 0\n\
        filp 5 16 256 16 1 : tunables 0 0 0 : slabdata 1 1 0\n\
        odd x 16 256\n";

    #[test]
    fn parse_reads_what_is_in_use() {
        assert_eq!(parse(TEXT), Slabs::from([("TCP".into(), 23_680), ("filp".into(), 1280)]));
    }

    #[test]
    fn caches_of_sockets() {
        assert!(["TCP", "kmalloc-96", "kmalloc-cg-1k", "skbuff_head_cache"].into_iter().all(of_sockets));
        assert!(!["buffer_head", "TCP2", "radix_tree_node"].into_iter().any(of_sockets));
    }

    #[test]
    fn slopes_are_sorted() {
        let from = Slabs::from([("a".into(), 100), ("b".into(), 0), ("c".into(), 7)]);
        let to = Slabs::from([("a".into(), 80), ("b".into(), 100), ("c".into(), 8), ("d".into(), 400)]);
        let want = [("d".to_owned(), 40.0), ("b".into(), 10.0), ("a".into(), -2.0)];
        assert_eq!(slopes(&from, &to, 10), want);
    }
}
