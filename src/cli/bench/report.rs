//! The figures of a run: for the eye on standard output, for programs as JSON.

use super::{BenchError, Common, Sink};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use std::{fs, io::Write, path::Path};

/// The percentiles every latency is told in.
pub const QUANTILES: [(&str, f64); 8] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.5", 0.995),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

pub struct Report {
    root: Map<String, Value>,
    section: String,
    text: String,
    path: Option<std::path::PathBuf>,
    sink: Option<Sink>,
}

impl Report {
    pub fn new(scenario: &str, common: &Common) -> Self {
        let mut root = Map::new();
        root.insert("scenario".into(), scenario.into());
        root.insert("url".into(), common.url.as_str().into());
        root.insert("server_pid".into(), common.server_pid.into());
        root.insert("protocol".into(), format!("{:?}", common.protocol).to_lowercase().into());
        root.insert("spin".into(), common.spin.into());
        root.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        let text = format!("{scenario} {} {:?}\n", common.url, common.protocol);
        Self { root, section: String::new(), text, path: common.json.clone(), sink: common.sink.clone() }
    }

    /// What follows belongs to `name`.
    pub fn section(&mut self, name: &str) {
        name.clone_into(&mut self.section);
        self.text += &format!("{name}\n");
    }

    /// Not a number and infinity, as of a division by nothing, are shown as unknown.
    pub fn number(&mut self, name: &str, value: f64) {
        self.text += &match value.is_finite() {
            true => format!("  {name:<28} {}\n", readable(value)),
            false => format!("  {name:<28} -\n"),
        };
        self.value(name, json!(value.is_finite().then_some(value)));
    }

    fn value(&mut self, name: &str, value: Value) {
        let section = self.root.entry(self.section.clone()).or_insert_with(|| json!({}));
        if let Some(section) = section.as_object_mut() {
            section.insert(name.into(), value);
        }
    }

    /// Percentiles in microseconds, from the scheduled time of a publication to its arrival.
    pub fn latency(&mut self, latency: &Histogram<u64>) {
        if latency.is_empty() {
            return;
        }
        self.section("latency_us");
        for (name, quantile) in QUANTILES {
            self.number(name, latency.value_at_quantile(quantile) as f64 / 1e3);
        }
        self.number("max", latency.max() as f64 / 1e3);
        self.number("samples", latency.len() as f64);
    }

    /// Hands the figures to whoever runs this, or shows them.
    pub fn finish(self) -> Result<(), BenchError> {
        let figures = Value::Object(self.root);
        match self.sink {
            Some(sink) => sink.put(figures, self.text),
            None => emit(&figures, &self.text, self.path.as_deref())?,
        }
        Ok(())
    }
}

/// Prints `text`; JSON goes where the user wants it.
///
/// # Errors
/// [`BenchError::Output`] when the file cannot be written.
pub fn emit(figures: &Value, text: &str, path: Option<&Path>) -> Result<(), BenchError> {
    let Some(path) = path else {
        print!("{text}");
        return Ok(());
    };
    let mut bytes = serde_json::to_vec_pretty(figures).unwrap_or_default();
    bytes.push(b'\n');
    if path == Path::new("-") {
        std::io::stdout().write_all(&bytes)?;
    } else {
        fs::write(path, bytes).map_err(|source| BenchError::Output { path: path.into(), source })?;
        print!("{text}");
    }
    Ok(())
}

fn readable(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1e5 { format!("{value:.0}") } else { format!("{value:.3}") }
}
