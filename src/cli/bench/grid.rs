//! Cells of a table: each a workload measured in rounds on the server under test and on its baselines.

use super::{
    BenchError, Common, ProtocolArg,
    bars::{Bar, Limit},
    harness::Harness,
    plot::{Bars, short},
    results,
    rounds::{Round, Rounds, Who, figure, median},
};
use serde_json::{Value, json};
use std::{cell::RefCell, process::ExitCode};

pub type Work = Box<dyn Fn(Common) -> Result<ExitCode, BenchError>>;

/// Messages per write may miss the K asked for by this much.
const K_MISS_MAX: f64 = 0.10;
const PER_WRITE: &str = "/server/messages_per_write";
const PER_FRAME: &str = "/throughput/messages_per_frame";
const DELIVERIES: &str = "/throughput/deliveries_per_s";
const BYTES: &str = "/throughput/bytes_per_delivery";

/// What the figure must reach.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// Baseline ÷ ours at least this.
    Eta(f64),
    /// Ours ÷ baseline, at the messages per write that ours had, at most this.
    TimesFloor(f64),
    /// Microseconds of server CPU at most this.
    Micros(f64),
}

pub struct Cell {
    pub label: String,
    pub protocol: ProtocolArg,
    /// The messages per write the workload is made for.
    pub k: Option<f64>,
    pub goals: Vec<Goal>,
    /// Number of the server and what is done with it.
    pub subject: (usize, Work),
    pub baselines: Vec<(usize, Work)>,
}

/// How a table of cells is made and shown.
pub struct Grid<'a> {
    pub title: &'a str,
    /// Where its goals stand in docs/BENCH.md.
    pub row: &'static str,
    /// Path of the cost in a run's figures, and what it is per.
    pub cost: &'static str,
    pub per: &'static str,
    pub rounds: usize,
    /// Bars show the cost of a write, so that cells of different K can share an axis.
    pub bars_per_write: bool,
}

/// One cell's figures.
pub struct Row {
    pub label: String,
    k: Option<f64>,
    goals: Vec<Goal>,
    baselines: Vec<String>,
    pub rounds: Rounds,
}

