//! Vectors of which there are many.

/// Appends like `Vec::push`, but leaves a quarter of room at most instead of as much again.
pub fn push<T>(vec: &mut Vec<T>, item: T) {
    if vec.len() == vec.capacity() {
        vec.reserve_exact(1 + vec.len() / 4);
    }
    vec.push(item);
}

#[cfg(test)]
mod tests {
    #[test]
    fn room_stays_small() {
        let mut vec = Vec::new();
        for item in 0..10_000_u64 {
            super::push(&mut vec, item);
            assert!(vec.capacity() <= vec.len() + vec.len() / 4 + 1, "{} of {}", vec.len(), vec.capacity());
        }
        assert!(vec.iter().copied().eq(0..10_000));
    }
}
