//! Parts without any word of messaging in them: keys, slabs, varints, timers, sets of cores, randomness.

pub mod bitset;
pub mod rng;
pub mod slab;
pub mod snug;
pub mod varint;
pub mod wheel;