impl Grid<'_> {
    /// Measures all cells, one after the other.
    ///
    /// # Errors
    /// The first of a run.
    pub fn measure(&self, harness: &mut Harness, cells: &[Cell]) -> Result<Vec<Row>, BenchError> {
        cells.iter().map(|cell| self.cell(harness, cell)).collect()
    }

    fn cell(&self, harness: &mut Harness, cell: &Cell) -> Result<Row, BenchError> {
        let quiet = harness.common().quiet;
        let names: Vec<String> = cell.baselines.iter().map(|it| harness.name(it.0).to_owned()).collect();
        // The runs and the verdicts go to the same raw data.
        let harness = RefCell::new(harness);
        let round_number = std::cell::Cell::new(1);
        let mut run = |who| {
            let (server, work) = match who {
                Who::Baseline(index) => &cell.baselines[index],
                Who::Subject => &cell.subject,
            };
            let tag = json!({"cell": cell.label, "round": round_number.get()});
            harness.borrow_mut().run(*server, Some(cell.protocol), &tag, work)
        };
        let mut done = |round: &Round, counts: bool| {
            let moved = round.moved(self.cost);
            let number = round_number.replace(round_number.get() + 1);
            let verdict =
                json!({"cell": cell.label, "round": number, "accepted": counts, "floors_differ": moved});
            if !quiet {
                eprintln!("{}", self.progress(&cell.label, &names, round, counts));
            }
            harness.borrow_mut().note(&verdict)
        };
        let rounds = Rounds::measure(self.rounds, cell.baselines.len(), self.cost, &mut run, &mut done)?;
        let (label, k, goals) = (cell.label.clone(), cell.k, cell.goals.clone());
        Ok(Row { label, k, goals, baselines: names, rounds })
    }

    /// One round as a line for the eye.
    fn progress(&self, label: &str, names: &[String], round: &Round, counts: bool) -> String {
        let cost = |run| figure(run, self.cost).map_or("-".to_owned(), |it| format!("{it:.1}"));
        let runs = names.iter().zip(round.before.iter().zip(&round.after));
        let floors = runs.map(|(name, (before, after))| format!("  {name} {}/{}", cost(before), cost(after)));
        let moved = round.moved(self.cost).unwrap_or_default() * 100.0;
        let verdict = if counts { String::new() } else { format!("  repeated: it moved by {moved:.0} %") };
        format!("{label:<28} {:>10} ns{}{verdict}", cost(&round.subject), floors.collect::<String>())
    }

    /// The table, with what it needs to be understood.
    fn summary(&self, harness: &Harness, rows: &[Row], notes: &str) -> String {
        let baselines = rows.iter().map(|it| &it.baselines).max_by_key(|it| it.len());
        let baselines = baselines.cloned().unwrap_or_default();
        let mut head = vec!["workload".to_owned(), format!("CPU per {}, ns", self.per)];
        head.extend(baselines.iter().map(|it| format!("{it}, ns")));
        let rest = [
            "η",
            "η min–max",
            "ours ÷ floor at our K",
            "rounds (repeated)",
            "messages/write",
            "floor's",
            "writes/s",
            "deliveries/s",
            "publications/s",
            "server CPU",
            "client busy",
            "p50 µs",
            "p99 µs",
            "remarks",
        ];
        head.extend(rest.map(str::to_owned));
        let lines: Vec<Vec<String>> = rows.iter().map(|it| it.cells(self.cost, baselines.len())).collect();
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        format!(
            "# {}\n\n{}. Medians of the rounds that count; loopback bills the receiving half of TCP to the server.\n\n\
             {}\nη = the faster floor ÷ the server, in server CPU (user + system).\n{notes}",
            self.title,
            harness.hardware(),
            results::table(&head, &lines)
        )
    }

    /// Bars of every cell.
    fn plot(&self, subject: &str, rows: &[Row]) -> String {
        let longest = rows.iter().map(|it| &it.baselines).max_by_key(|it| it.len());
        let mut series = vec![subject.to_owned()];
        series.extend(longest.into_iter().flatten().cloned());
        let groups = rows.iter().map(|row| {
            let ours = row.rounds.subject(self.cost).map(|it| self.height(it, row.subject_k()));
            let floors = (0..series.len() - 1)
                .map(|it| Some(self.height(row.rounds.baseline(it, self.cost)?, row.baseline_k(it))));
            (row.label.replace(", ", "\n"), std::iter::once(ours).chain(floors).collect())
        });
        let groups = groups.collect();
        let per = if self.bars_per_write { "write" } else { self.per };
        Bars { title: self.title.to_owned(), unit: format!("server CPU per {per}, µs"), series, groups }.svg()
    }

    fn height(&self, cost_ns: f64, k: Option<f64>) -> f64 {
        let messages = if self.bars_per_write { k.unwrap_or(1.0) } else { 1.0 };
        cost_ns * messages / 1e3
    }

    /// Shows and keeps the table and its plot; `more` bars go with those of its goals.
    ///
    /// # Errors
    /// [`BenchError::Output`].
    pub fn conclude(
        &self,
        harness: &mut Harness,
        rows: &[Row],
        notes: &str,
        more: Vec<Bar>,
    ) -> Result<ExitCode, BenchError> {
        let subject = harness.name(0).to_owned();
        let (summary, plot) = (self.summary(harness, rows, notes), self.plot(&subject, rows));
        let bars = [self.bars(rows), more].concat();
        harness.finish(&summary, Some(plot), &self.json(rows), &bars)?;
        Ok(ExitCode::SUCCESS)
    }

    /// What the goals of all rows came to.
    fn bars(&self, rows: &[Row]) -> Vec<Bar> {
        let of = |row: &Row| -> Vec<Bar> {
            row.goals.iter().map(|goal| row.bar(self.row, *goal, self.cost, self.per)).collect()
        };
        rows.iter().flat_map(of).collect()
    }

    /// The rows for programs.
    fn json(&self, rows: &[Row]) -> Value {
        rows.iter()
            .map(|row| {
                json!({
                    "workload": row.label,
                    "rounds": row.rounds.accepted.len(),
                    "repeated": row.rounds.rejected,
                    "cost_ns": row.rounds.subject(self.cost),
                    "eta": median(row.rounds.ratios(self.cost)),
                    "times_floor_at_our_k": row.times_floor(self.cost),
                    "messages_per_write": row.subject_k(),
                    "deliveries_per_s": row.rounds.subject(DELIVERIES),
                    "messages_per_s": row.rounds.subject(DELIVERIES)
                        .zip(row.rounds.subject("/throughput/publications_per_s"))
                        .map(|it| it.0 + it.1),
                })
            })
            .collect()
    }
}

