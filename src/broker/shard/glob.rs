//! Patterns over channel names: `*` stands for any bytes or none, `?` for one byte, the rest for itself.

/// Whether `pattern` matches all of `name`. Time is at most the product of the lengths; no recursion.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut name_at) = (0, 0);
    // The last `*` seen, and where what it stands for ends.
    let mut star: Option<(usize, usize)> = None;
    while let Some(&byte) = name.get(name_at) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, name_at));
                at += 1;
            }
            Some(&expected) if expected == b'?' || expected == byte => {
                at += 1;
                name_at += 1;
            }
            _ => match &mut star {
                Some((star_at, end)) => {
                    *end += 1;
                    (at, name_at) = (*star_at + 1, *end);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), None) => naive(rest, name),
            (Some((b'*', rest)), Some((_, tail))) => naive(rest, name) || naive(pattern, tail),
            (Some((expected, rest)), Some((byte, tail))) => {
                (*expected == b'?' || expected == byte) && naive(rest, tail)
            }
            _ => false,
        }
    }

    #[test]
    fn agrees_with_the_recursive_definition() {
        arbtest::arbtest(|u| {
            let mut text = |letters: &[char], max| -> arbitrary::Result<String> {
                (0..u.int_in_range(0..=max)?).map(|_| Ok(*u.choose(letters)?)).collect()
            };
            let (pattern, name) = (text(&['a', 'b', '*', '*', '?'], 7)?, text(&['a', 'b'], 7)?);
            assert_eq!(
                matches(&pattern, &name),
                naive(pattern.as_bytes(), name.as_bytes()),
                "{pattern} {name}"
            );
            Ok(())
        });
    }
}
