//! Rounds: baselines, the subject, the baselines again in mirrored order; and when a round counts.
//!
//! Machines are noisy in ways that come and go. A round in which the baseline that counts moved by more than a
//! tenth while the subject ran says nothing about the subject: it is repeated, a bounded number of times.

use super::BenchError;
use serde_json::Value;

/// The baseline may move by this much between its two runs of a round.
pub const MOVED_MAX: f64 = 0.10;
/// So many rejected rounds for each accepted one asked for, then the cell ends with what it has.
const REJECTED_PER_ROUND: usize = 5;

/// Who runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Baseline(usize),
    Subject,
}

/// One round's figures; baselines in their order.
#[derive(Clone, Debug)]
pub struct Round {
    pub before: Vec<Value>,
    pub subject: Value,
    pub after: Vec<Value>,
}

/// All rounds of one cell.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    pub accepted: Vec<Round>,
    pub rejected: usize,
}

/// The number at `path` (`/server/cpu_ns_per_delivery`) of a run.
#[must_use]
pub fn figure(run: &Value, path: &str) -> Option<f64> {
    run.pointer(path)?.as_f64()
}

/// Middle of the values; the mean of the two middle ones of an even number.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let high = values.get(values.len() / 2)?;
    let low = values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(*low, *high))
}

impl Round {
    /// Index and mean cost of the cheapest baseline.
    #[must_use]
    pub fn cheapest(&self, cost: &str) -> Option<(usize, f64)> {
        let costs = self.before.iter().zip(&self.after).enumerate();
        costs
            .filter_map(|(index, (before, after))| {
                Some((index, f64::midpoint(figure(before, cost)?, figure(after, cost)?)))
            })
            .min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// How much the baseline that counts in this round moved while the subject ran, as a share; none without
    /// baselines.
    #[must_use]
    pub fn moved(&self, cost: &str) -> Option<f64> {
        let (index, _) = self.cheapest(cost)?;
        let before = figure(self.before.get(index)?, cost)?;
        let after = figure(self.after.get(index)?, cost)?;
        Some(before.max(after) / before.min(after) - 1.0)
    }

    #[must_use]
    pub fn counts(&self, cost: &str) -> bool {
        self.moved(cost).is_none_or(|moved| moved <= MOVED_MAX)
    }
}

impl Rounds {
    /// Measures until `count` rounds count. `run` makes one run; `done` is told of each round and whether it
    /// counted.
    ///
    /// # Errors
    /// The first of `run` and `done`.
    pub fn measure(
        count: usize,
        baselines: usize,
        cost: &str,
        run: &mut dyn FnMut(Who) -> Result<Value, BenchError>,
        done: &mut dyn FnMut(&Round, bool) -> Result<(), BenchError>,
    ) -> Result<Self, BenchError> {
        let mut rounds = Self::default();
        while rounds.accepted.len() < count && rounds.rejected < count * REJECTED_PER_ROUND {
            let before = (0..baselines).map(|it| run(Who::Baseline(it))).collect::<Result<Vec<_>, _>>()?;
            let subject = run(Who::Subject)?;
            let mut after =
                (0..baselines).rev().map(|it| run(Who::Baseline(it))).collect::<Result<Vec<_>, _>>()?;
            after.reverse();
            let round = Round { before, subject, after };
            let counts = round.counts(cost);
            done(&round, counts)?;
            if counts {
                rounds.accepted.push(round);
            } else {
                rounds.rejected += 1;
            }
        }
        Ok(rounds)
    }

    /// Median of the subject's figure.
    #[must_use]
    pub fn subject(&self, path: &str) -> Option<f64> {
        median(self.accepted.iter().filter_map(|it| figure(&it.subject, path)).collect())
    }

