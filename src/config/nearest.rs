//! The known word nearest to one that was mistyped.

/// Longest word compared, in characters: the work is the product of both lengths.
const CHARS_MAX: usize = 100;

/// The candidate with the fewest edits from `word`, and whether it is close enough to be meant.
///
/// Keys with the same last part count as near: who writes `ping_interval` wants `client.ping_interval`.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, bool)> {
    let best = candidates.into_iter().min_by_key(|candidate| cost(word, candidate))?;
    let edits_max = (word.chars().count() / 4).max(2);
    Some((best, cost(word, best) <= edits_max))
}

fn cost(word: &str, candidate: &str) -> usize {
    let whole = edits(word, candidate);
    match (last(word), last(candidate)) {
        (a, b) if a.len() > 3 => whole.min(edits(a, b) + 1),
        _ => whole,
    }
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// Insertions, deletions, replacements and swaps of neighbours that make `b` of `a`.
fn edits(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(CHARS_MAX).collect();
    let b: Vec<char> = b.chars().take(CHARS_MAX).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_table() {
        const KNOWN: [&str; 4] =
            ["client.ping_interval", "client.pong_timeout", "http_server.port", "channel.max_length"];
        #[track_caller]
        fn check(word: &str, want: (&str, bool)) {
            assert_eq!(nearest(word, KNOWN), Some(want), "{word}");
        }
        check("client.ping_intervall", ("client.ping_interval", true));
        check("client.pign_interval", ("client.ping_interval", true));
        check("ping_interval", ("client.ping_interval", true));
        check("http_server.prot", ("http_server.port", true));
        check("server.max_length", ("channel.max_length", true));
        assert_eq!(nearest("zzzzzzzz", KNOWN).map(|it| it.1), Some(false));
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn edits_count() {
        for (a, b, want) in
            [("", "", 0), ("", "abc", 3), ("abc", "acb", 1), ("abc", "abd", 1), ("abc", "ab", 1)]
        {
            assert_eq!(edits(a, b), want, "{a} {b}");
            assert_eq!(edits(b, a), want, "{b} {a}");
        }
    }
}
