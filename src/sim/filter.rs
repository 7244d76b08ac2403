//! Tags filters of the simulation: three that part what is published in different ways.

use crate::{stdx::rng::Rng, wire::client::FilterNode};

/// Values of the one tag there is; nothing for clients, who cannot set tags.
pub const VALUES: [&str; 3] = ["", "a", "b"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    Is,
    IsNot,
    Tagged,
}

impl Filter {
    pub fn draw(rng: &mut Rng) -> Option<Self> {
        [None, None, Some(Self::Is), Some(Self::IsNot), Some(Self::Tagged)][rng.below(5) as usize]
    }

    pub fn node(self) -> FilterNode<'static> {
        let leaf = |cmp: &'static str, val: &'static str| FilterNode {
            key: "k".into(),
            cmp: cmp.into(),
            val: val.into(),
            ..FilterNode::default()
        };
        let not = |node| FilterNode { op: "not".into(), nodes: vec![node], ..FilterNode::default() };
        match self {
            Self::Is => leaf("eq", "a"),
            Self::IsNot => not(leaf("eq", "a")),
            Self::Tagged => leaf("ex", ""),
        }
    }

    pub fn passes(self, value: &str) -> bool {
        match self {
            Self::Is => value == "a",
            Self::IsNot => value != "a",
            Self::Tagged => !value.is_empty(),
        }
    }
}
