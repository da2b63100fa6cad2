//! Sets of small numbers as bits of one word.

/// The numbers whose bits are set, ascending.
pub(crate) fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let one = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(one)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn ones_come_ascending() {
        assert!(super::ones(1 << 63 | 1 << 7 | 1).eq([0, 7, 63]));
        assert_eq!(super::ones(0).count(), 0);
    }
}
