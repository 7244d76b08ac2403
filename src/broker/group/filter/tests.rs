use super::*;
use std::borrow::Cow;

fn leaf<'a>(key: &'a str, cmp: &'a str, val: &'a str, vals: &[&'a str]) -> FilterNode<'a> {
    FilterNode {
        key: key.into(),
        cmp: cmp.into(),
        val: val.into(),
        vals: vals.iter().map(|&it| Cow::Borrowed(it)).collect(),
        ..FilterNode::default()
    }
}

fn op<'a>(op: &'a str, nodes: Vec<FilterNode<'a>>) -> FilterNode<'a> {
    FilterNode { op: op.into(), nodes, ..FilterNode::default() }
}

fn new(node: &FilterNode<'_>) -> Result<Filter, FilterError> {
    Filter::new(node, 4096)
}

#[test]
fn leaves() {
    let tags: Tags = vec![
        ("t".into(), "no".into()),
        ("t".into(), "text".into()),
        ("n".into(), "12.50".into()),
        ("e".into(), "".into()),
    ];
    #[track_caller]
    fn check(tags: &Tags, node: FilterNode<'_>, want: bool) {
        assert_eq!(new(&node).unwrap().wants(tags), want, "{node:?}");
    }
    for (key, cmp, val, want) in [
        ("t", "eq", "text", true),
        ("t", "eq", "no", false),
        ("t", "neq", "text", false),
        ("t", "neq", "x", true),
        ("t", "sw", "te", true),
        ("t", "sw", "ex", false),
        ("t", "ew", "xt", true),
        ("t", "ew", "ex", false),
        ("t", "ct", "ex", true),
        ("t", "ct", "xe", false),
        ("n", "lt", "12.6", true),
        ("n", "lt", "12.5", false),
        ("n", "lte", "12.5", true),
        ("n", "gt", "12.499999999999999999999999", true),
        ("n", "gt", "1.25e1", false),
        ("n", "gte", "1.25e1", true),
        ("n", "gte", "x", false),
        ("n", "lte", "x", false),
        ("t", "gt", "1", false),
        ("t", "lt", "1", false),
        // Missing.
        ("x", "eq", "a", false),
        ("x", "neq", "a", true),
        ("x", "sw", "a", false),
        ("x", "ew", "a", false),
        ("x", "ct", "a", false),
        ("x", "lt", "1", false),
        ("x", "gte", "-1", false),
        ("e", "eq", "a", false),
    ] {
        check(&tags, leaf(key, cmp, val, &[]), want);
    }
    for (key, vals, want) in [
        ("t", &["a", "text"][..], true),
        ("t", &["a"], false),
        ("x", &["a", ""], true),
        ("x", &["a"], false),
        ("e", &[""], true),
    ] {
        check(&tags, leaf(key, "in", "", vals), want);
        check(&tags, leaf(key, "nin", "", vals), !want);
    }
    for (key, want) in [("t", true), ("e", true), ("x", false), ("", false)] {
        check(&tags, leaf(key, "ex", "", &[]), want);
        check(&tags, leaf(key, "nex", "", &[]), !want);
    }
}

#[test]
fn operators() {
    let tags: Tags = vec![("t".into(), "a".into())];
    let (yes, no) = (|| leaf("t", "eq", "a", &[]), || leaf("t", "eq", "b", &[]));
    for (node, want) in [
        (op("and", vec![yes(), yes()]), true),
        (op("and", vec![yes(), no()]), false),
        (op("or", vec![no(), yes()]), true),
        (op("or", vec![no(), no()]), false),
        (op("not", vec![no()]), true),
        (op("not", vec![op("or", vec![no(), op("and", vec![yes()])])]), false),
    ] {
        assert_eq!(new(&node).unwrap().wants(&tags), want, "{node:?}");
    }
    assert_eq!(new(&op("and", vec![yes(), no()])), new(&op("and", vec![yes(), no()])));
    assert_ne!(new(&op("and", vec![yes(), no()])), new(&op("or", vec![yes(), no()])));
}

#[test]
fn what_makes_no_sense() {
    let good = || leaf("t", "eq", "a", &[]);
    for node in [
        FilterNode::default(),
        leaf("t", "", "a", &[]),
        leaf("t", "like", "a", &[]),
        leaf("", "eq", "a", &[]),
        leaf("t", "eq", "", &[]),
        leaf("t", "eq", "a", &["b"]),
        leaf("t", "in", "", &[]),
        leaf("t", "in", "a", &["a"]),
        leaf("", "nin", "", &["a"]),
        leaf("t", "ex", "a", &[]),
        leaf("t", "nex", "", &["a"]),
        leaf("t", "gt", "", &[]),
        op("and", vec![]),
        op("or", vec![]),
        op("not", vec![]),
        op("not", vec![good(), good()]),
        op("xor", vec![good()]),
        op("", vec![good()]),
        op("and", vec![good(), FilterNode::default()]),
    ] {
        assert_eq!(new(&node), Err(FilterError::Malformed), "{node:?}");
    }
    let node = leaf("key", "in", "", &["one", "two"]);
    let size = 3 * NODE_SIZE + 3 + 2 + 3 + 3;
    assert!(Filter::new(&node, size).is_ok());
    assert_eq!(Filter::new(&node, size - 1), Err(FilterError::TooLarge));
}

#[test]
fn decimals() {
    let rising = [
        "-1e400",
        "-12345678901234567890",
        "-2",
        "-1.5",
        "-0.001",
        "0",
        "1e-400",
        "0.1",
        "0.11",
        "1",
        "1.0000000000000000001",
        "2",
        "10",
        "12345678901234567890",
        "12345678901234567890.1",
        "1e30",
        "1e400",
    ];
    for (at, one) in rising.iter().enumerate() {
        for (other_at, other) in rising.iter().enumerate() {
            let [a, b] = [one, other].map(|it| Decimal::parse(it).unwrap());
            assert_eq!(a.compare(&b), at.cmp(&other_at), "{one} {other}");
        }
    }
    for same in [
        &["0", "-0", "0.0", "00", "+0e9", "0e-3"][..],
        &["12.5", "+012.50", "1.25e1", "125E-1", "12.5e0"],
        &["1.", "01"],
        &[".5", "0.50"],
    ] {
        for (one, other) in same.iter().zip(&same[1..]) {
            let [a, b] = [one, other].map(|it| Decimal::parse(it).unwrap());
            assert_eq!(a.compare(&b), Ordering::Equal, "{one} {other}");
        }
    }
    for bad in [
        "",
        ".",
        "-",
        "+-1",
        "1e",
        "1e+",
        "e5",
        "1.2.3",
        "0x1",
        " 1",
        "1 ",
        "NaN",
        "inf",
        "1e99999999999",
        "1_0",
        "١",
    ] {
        assert!(Decimal::parse(bad).is_none(), "{bad}");
    }
}

#[test]
fn decimals_agree_with_integers() {
    arbtest::arbtest(|u| {
        let (one, other): (i128, i128) = (u.arbitrary()?, u.arbitrary()?);
        let digits = u.int_in_range(0..=40)?;
        let text = |value: i128| {
            let (sign, size) = (if value < 0 { "-" } else { "" }, value.unsigned_abs().to_string());
            let size = format!("{size:0>41}");
            format!("{sign}{}.{}", &size[..size.len() - digits], &size[size.len() - digits..])
        };
        let [a, b] = [text(one), text(other)];
        let compared = Decimal::parse(&a).unwrap().compare(&Decimal::parse(&b).unwrap());
        assert_eq!(compared, one.cmp(&other), "{a} {b}");
        Ok(())
    });
}
