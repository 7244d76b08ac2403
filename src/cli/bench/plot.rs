//! Plots as SVG text: groups of bars, and curves of percentiles. Light background, labelled axes, no scripts.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 70.0;
const COLORS: [&str; 6] = ["#1f6feb", "#8b949e", "#c0c6cc", "#d9822b", "#2da44e", "#8250df"];
const TICKS: usize = 5;

/// Bars of several series beside each other, per label.
pub struct Bars {
    pub title: String,
    pub unit: String,
    pub series: Vec<String>,
    /// A label below the axis, and one value per series; a missing one leaves a gap.
    pub groups: Vec<(String, Vec<Option<f64>>)>,
}

/// Values over named positions, one curve per series, on a logarithmic axis.
pub struct Curves {
    pub title: String,
    pub unit: String,
    pub positions: Vec<String>,
    pub series: Vec<(String, Vec<Option<f64>>)>,
}

impl Bars {
    #[must_use]
    pub fn svg(&self) -> String {
        let values = self.groups.iter().flat_map(|it| it.1.iter().flatten());
        let top = nice(values.copied().filter(|it| it.is_finite()).fold(0.0, f64::max));
        let mut out = begin(&self.title, &self.unit, &self.series);
        for tick in 0..=TICKS {
            let value = top * tick as f64 / TICKS as f64;
            grid_line(&mut out, y_of(value / top), &short(value));
        }
        let slot = (WIDTH - LEFT - RIGHT) / self.groups.len().max(1) as f64;
        let bar = (slot * 0.8 / self.series.len().max(1) as f64).min(60.0);
        for (at, (label, values)) in self.groups.iter().enumerate() {
            let middle = LEFT + slot * (at as f64 + 0.5);
            let first = middle - bar * self.series.len() as f64 / 2.0;
            for (index, value) in values.iter().enumerate() {
                let Some(value) = value.filter(|it| it.is_finite()) else { continue };
                let (x, y) = (first + bar * index as f64, y_of(value / top));
                let color = color(index);
                let height = y_of(0.0) - y;
                let _ = writeln!(
                    out,
                    r#"<rect x="{x:.1}" y="{y:.1}" width="{:.1}" height="{height:.1}" fill="{color}"/>"#,
                    bar * 0.92
                );
                text(&mut out, x + bar * 0.46, y - 4.0, 10, "middle", &short(value));
            }
            for (line, part) in label.split('\n').enumerate() {
                text(&mut out, middle, y_of(0.0) + 18.0 + 15.0 * line as f64, 12, "middle", part);
            }
        }
        end(out)
    }
}

