use super::*;

const COST: &str = "/server/cpu_ns_per_delivery";

fn run(cost: f64, k: f64) -> Value {
    json!({"server": {"cpu_ns_per_delivery": cost, "messages_per_write": k}, "throughput": {"messages_per_frame": k}})
}

fn row(ours: (f64, f64), floor: (f64, f64), k: Option<f64>, goals: Vec<Goal>) -> Row {
    let floor = run(floor.0, floor.1);
    let round = Round { before: vec![floor.clone()], subject: run(ours.0, ours.1), after: vec![floor] };
    let rounds = Rounds { accepted: vec![round], rejected: 2 };
    Row { label: "JSON, K = 4".into(), k, goals, baselines: vec!["floor".into()], rounds }
}

fn grid(row: &'static str) -> Grid<'static> {
    Grid { title: "t", row, cost: COST, per: "delivery", rounds: 1, bars_per_write: true }
}

#[test]
fn goals_table() {
    #[track_caller]
    fn check(ours: (f64, f64), floor: (f64, f64), goal: Goal, want: bool) {
        let bar = row(ours, floor, None, vec![]).bar("P1", goal, COST, "delivery");
        assert_eq!(bar.met(), Some(want), "{goal:?}");
    }
    check((1000.0, 4.0), (880.0, 4.0), Goal::Eta(0.88), true);
    check((1001.0, 4.0), (880.0, 4.0), Goal::Eta(0.88), false);
    check((1250.0, 4.0), (1000.0, 4.0), Goal::TimesFloor(1.25), true);
    // Twice the messages per write halve what a delivery of the floor would cost.
    check((1250.0, 8.0), (1000.0, 4.0), Goal::TimesFloor(1.25), false);
    check((1250.0, 8.0), (1000.0, 4.0), Goal::TimesFloor(2.5), true);
    check((1100.0, 1.0), (1.0, 1.0), Goal::Micros(1.1), true);
    check((1101.0, 1.0), (1.0, 1.0), Goal::Micros(1.1), false);
}

#[test]
fn rows_say_what_is_wrong() {
    let fine = row((1000.0, 4.2), (900.0, 4.0), Some(4.0), vec![Goal::Eta(0.88), Goal::Micros(0.5)]);
    assert_eq!(fine.remarks(COST), "");
    let bars = crate::cli::bench::bars::table(&grid("P1").bars(std::slice::from_ref(&fine)));
    assert!(bars.contains("| P1 | η: JSON, K = 4 | ≥ 0.88 | 0.9 | yes |"), "{bars}");
    assert!(bars.contains("| P1 | CPU per delivery: JSON, K = 4 | ≤ 0.5 µs | 1 µs | NO |"), "{bars}");
    let cells = fine.cells(COST, 1);
    assert_eq!(cells[..4], ["JSON, K = 4", "1000.0", "900.0", "0.900"]);
    assert!(cells.contains(&"1 (2)".to_owned()), "{cells:?}");
    let missed = row((1000.0, 5.0), (900.0, 4.0), Some(4.0), vec![]);
    assert_eq!(missed.remarks(COST), "K MISSED (5.00)");
    let mut empty = row((1.0, 1.0), (1.0, 1.0), None, vec![Goal::Eta(0.5)]);
    empty.rounds.accepted.clear();
    assert_eq!(empty.remarks(COST), "too noisy: no round counts");
    assert_eq!(empty.bar("P1", Goal::Eta(0.5), COST, "delivery").met(), None);
}

#[test]
fn bars_are_costs_of_writes() {
    let svg = grid("").plot("ours", &[row((500.0, 4.0), (250.0, 4.0), Some(4.0), vec![])]);
    assert!(svg.contains(">2</text>") && svg.contains(">1</text>"), "{svg}");
    assert!(svg.contains("server CPU per write"));
}