impl Row {
    fn subject_k(&self) -> Option<f64> {
        self.rounds.subject(PER_WRITE).or_else(|| self.rounds.subject(PER_FRAME))
    }

    fn baseline_k(&self, index: usize) -> Option<f64> {
        self.rounds.baseline(index, PER_WRITE).or_else(|| self.rounds.baseline(index, PER_FRAME))
    }

    /// Ours ÷ floor, the floor's cost taken per write: a message more in a write changes its cost by about a
    /// hundredth, so that floors with other K can be compared.
    fn times_floor(&self, cost: &str) -> Option<f64> {
        let faster = self.rounds.faster(cost)?;
        let (ours, floor) = (self.rounds.subject(cost)?, self.rounds.baseline(faster, cost)?);
        let scale = match (self.subject_k(), self.baseline_k(faster)) {
            (Some(ours), Some(floors)) if ours > 0.0 => floors / ours,
            _ => 1.0,
        };
        Some(ours / (floor * scale))
    }

    fn bar(&self, row: &'static str, goal: Goal, cost: &str, per: &str) -> Bar {
        let (what, unit, limit, figure) = match goal {
            Goal::Eta(least) => ("η", "", Limit::AtLeast(least), median(self.rounds.ratios(cost))),
            Goal::TimesFloor(most) => {
                ("ours ÷ floor at our K", "", Limit::AtMost(most), self.times_floor(cost))
            }
            Goal::Micros(most) => {
                ("CPU", "µs", Limit::AtMost(most), self.rounds.subject(cost).map(|it| it / 1e3))
            }
        };
        let per = if unit.is_empty() { String::new() } else { format!(" per {per}") };
        Bar { row, what: format!("{what}{per}: {}", self.label), unit, limit, figure }
    }

    fn remarks(&self, cost: &str) -> String {
        let mut remarks = Vec::new();
        let few = self.rounds.accepted.is_empty();
        if few {
            remarks.push("too noisy: no round counts".to_owned());
        }
        if let (Some(k), Some(got)) = (self.k, self.rounds.subject(PER_FRAME))
            && (got / k - 1.0).abs() > K_MISS_MAX
        {
            remarks.push(format!("K MISSED ({got:.2})"));
        }
        if let Some(faster) = self.rounds.faster(cost)
            && let (Some(ours), Some(floor)) =
                (self.rounds.subject(BYTES), self.rounds.baseline(faster, BYTES))
            && (ours - floor).abs() * self.subject_k().unwrap_or(1.0) > 8.0
        {
            remarks.push(format!("bytes per delivery {ours:.1}, floor {floor:.1}"));
        }
        remarks.join("; ")
    }

    fn cells(&self, cost: &str, baselines: usize) -> Vec<String> {
        let text = |value: Option<f64>, digits: usize| match value.filter(|it| it.is_finite()) {
            Some(value) => format!("{value:.digits$}"),
            None => "–".to_owned(),
        };
        let ours = |path: &str, digits| text(self.rounds.subject(path), digits);
        let etas = self.rounds.ratios(cost);
        let low = etas.iter().copied().reduce(f64::min);
        let high = etas.iter().copied().reduce(f64::max);
        let faster = self.rounds.faster(cost);
        let per_second = |path: &str| {
            let rate = Some(self.rounds.subject(path)? / self.rounds.subject("/throughput/seconds")?);
            rate.map(short)
        };
        let count = |path: &str| self.rounds.subject(path).map_or("–".to_owned(), short);
        let mut cells = vec![self.label.clone(), ours(cost, 1)];
        cells.extend((0..baselines).map(|it| text(self.rounds.baseline(it, cost), 1)));
        cells.extend([
            text(median(etas), 3),
            low.zip(high).map_or("–".to_owned(), |(low, high)| format!("{low:.3}–{high:.3}")),
            text(self.times_floor(cost), 3),
            format!("{} ({})", self.rounds.accepted.len(), self.rounds.rejected),
            text(self.subject_k(), 2),
            text(faster.and_then(|it| self.baseline_k(it)), 2),
            per_second("/server/writes").unwrap_or("–".to_owned()),
            count(DELIVERIES),
            count("/throughput/publications_per_s"),
            ours("/server/cpu_share", 2),
            ours("/throughput/client_busy", 2),
            ours("/latency_us/p50", 0),
            ours("/latency_us/p99", 0),
            self.remarks(cost),
        ]);
        cells
    }
}

#[cfg(test)]
mod tests;
