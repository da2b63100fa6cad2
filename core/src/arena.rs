//! Storage with stable indices, and linked lists through its items. With it the machines allocate
//! nothing more once they have reached their highest load.

use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::{Index, IndexMut};

const NIL: u32 = u32::MAX;

/// Makes room for another item. The memory bound has a term for each item, so that what is allocated
/// beyond them is to be a part of them, and not as much again.
pub(crate) fn grow_by_quarter<T>(items: &mut Vec<T>) {
    if items.len() == items.capacity() {
        items.reserve_exact((items.len() / 4).max(16));
    }
}

/// Items at stable indices. Freed indices are reused, last freed first.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Arena<T> {
    pub(crate) const fn new() -> Self {
        Self { items: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn insert(&mut self, item: T) -> u32 {
        match self.free.pop() {
            Some(at) => {
                self.items[at as usize] = Some(item);
                at
            }
            None => {
                grow_by_quarter(&mut self.items);
                self.items.push(Some(item));
                (self.items.len() - 1) as u32
            }
        }
    }

    pub(crate) fn remove(&mut self, at: u32) -> T {
        let item = self.items[at as usize].take().expect("an index is used while its item lives");
        self.free.push(at);
        item
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    /// Indices in use, ascending.
    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> + use<'_, T> {
        self.items.iter().enumerate().filter(|(_, item)| item.is_some()).map(|(at, _)| at as u32)
    }

    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        self.items.get(at as usize)?.as_ref()
    }
}

impl<T> Index<u32> for Arena<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        self.items[at as usize].as_ref().expect("an index is used while its item lives")
    }
}

impl<T> IndexMut<u32> for Arena<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        self.items[at as usize].as_mut().expect("an index is used while its item lives")
    }
}

/// An item's neighbours in one list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Links {
    prev: u32,
    next: u32,
}

impl Links {
    pub(crate) const UNLINKED: Self = Self { prev: NIL, next: NIL };
}

/// Says which links of an item a list uses.
pub(crate) trait Chain<T> {
    fn links(item: &mut T) -> &mut Links;
}

/// A doubly linked list through the items of an [`Arena`], in insertion order.
#[derive(Debug)]
pub(crate) struct List<C> {
    head: u32,
    tail: u32,
    chain: PhantomData<C>,
}

impl<C> Default for List<C> {
    fn default() -> Self {
        Self { head: NIL, tail: NIL, chain: PhantomData }
    }
}

impl<C> List<C> {
    pub(crate) fn front(&self) -> Option<u32> {
        (self.head != NIL).then_some(self.head)
    }

    pub(crate) fn back(&self) -> Option<u32> {
        (self.tail != NIL).then_some(self.tail)
    }

    /// The item behind `at`, which is in the list.
    pub(crate) fn next<T>(&self, arena: &mut Arena<T>, at: u32) -> Option<u32>
    where
        C: Chain<T>,
    {
        let next = C::links(&mut arena[at]).next;
        (next != NIL).then_some(next)
    }

    /// The item before `at`, which is in the list.
    pub(crate) fn prev<T>(&self, arena: &mut Arena<T>, at: u32) -> Option<u32>
    where
        C: Chain<T>,
    {
        let prev = C::links(&mut arena[at]).prev;
        (prev != NIL).then_some(prev)
    }

    pub(crate) fn push_back<T>(&mut self, arena: &mut Arena<T>, at: u32)
    where
        C: Chain<T>,
    {
        *C::links(&mut arena[at]) = Links { prev: self.tail, next: NIL };
        match self.tail {
            NIL => self.head = at,
            tail => C::links(&mut arena[tail]).next = at,
        }
        self.tail = at;
    }

    pub(crate) fn push_front<T>(&mut self, arena: &mut Arena<T>, at: u32)
    where
        C: Chain<T>,
    {
        *C::links(&mut arena[at]) = Links { prev: NIL, next: self.head };
        match self.head {
            NIL => self.tail = at,
            head => C::links(&mut arena[head]).prev = at,
        }
        self.head = at;
    }

    pub(crate) fn remove<T>(&mut self, arena: &mut Arena<T>, at: u32)
    where
        C: Chain<T>,
    {
        let Links { prev, next } = core::mem::replace(C::links(&mut arena[at]), Links::UNLINKED);
        match prev {
            NIL => self.head = next,
            prev => C::links(&mut arena[prev]).next = next,
        }
        match next {
            NIL => self.tail = prev,
            next => C::links(&mut arena[next]).prev = prev,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item(u8, Links);
    struct Only;
    impl Chain<Item> for Only {
        fn links(item: &mut Item) -> &mut Links {
            &mut item.1
        }
    }

    #[test]
    fn lists_keep_their_order_through_removals() {
        let mut arena = Arena::new();
        let mut list = List::<Only>::default();
        let at: Vec<u32> = (0..5).map(|n| arena.insert(Item(n, Links::UNLINKED))).collect();
        at.iter().for_each(|at| list.push_back(&mut arena, *at));
        list.remove(&mut arena, at[2]);
        list.remove(&mut arena, at[0]);
        list.remove(&mut arena, at[4]);
        list.push_back(&mut arena, at[2]);
        list.push_front(&mut arena, at[4]);
        assert_eq!((list.front(), list.next(&mut arena, at[4])), (Some(at[4]), Some(at[1])));
        list.remove(&mut arena, at[4]);
        list.push_front(&mut arena, at[0]);
        list.remove(&mut arena, at[0]);
        assert_eq!(list.next(&mut arena, at[1]), Some(at[3]));
        assert_eq!(list.next(&mut arena, at[2]), None);
        assert_eq!(list.back(), Some(at[2]));
        assert_eq!(list.prev(&mut arena, at[2]), Some(at[3]));
        assert_eq!(list.prev(&mut arena, at[0]), None);
        let mut seen = Vec::new();
        while let Some(front) = list.front() {
            seen.push(arena[front].0);
            list.remove(&mut arena, front);
        }
        assert_eq!(seen, [1, 3, 2]);
        assert_eq!(arena.remove(at[3]).0, 3);
        assert_eq!(arena.insert(Item(9, Links::UNLINKED)), at[3]);
        assert_eq!(arena.len(), 5);
    }
}