    /// Median of a baseline's figure, over its runs before and after.
    #[must_use]
    pub fn baseline(&self, index: usize, path: &str) -> Option<f64> {
        let runs = self.accepted.iter().flat_map(|it| [it.before.get(index), it.after.get(index)]);
        median(runs.flatten().filter_map(|it| figure(it, path)).collect())
    }

    /// The baseline with the lowest median: the one that counts.
    #[must_use]
    pub fn faster(&self, cost: &str) -> Option<usize> {
        let count = self.accepted.first()?.before.len();
        let medians = (0..count).filter_map(|it| Some((it, self.baseline(it, cost)?)));
        medians.min_by(|a, b| a.1.total_cmp(&b.1)).map(|it| it.0)
    }

    /// Baseline ÷ subject of every accepted round, for the baseline that counts.
    #[must_use]
    pub fn ratios(&self, cost: &str) -> Vec<f64> {
        let Some(index) = self.faster(cost) else { return Vec::new() };
        let ratio = |round: &Round| {
            let before = figure(round.before.get(index)?, cost)?;
            let after = figure(round.after.get(index)?, cost)?;
            Some(f64::midpoint(before, after) / figure(&round.subject, cost)?)
        };
        self.accepted.iter().filter_map(ratio).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const COST: &str = "/server/cost";

    fn run(cost: f64) -> Value {
        json!({"server": {"cost": cost}})
    }

    // Feeds costs in the order of the runs; says how many rounds were accepted and rejected, and the ratio.
    #[track_caller]
    fn check(name: &str, baselines: usize, count: usize, costs: &[f64], want: (usize, usize, Option<f64>)) {
        let mut costs = costs.iter().copied();
        let mut order = Vec::new();
        let mut told = 0;
        let rounds = Rounds::measure(
            count,
            baselines,
            COST,
            &mut |who| {
                order.push(who);
                Ok(run(costs.next().expect("more runs than costs")))
            },
            &mut |_, _| {
                told += 1;
                Ok(())
            },
        )
        .unwrap();
        assert_eq!((rounds.accepted.len(), rounds.rejected), (want.0, want.1), "{name}");
        assert_eq!(told, want.0 + want.1, "{name}");
        assert_eq!(median(rounds.ratios(COST)), want.2, "{name}");
        assert_eq!(costs.next(), None, "{name}: too few runs");
        if baselines == 2 {
            use Who::{Baseline, Subject};
            assert_eq!(order[..5], [Baseline(0), Baseline(1), Subject, Baseline(1), Baseline(0)], "{name}");
        }
    }

    #[test]
    fn rounds_table() {
        check("steady", 1, 1, &[8.0, 10.0, 8.0], (1, 0, Some(0.8)));
        check("nearly a tenth", 1, 1, &[100.0, 100.0, 109.0], (1, 0, Some(1.045)));
        check("more, then steady", 1, 1, &[10.0, 9.0, 11.1, 9.0, 10.0, 9.0], (1, 1, Some(0.9)));
        check("the faster counts", 2, 1, &[10.0, 8.0, 10.0, 8.0, 10.0], (1, 0, Some(0.8)));
        check("the slower may move", 2, 1, &[10.0, 8.0, 10.0, 8.0, 30.0], (1, 0, Some(0.8)));
        check(
            "the faster may not",
            2,
            1,
            &[9.0, 8.0, 9.0, 6.0, 9.0, 9.0, 8.0, 10.0, 8.0, 9.0],
            (1, 1, Some(0.8)),
        );
        check("none", 0, 2, &[5.0, 7.0], (2, 0, None));
        check("always noisy", 1, 1, &[1.0, 1.0, 2.0].repeat(5), (0, 5, None));
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn the_first_error_ends_it() {
        let mut runs = 0;
        let got = Rounds::measure(
            3,
            1,
            COST,
            &mut |_| {
                runs += 1;
                Err(BenchError::Usage("x"))
            },
            &mut |_, _| Ok(()),
        );
        assert!(got.is_err());
        assert_eq!(runs, 1);
    }
}
