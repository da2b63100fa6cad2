//! Deadlines of things with indices, the earliest first.

use std::vec::Vec;

use crate::time::Time;

const NOWHERE: u32 = u32::MAX;

/// A binary heap in which each index has one deadline or none. Setting one takes a time logarithmic
/// in the number of deadlines.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: Vec<(Time, u32)>,
    /// By index: where in the heap it is.
    places: Vec<u32>,
}

impl Deadlines {
    /// Sets the deadline of an index, or removes it: [`Time::NEVER`].
    pub(super) fn set(&mut self, index: usize, at: Time) {
        if self.places.len() <= index {
            self.places.resize(index + 1, NOWHERE);
        }
        let place = self.places[index] as usize;
        match (self.places[index] == NOWHERE, at == Time::NEVER) {
            (true, true) => {}
            (true, false) => {
                self.heap.push((at, index as u32));
                self.sift_up(self.heap.len() - 1);
            }
            (false, false) => {
                self.heap[place].0 = at;
                self.sift(place);
            }
            (false, true) => {
                self.heap.swap_remove(place);
                self.places[index] = NOWHERE;
                if place < self.heap.len() {
                    self.sift(place);
                }
            }
        }
    }

    /// The earliest deadline, and the index that has it.
    pub(super) fn first(&self) -> Option<(Time, usize)> {
        self.heap.first().map(|(at, index)| (*at, *index as usize))
    }

    /// The earliest deadline, or [`Time::NEVER`].
    pub(super) fn earliest(&self) -> Time {
        self.first().map_or(Time::NEVER, |(at, _)| at)
    }

    fn sift(&mut self, place: usize) {
        let place = self.sift_up(place);
        self.sift_down(place);
    }

    fn sift_up(&mut self, mut place: usize) -> usize {
        while place > 0 && self.heap[place] < self.heap[(place - 1) / 2] {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
        self.places[self.heap[place].1 as usize] = place as u32;
        place
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let children = [2 * place + 1, 2 * place + 2].into_iter();
            let children = children.filter(|child| *child < self.heap.len());
            let Some(least) = children.min_by_key(|child| self.heap[*child]) else { break };
            if self.heap[place] <= self.heap[least] {
                break;
            }
            self.swap(place, least);
            place = least;
        }
        self.places[self.heap[place].1 as usize] = place as u32;
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        self.places[self.heap[one].1 as usize] = one as u32;
        self.places[self.heap[other].1 as usize] = other as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn the_earliest_is_first_whatever_is_set_and_removed() {
        let mut random = Random::new(5);
        let (mut deadlines, mut model) = (Deadlines::default(), [Time::NEVER; 40]);
        for _ in 0..10_000 {
            let index = random.below(40) as usize;
            let at = if random.below(3) == 0 { Time::NEVER } else { Time(random.below(100)) };
            deadlines.set(index, at);
            model[index] = at;
            let earliest = model.iter().copied().min().expect("not empty");
            assert_eq!(deadlines.earliest(), earliest);
            assert!(deadlines.first().is_none_or(|(at, index)| model[index] == at));
        }
    }
}
