//! Bars: what a figure must reach, beside the figure. Every summary ends with its table of them, and `all` makes
//! one table of everybody's.

use super::{results, rounds::figure};
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
    /// There is none: the figure is told beside those that have one.
    Told,
}

/// One figure and its bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Row of the table in docs/BENCH.md it belongs to.
    pub row: &'static str,
    pub what: String,
    pub unit: &'static str,
    pub limit: Limit,
    /// `None` when it could not be measured, as the processor time of a server elsewhere.
    pub figure: Option<f64>,
}

impl Bar {
    pub fn at_most(
        row: &'static str,
        what: impl Into<String>,
        figure: Option<f64>,
        limit: f64,
        unit: &'static str,
    ) -> Self {
        Self { row, what: what.into(), unit, limit: Limit::AtMost(limit), figure }
    }

    /// A figure that has no bar.
    pub fn told(row: &'static str, what: impl Into<String>, figure: Option<f64>, unit: &'static str) -> Self {
        Self { row, what: what.into(), unit, limit: Limit::Told, figure }
    }

    /// The figure at `path` of a run.
    pub fn of(
        run: &Value,
        path: &str,
        row: &'static str,
        what: &str,
        limit: f64,
        unit: &'static str,
    ) -> Self {
        Self::at_most(row, what, figure(run, path), limit, unit)
    }

    #[must_use]
    pub fn met(&self) -> Option<bool> {
        let figure = self.figure.filter(|it| it.is_finite())?;
        Some(match self.limit {
            Limit::AtMost(most) => figure <= most,
            Limit::AtLeast(least) => figure >= least,
            Limit::Told => return None,
        })
    }

    /// `≤ 0.5 µs`
    #[must_use]
    pub fn limit_text(&self) -> String {
        let (sign, limit) = match self.limit {
            Limit::AtMost(most) => ('≤', most),
            Limit::AtLeast(least) => ('≥', least),
            Limit::Told => return "–".to_owned(),
        };
        format!("{sign} {}", with_unit(digits(limit), self.unit))
    }

    fn figure_text(&self) -> String {
        let figure = self.figure.filter(|it| it.is_finite());
        figure.map_or("–".to_owned(), |it| with_unit(digits(it), self.unit))
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.row.to_owned(),
            self.what.clone(),
            self.limit_text(),
            self.figure_text(),
            if self.limit == Limit::Told { "–" } else { verdict(self.met()) }.to_owned(),
        ]
    }
}

fn with_unit(value: String, unit: &str) -> String {
    if unit.is_empty() { value } else { format!("{value} {unit}") }
}

/// Three significant digits, more only for whole numbers.
fn digits(value: f64) -> String {
    let size = value.abs();
    let digits = match size {
        _ if value.fract() == 0.0 || size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[must_use]
pub fn verdict(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "unknown",
    }
}

const HEAD: [&str; 5] = ["#", "what", "bar", "figure", "met?"];

/// The table; nothing when there is no bar.
#[must_use]
pub fn table(bars: &[Bar]) -> String {
    if bars.is_empty() {
        return String::new();
    }
    results::table(&HEAD, &bars.iter().map(Bar::cells).collect::<Vec<_>>())
}

/// The same for programs, and for [`merge`].
#[must_use]
pub fn json(bars: &[Bar]) -> Value {
    let one = |bar: &Bar| {
        let (value, cells) = (bar.figure.filter(|it| it.is_finite()), bar.cells());
        json!({"row": bar.row, "figure": value, "met": bar.met(), "cells": cells})
    };
    bars.iter().map(one).collect()
}

/// One table of what [`json`] made of several, by row.
#[must_use]
pub fn merge(lists: &[Value]) -> String {
    let all = lists.iter().filter_map(Value::as_array).flatten();
    let mut lines: Vec<((char, u32), Vec<String>)> = all
        .filter_map(|bar| {
            let mut row = bar["row"].as_str()?.chars();
            let place = (row.next()?, row.as_str().parse().ok()?);
            let cells = bar["cells"].as_array()?.iter();
            Some((place, cells.map(|it| it.as_str().unwrap_or_default().to_owned()).collect()))
        })
        .collect();
    // Stable: within a row the order is that of the scenarios.
    lines.sort_by_key(|it| it.0);
    results::table(&HEAD, &lines.into_iter().map(|it| it.1).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_judged_and_shown() {
        #[track_caller]
        fn check(limit: Limit, figure: Option<f64>, want: &str) {
            let bar = Bar { row: "P9", what: "it".into(), unit: "µs", limit, figure };
            assert_eq!(bar.cells()[2..].join(" | "), want);
        }
        use Limit::{AtLeast, AtMost, Told};
        check(AtMost(0.5), Some(0.5), "≤ 0.5 µs | 0.5 µs | yes");
        check(AtMost(0.5), Some(0.501), "≤ 0.5 µs | 0.501 µs | NO");
        check(AtMost(1024.0), Some(1024.4), "≤ 1024 µs | 1024 µs | NO");
        check(AtLeast(0.88), Some(0.9), "≥ 0.88 µs | 0.9 µs | yes");
        check(AtLeast(0.88), Some(12.345), "≥ 0.88 µs | 12.3 µs | yes");
        check(AtLeast(0.88), None, "≥ 0.88 µs | – | unknown");
        check(AtMost(1.0), Some(f64::NAN), "≤ 1 µs | – | unknown");
        check(Told, Some(3.0), "– | 3 µs | –");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn merged_by_row() {
        let bar = |row, what: &str| Bar::at_most(row, what, Some(1.0), 2.0, "");
        let lists = [json(&[bar("T1", "d"), bar("P10", "c"), bar("P2", "a")]), json(&[bar("P2", "b")])];
        let merged = merge(&lists);
        let whats: Vec<_> = merged.lines().skip(2).filter_map(|it| it.split(" | ").nth(1)).collect();
        assert_eq!(whats, ["a", "b", "c", "d"]);
        assert!(merged.contains("| P10 | c | ≤ 2 | 1 | yes |"), "{merged}");
    }
}
