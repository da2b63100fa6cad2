//! What is published under keys: by key and name, and in the order of the keys.

use alloc::collections::BTreeMap;

/// What tells entries under one key apart: the name that the publisher gave, or without one the item.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Label<T> {
    Named(u32),
    Unnamed(T),
}

impl<T> Label<T> {
    fn new(name: Option<u32>, item: T) -> Self {
        name.map_or(Self::Unnamed(item), Self::Named)
    }
}

/// Items under keys, each once. As many as there are artifacts with keys: the owner has a bound for these.
#[derive(Debug)]
pub(crate) struct KeyIndex<T> {
    entries: BTreeMap<(u64, Label<T>), T>,
}

impl<T> Default for KeyIndex<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new() }
    }
}

impl<T: Copy + Ord> KeyIndex<T> {
    /// What is under a key and a name.
    pub(crate) fn find(&self, key: u64, name: u32) -> Option<T> {
        self.entries.get(&(key, Label::Named(name))).copied()
    }

    /// An item that has the lowest key, if that is below `key`.
    pub(crate) fn lowest_below(&self, key: u64) -> Option<T> {
        let ((lowest, _), item) = self.entries.first_key_value()?;
        (*lowest < key).then_some(*item)
    }

    pub(crate) fn insert(&mut self, key: u64, name: Option<u32>, item: T) {
        let other = self.entries.insert((key, Label::new(name, item)), item);
        assert!(other.is_none(), "one item under one key and name");
    }

    pub(crate) fn remove(&mut self, key: u64, name: Option<u32>, item: T) {
        let removed = self.entries.remove(&(key, Label::new(name, item)));
        assert!(removed.is_some(), "it was inserted like this");
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
