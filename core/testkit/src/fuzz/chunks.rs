//! What a [`Run`](super::run::Run) must do with chunks: which of them are here, and which it sends to
//! whom unasked (DESIGN, section 6).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::pool::{self, Art};

/// A channel and an artifact.
type Key = (usize, Art);

/// The chunks that are to be sent in a stream.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// These, in this order.
    Listed(VecDeque<u32>),
    /// The stripe that the first chunk begins.
    Stripe,
    /// Those of this node's own stripe, in the order in which they came, from this one on.
    Passed(usize),
}

#[derive(Clone, Copy, Debug)]
struct Passed {
    chunk: u32,
    is_certain: bool,
}

/// What this node sends of an artifact unasked, as long as it has it in a slot.
#[derive(Default, Debug)]
struct Unasked {
    /// The members among which this node, its publisher, divides it.
    members: BTreeSet<usize>,
    /// Who was sent a stripe, and the first chunk in it.
    told: BTreeMap<usize, Option<u32>>,
    /// Who was passed on chunks, and in how many streams: one for each round.
    rounds: BTreeMap<usize, u32>,
    /// What has come and belongs to this node's stripe, or may: by the request for it nobody can tell
    /// whether it is to repair a stripe.
    passed: Vec<Passed>,
}

/// See the module's head.
#[derive(Default, Debug)]
pub(super) struct ChunkModel {
    /// The chunks that have come of what is wanted.
    received: BTreeMap<Key, BTreeSet<u32>>,
    /// What this node tells others of although it does not have all of it.
    parts: BTreeSet<Key>,
    unasked: BTreeMap<Key, Unasked>,
}

impl ChunkModel {
    pub(super) fn has_come(&self, key: Key, chunk: u32) -> bool {
        self.received.get(&key).is_some_and(|received| received.contains(&chunk))
    }

    /// Whether this node has a part of what it tells others of.
    pub(super) fn is_part(&self, key: Key) -> bool {
        self.parts.contains(&key)
    }

    /// Whether a chunk of what this node tells others of is here.
    pub(super) fn is_here(&self, key: Key, chunk: u32) -> bool {
        !self.is_part(key) || self.has_come(key, chunk)
    }

    // What happens.

    /// A right chunk has come. False if it was here.
    pub(super) fn take(&mut self, key: Key, chunk: u32) -> bool {
        self.received.entry(key).or_default().insert(chunk)
    }

    /// A chunk is to be passed on, or may be.
    pub(super) fn pass_on(&mut self, key: Key, chunk: u32, is_certain: bool) {
        self.unasked.entry(key).or_default().passed.push(Passed { chunk, is_certain });
    }

    /// From now on others are told of what has come.
    pub(super) fn part(&mut self, key: Key) {
        self.parts.insert(key);
    }

    /// All of an artifact is here.
    pub(super) fn whole(&mut self, key: Key) {
        self.parts.remove(&key);
    }

    /// This node publishes what is to be spread among these members.
    pub(super) fn spread(&mut self, key: Key, members: impl Iterator<Item = usize>) {
        self.unasked.entry(key).or_default().members = members.collect();
    }

    /// Keeps what has come of what is wanted, and what is said of what is in a slot.
    pub(super) fn forget(
        &mut self,
        is_wanted: impl Fn(Key) -> bool,
        is_active: impl Fn(Key) -> bool,
    ) {
        self.received.retain(|key, _| is_wanted(*key));
        self.parts.retain(|key| is_active(*key));
        self.unasked.retain(|key, _| is_active(*key));
    }

    // What is sent.

    /// Whether a member is to pass on what this node, the publisher, sends it.
    pub(super) fn is_spread_to(&self, key: Key, peer: usize) -> bool {
        self.unasked.get(&key).is_some_and(|unasked| unasked.members.contains(&peer))
    }

    /// A stream to a peer begins with chunks that it has not asked for.
    pub(super) fn begin_stream(
        &mut self,
        key: Key,
        peer: usize,
        hops: u8,
        is_spread: bool,
    ) -> Source {
        if hops == 0 && !is_spread {
            return Source::Listed((0..chunks(key)).collect());
        }
        let unasked = self.unasked.get_mut(&key).expect("what is spread");
        if hops > 0 {
            *unasked.rounds.entry(peer).or_default() += 1;
            return Source::Passed(0);
        }
        assert!(unasked.told.insert(peer, None).is_none(), "one stream to each peer");
        Source::Stripe
    }

    /// A chunk is sent to a peer that has told of those in `had`.
    pub(super) fn take_sent(
        &mut self,
        key: Key,
        source: &mut Source,
        (peer, had): (usize, Option<&BTreeSet<u32>>),
        chunk: u32,
    ) {
        match source {
            Source::Listed(listed) => assert_eq!(listed.pop_front(), Some(chunk)),
            Source::Stripe => {
                let mut stripe = self.stripe(key, peer, chunk);
                stripe.pop_front();
                *source = Source::Listed(stripe);
            }
            Source::Passed(next) => {
                let Unasked { passed, rounds, .. } = &self.unasked[&key];
                let passed = &passed[*next..];
                let at = passed.iter().position(|passed| passed.chunk == chunk);
                let at = at.expect("what has come is passed on once, in this order");
                if rounds[&peer] == 1 {
                    // What is left out in a later round, or in one beside it, was in another one.
                    assert_all_had(&passed[..at], had);
                }
                *next += at + 1;
            }
        }
    }

    /// The stripe of a member, which begins with a chunk. Together the stripes are the artifact.
    fn stripe(&mut self, key: Key, peer: usize, first: u32) -> VecDeque<u32> {
        let unasked = self.unasked.get_mut(&key).expect("what is spread");
        let (chunks, members) = (chunks(key), unasked.members.len() as u32);
        let start = |place: u32| chunks * place / members;
        let place = (0..members).find(|place| start(*place) == first).expect("a stripe's first");
        assert!(!unasked.told.values().any(|told| *told == Some(first)), "another for each");
        unasked.told.insert(peer, Some(first));
        (first..start(place + 1)).collect()
    }
}

impl Source {
    /// A stream to a peer has been ended, not reset.
    pub(super) fn assert_ended(&self) {
        match self {
            Self::Listed(listed) => assert!(listed.is_empty(), "all that was to be sent"),
            Self::Stripe => panic!("a stripe has a chunk"),
            // A round ends with what was asked for together. Which request is one, nobody can tell here.
            Self::Passed(_) => {}
        }
    }
}

fn chunks((_, art): Key) -> u32 {
    pool::artifact(art).advert().chunks()
}

/// What is not passed on to a peer is what it has.
fn assert_all_had(passed: &[Passed], had: Option<&BTreeSet<u32>>) {
    let mut certain = passed.iter().filter(|passed| passed.is_certain);
    assert!(certain.all(|passed| had.is_some_and(|had| had.contains(&passed.chunk))));
}
