//! `schema/client.proto` and the table of the codec say the same.

use crate::wire::client::schema;

const FILE: &str = include_str!("../../../../schema/client.proto");

/// (message, field, number) of each line of the file that declares a field.
fn fields() -> Vec<(&'static str, &'static str, u32)> {
    let mut fields = Vec::new();
    let mut message = "";
    for line in FILE.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        if let Some(name) = line.strip_prefix("message ") {
            message = name.split_whitespace().next().unwrap();
        } else if let Some((left, right)) = line.split_once(" = ")
            && let Some(number) = right.strip_suffix(';').and_then(|it| it.parse().ok())
        {
            fields.push((message, left.split_whitespace().last().unwrap(), number));
        }
    }
    fields
}

#[test]
fn the_table_of_the_codec_is_in_the_file() {
    let fields = fields();
    for field in schema::ALL {
        assert!(fields.contains(field), "{field:?}");
    }
    // Readers that serve two messages rely on their fields being the same.
    for (message, field, number) in [
        ("Leave", "info", 1),
        ("PresenceRequest", "channel", 1),
        ("PresenceStatsRequest", "channel", 1),
        ("SendRequest", "data", 1),
    ] {
        assert!(fields.contains(&(message, field, number)), "{message}.{field}");
    }
}

#[test]
fn no_number_is_used_twice() {
    let mut seen = std::collections::BTreeSet::new();
    for (message, field, number) in fields() {
        assert!(seen.insert((message, number)), "{message}.{field} = {number}");
    }
    assert!(seen.len() > 150, "the file was read");
}
