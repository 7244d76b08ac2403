//! Counters of several cores as Prometheus text (exposition format 0.0.4).
//!
//! One `HELP` and `TYPE` per metric, then one line per core with the label `core`. Nothing is added up: a sum
//! over cores is the reader's `sum()`, and a core that is silent has no line instead of a wrong one.

use super::{Counter, Counters, Kind};
use std::fmt::Write;

/// What `/metrics` sends as `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Appends all counters of these cores, each with its core's index.
pub fn counters(text: &mut String, cores: &[(usize, &Counters)]) {
    for &counter in Counter::ALL {
        let (name, kind, help) = counter.describe();
        head(text, name, kind, help);
        for (core, counters) in cores {
            let _ = writeln!(text, "{name}{{core=\"{core}\"}} {}", counters.value(counter));
        }
    }
}

/// Appends one metric of the whole process: every value with its labels.
///
/// Names of metrics and labels are ours and valid; help and label values may be any text.
pub fn metric(text: &mut String, name: &str, kind: Kind, help: &str, samples: &[(&[(&str, &str)], u64)]) {
    head(text, name, kind, help);
    for (labels, value) in samples {
        text.push_str(name);
        for (index, (label, label_value)) in labels.iter().enumerate() {
            text.push(if index == 0 { '{' } else { ',' });
            let _ = write!(text, "{label}=\"");
            escape(text, label_value, true);
            text.push('"');
        }
        text.push_str(if labels.is_empty() { " " } else { "} " });
        let _ = writeln!(text, "{value}");
    }
}

fn head(text: &mut String, name: &str, kind: Kind, help: &str) {
    let _ = write!(text, "# HELP {name} ");
    escape(text, help, false);
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    let _ = writeln!(text, "\n# TYPE {name} {kind}");
}

/// Backslash and line feed everywhere, double quotes in label values.
fn escape(text: &mut String, raw: &str, quotes: bool) {
    for it in raw.chars() {
        match it {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quotes => text.push_str("\\\""),
            _ => text.push(it),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_stand_side_by_side() {
        let (mut zero, mut two) = (Counters::default(), Counters::default());
        zero.add(Counter::Publications, 7);
        two.set(Counter::ConnectionsOpen, u64::MAX);
        let mut text = String::new();
        counters(&mut text, &[(0, &zero), (2, &two)]);
        let block = |name: &str| {
            let lines = text.lines().filter(|line| line.split([' ', '{']).any(|word| word == name));
            lines.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(
            block("corecast_publications_total"),
            "# HELP corecast_publications_total Publications taken by the channels this core owns.\n\
             # TYPE corecast_publications_total counter\n\
             corecast_publications_total{core=\"0\"} 7\n\
             corecast_publications_total{core=\"2\"} 0"
        );
        assert!(block("corecast_connections_open").ends_with(
            "# TYPE corecast_connections_open gauge\n\
             corecast_connections_open{core=\"0\"} 0\n\
             corecast_connections_open{core=\"2\"} 18446744073709551615"
        ));
        assert_eq!(text.lines().count(), Counter::ALL.len() * 4);
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn names_are_valid_and_unique() {
        let names: std::collections::HashSet<_> = Counter::ALL.iter().map(|it| it.describe().0).collect();
        assert_eq!(names.len(), Counter::ALL.len());
        for &counter in Counter::ALL {
            let (name, kind, _) = counter.describe();
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            // What only rises says so by its name, what falls does not.
            assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
        }
    }

    #[test]
    fn texts_are_escaped() {
        let mut text = String::new();
        metric(&mut text, "a", Kind::Gauge, "h\\\n\"", &[(&[("v", "x\"\\\ny"), ("w", "")], 1), (&[], 2)]);
        assert_eq!(text, "# HELP a h\\\\\\n\"\n# TYPE a gauge\na{v=\"x\\\"\\\\\\ny\",w=\"\"} 1\na 2\n");
    }
}