impl Curves {
    #[must_use]
    pub fn svg(&self) -> String {
        let values: Vec<f64> = self.series.iter().flat_map(|it| it.1.iter().flatten().copied()).collect();
        let positive = || values.iter().copied().filter(|it| *it > 0.0 && it.is_finite());
        let low = positive().fold(f64::INFINITY, f64::min).min(1e12).log10().floor();
        let high = positive().fold(0.0, f64::max).max(1e-9).log10().ceil().max(low + 1.0);
        let at = |value: f64| y_of((value.max(1e-12).log10() - low) / (high - low));
        let mut out =
            begin(&self.title, &self.unit, &self.series.iter().map(|it| it.0.clone()).collect::<Vec<_>>());
        let mut power = low;
        while power <= high {
            for step in [1.0, 2.0, 5.0] {
                let value = 10f64.powf(power) * step;
                if value <= 10f64.powf(high) * 1.001 {
                    grid_line(&mut out, at(value), &short(value));
                }
            }
            power += 1.0;
        }
        let step = (WIDTH - LEFT - RIGHT) / (self.positions.len().max(2) - 1) as f64;
        let x_of = |index: usize| LEFT + step * index as f64;
        for (index, position) in self.positions.iter().enumerate() {
            text(&mut out, x_of(index), y_of(0.0) + 18.0, 12, "middle", position);
        }
        text(&mut out, f64::midpoint(LEFT, WIDTH - RIGHT), HEIGHT - 20.0, 12, "middle", "percentile");
        for (number, (_, values)) in self.series.iter().enumerate() {
            let color = color(number);
            let points: Vec<(f64, f64)> = values
                .iter()
                .enumerate()
                .filter_map(|(index, value)| Some((x_of(index), at((*value).filter(|it| it.is_finite())?))))
                .collect();
            let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(
                out,
                r#"<polyline points="{}" fill="none" stroke="{color}" stroke-width="2"/>"#,
                line.join(" ")
            );
            for (x, y) in points {
                let _ = writeln!(out, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{color}"/>"#);
            }
        }
        end(out)
    }
}

fn begin(title: &str, unit: &str, series: &[String]) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"system-ui, sans-serif\" fill=\"#24292f\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(&mut out, LEFT, 24.0, 16, "start", title);
    let middle = f64::midpoint(TOP, HEIGHT - BOTTOM);
    let _ = writeln!(
        out,
        r#"<text x="20" y="{middle}" font-size="12" text-anchor="middle" transform="rotate(-90 20 {middle})">{}</text>"#,
        escape(unit)
    );
    let mut x = LEFT;
    for (index, name) in series.iter().enumerate() {
        let color = color(index);
        let _ = writeln!(out, r#"<rect x="{x:.1}" y="38" width="12" height="12" fill="{color}"/>"#);
        text(&mut out, x + 17.0, 48.0, 12, "start", name);
        x += 40.0 + 7.0 * name.chars().count() as f64;
    }
    out
}

fn end(mut out: String) -> String {
    let (right, y) = (WIDTH - RIGHT, y_of(0.0));
    let _ = writeln!(out, r##"<path d="M{LEFT} {TOP}V{y}H{right}" fill="none" stroke="#57606a"/>"##);
    out + "</svg>\n"
}

fn grid_line(out: &mut String, y: f64, label: &str) {
    let right = WIDTH - RIGHT;
    let _ = writeln!(out, r##"<path d="M{LEFT} {y:.1}H{right}" stroke="#e4e7eb"/>"##);
    text(out, LEFT - 8.0, y + 4.0, 11, "end", label);
}

fn text(out: &mut String, x: f64, y: f64, size: u32, anchor: &str, words: &str) {
    let words = escape(words);
    let _ = writeln!(
        out,
        r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" text-anchor="{anchor}">{words}</text>"#
    );
}

fn color(index: usize) -> &'static str {
    COLORS[index % COLORS.len()]
}

fn escape(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn y_of(share: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share.clamp(0.0, 1.0)
}

/// The next number of few digits that holds `value` and leaves room for its label.
fn nice(value: f64) -> f64 {
    let value = if value > 0.0 { value * 1.05 } else { 1.0 };
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0];
    power * steps.into_iter().find(|it| it * power >= value).unwrap_or(10.0)
}

/// A number in at most five characters where that says enough.
pub fn short(value: f64) -> String {
    let trim = |text: String| text.trim_end_matches('0').trim_end_matches('.').to_owned();
    match value.abs() {
        0.0 => "0".to_owned(),
        it if it >= 1e6 => trim(format!("{:.2}", value / 1e6)) + " M",
        it if it >= 1e4 => trim(format!("{:.1}", value / 1e3)) + " k",
        it if it >= 100.0 => format!("{value:.0}"),
        it if it >= 10.0 => trim(format!("{value:.1}")),
        it if it >= 0.01 => trim(format!("{value:.2}")),
        _ => format!("{value:.0e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every tag is closed, in order; attributes are quoted.
    #[track_caller]
    fn well_formed(svg: &str) {
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("a tag ends");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "{tag}");
            } else if !tag.ends_with('/') {
                open.push(tag.split(' ').next().unwrap());
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn bars_are_as_high_as_their_values() {
        let bars = Bars {
            title: "a <b> & c".into(),
            unit: "µs".into(),
            series: vec!["ours".into(), "floor".into()],
            groups: vec![
                ("K = 1\nJSON".into(), vec![Some(2.0), Some(1.0)]),
                ("K = 4".into(), vec![None, Some(f64::NAN)]),
            ],
        };
        let svg = bars.svg();
        well_formed(&svg);
        assert!(svg.contains("a &lt;b&gt; &amp; c"));
        let heights: Vec<f64> = svg
            .lines()
            .filter(|line| {
                line.starts_with("<rect x") && line.contains("height=\"") && !line.contains("y=\"38\"")
            })
            .map(|line| line.split("height=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(heights.len(), 2, "the gaps stay empty");
        assert!((heights[0] / heights[1] - 2.0).abs() < 0.01, "{heights:?}");
    }

    #[test]
    fn curves_have_a_point_per_value() {
        let curves = Curves {
            title: "latency".into(),
            unit: "µs".into(),
            positions: ["p50", "p99", "max"].map(str::to_owned).to_vec(),
            series: vec![
                ("ours".into(), vec![Some(50.0), Some(100.0), Some(3000.0)]),
                ("relay".into(), vec![Some(40.0), None, Some(0.0)]),
            ],
        };
        let svg = curves.svg();
        well_formed(&svg);
        assert_eq!(svg.matches("<circle").count(), 5);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn nothing_to_draw() {
        let bars = Bars { title: String::new(), unit: String::new(), series: vec![], groups: vec![] };
        well_formed(&bars.svg());
        let curves = Curves { title: String::new(), unit: String::new(), positions: vec![], series: vec![] };
        well_formed(&curves.svg());
        assert!(!curves.svg().contains("NaN"));
    }

    #[test]
    fn axes_end_above_the_highest_value() {
        for (value, want) in
            [(0.9, 1.0), (1.0, 1.5), (2.2, 2.5), (4.0, 5.0), (96.9, 150.0), (9.0, 10.0), (0.0, 1.0)]
        {
            assert!((nice(value) - want).abs() < 1e-9, "{value}: {}", nice(value));
        }
        let texts = [0.0, 0.127, 2.5, 48.0, 312.4, 12_000.0, 3_250_000.0].map(short);
        assert_eq!(texts, ["0", "0.13", "2.5", "48", "312", "12 k", "3.25 M"]);
    }
}
