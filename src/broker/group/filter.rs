//! Tags filters: which publications a subscriber wants, by their tags.
//!
//! Members with equal filters stand in one group, and the filter is asked once for all of them. Semantics follow
//! Centrifugo: <https://centrifugal.dev/docs/server/publication_filtering>

mod decimal;
#[cfg(test)]
mod tests;

use crate::{model::Tags, wire::client::FilterNode};
use decimal::Decimal;
use std::cmp::Ordering;

/// A filter that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    All(Box<[Filter]>),
    Any(Box<[Filter]>),
    Not(Box<Filter>),
    Tag { key: Box<str>, test: Test },
}

/// What is asked of the value of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    Exists,
    Is(Box<str>),
    /// Unlike in the negation of `Is`, the tag may be missing; so it may in `Among`, as if it were empty.
    Among(Box<[Box<str>]>),
    Starts(Box<str>),
    Ends(Box<str>),
    Contains(Box<str>),
    /// A decimal number that compares so with this one. What is no number does not.
    Compares {
        number: Box<str>,
        less: bool,
        equal: bool,
    },
}

/// Why there is no filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterError {
    Malformed,
    /// More bytes than allowed.
    TooLarge,
}

/// Bytes a node counts for beside its texts.
const NODE_SIZE: usize = 32;

impl Filter {
    /// The filter a client described, of at most `size_max` bytes: those of its texts and 32 for each node and value.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn new(node: &FilterNode<'_>, size_max: usize) -> Result<Self, FilterError> {
        if size(node) > size_max { Err(FilterError::TooLarge) } else { filter(node) }
    }

    /// Whether a publication with these tags is wanted. Of a tag given twice the last one counts.
    #[must_use]
    pub fn wants(&self, tags: &Tags) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|filter| filter.wants(tags)),
            Self::Any(filters) => filters.iter().any(|filter| filter.wants(tags)),
            Self::Not(filter) => !filter.wants(tags),
            Self::Tag { key, test } => {
                test.holds(tags.iter().rev().find(|(tag, _)| tag == key).map(|(_, value)| &**value))
            }
        }
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        match (self, value) {
            (Self::Exists, value) => value.is_some(),
            (Self::Among(texts), value) => texts.iter().any(|text| **text == *value.unwrap_or_default()),
            (_, None) => false,
            (Self::Is(text), Some(value)) => **text == *value,
            (Self::Starts(text), Some(value)) => value.starts_with(&**text),
            (Self::Ends(text), Some(value)) => value.ends_with(&**text),
            (Self::Contains(text), Some(value)) => value.contains(&**text),
            (Self::Compares { number, less, equal }, Some(value)) => {
                let compared = Decimal::parse(value).zip(Decimal::parse(number));
                match compared.map(|(value, number)| value.compare(&number)) {
                    Some(Ordering::Less) => *less,
                    Some(Ordering::Equal) => *equal,
                    Some(Ordering::Greater) => !*less,
                    None => false,
                }
            }
        }
    }
}

fn size(node: &FilterNode<'_>) -> usize {
    let values: usize = node.vals.iter().map(|value| NODE_SIZE + value.len()).sum();
    let nodes: usize = node.nodes.iter().map(size).sum();
    NODE_SIZE + node.op.len() + node.key.len() + node.cmp.len() + node.val.len() + values + nodes
}

fn filter(node: &FilterNode<'_>) -> Result<Filter, FilterError> {
    let nodes = || node.nodes.iter().map(filter).collect::<Result<Box<[_]>, _>>();
    match (&*node.op, node.nodes.as_slice()) {
        ("and", [_, ..]) => nodes().map(Filter::All),
        ("or", [_, ..]) => nodes().map(Filter::Any),
        ("not", [negated]) => filter(negated).map(|it| Filter::Not(Box::new(it))),
        ("", []) => tag(node),
        _ => Err(FilterError::Malformed),
    }
}

fn tag(node: &FilterNode<'_>) -> Result<Filter, FilterError> {
    let shape = (node.key.is_empty(), node.val.is_empty(), node.vals.is_empty());
    let right = match &*node.cmp {
        "ex" | "nex" => matches!(shape, (_, true, true)),
        "in" | "nin" => shape == (false, true, false),
        _ => shape == (false, false, true),
    };
    if !right {
        return Err(FilterError::Malformed);
    }
    let text = || Box::from(&*node.val);
    let texts = || node.vals.iter().map(|value| Box::from(&**value)).collect();
    let number = |less, equal| Test::Compares { number: text(), less, equal };
    let (test, negated) = match &*node.cmp {
        "eq" => (Test::Is(text()), false),
        "neq" => (Test::Is(text()), true),
        "in" => (Test::Among(texts()), false),
        "nin" => (Test::Among(texts()), true),
        "ex" => (Test::Exists, false),
        "nex" => (Test::Exists, true),
        "sw" => (Test::Starts(text()), false),
        "ew" => (Test::Ends(text()), false),
        "ct" => (Test::Contains(text()), false),
        "lt" => (number(true, false), false),
        "lte" => (number(true, true), false),
        "gt" => (number(false, false), false),
        "gte" => (number(false, true), false),
        _ => return Err(FilterError::Malformed),
    };
    let filter = Filter::Tag { key: Box::from(&*node.key), test };
    Ok(if negated { Filter::Not(Box::new(filter)) } else { filter })
}
