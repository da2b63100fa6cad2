//! Calls in the arena.

use bytes::Bytes;
use quinn_proto::{Dir, Side, StreamId};

use super::arena::{Arena, HONEST, VICTIM};
use super::{ROUTE, ms, question};
use slotcast::error::CallError;
use slotcast::rpc::CallId;

impl Arena {
    // What the hostile member does, and sees.

    /// Opens a stream for a call.
    pub(super) fn open_call(&mut self) -> Option<StreamId> {
        let hostile = &mut *self.hostile_mut();
        hostile.bare.open_call(hostile.line())
    }

    /// Calls the victim with these bytes.
    pub(super) fn write_call(&mut self, bytes: &[u8], finish: bool) -> StreamId {
        let stream = self.open_call().expect("stream credit");
        self.write_to(stream, bytes, finish);
        stream
    }

    /// What has arrived of a stream of the victim, or of a call's.
    pub(super) fn arrived(&self, stream: StreamId) -> Vec<u8> {
        self.hostile().read.get(&stream).cloned().unwrap_or_default()
    }

    /// The streams of calls that the victim has made, in order.
    pub(super) fn calls(&self) -> Vec<StreamId> {
        let is_call = |stream: &&StreamId| {
            stream.dir() == Dir::Bi && stream.initiator() != self.hostile_side()
        };
        self.hostile().read.keys().filter(is_call).copied().collect()
    }

    /// The side of the hostile member in the connection: who dials is the client.
    fn hostile_side(&self) -> Side {
        if self.hostile().place < VICTIM { Side::Client } else { Side::Server }
    }

    // What the victim and its honest peer do.

    /// Has a node call another.
    pub(super) fn ask(&mut self, from: usize, to: usize, body: Vec<u8>) -> CallId {
        let called = self.command(from, |_, node| node.call(to, ROUTE, body.into(), None));
        called.expect("it runs").expect("there is credit")
    }

    /// What became of a call.
    pub(super) fn outcome(&self, call: CallId) -> Option<&Result<Bytes, CallError>> {
        let mut outcomes = self.application.outcomes.iter();
        outcomes.find(|(of, ..)| *of == call).map(|(_, _, result)| result)
    }

    /// Victim and honest peer still answer each other, at once.
    pub(super) fn assert_calls_unharmed(&mut self) {
        for (from, to) in [(VICTIM, HONEST), (HONEST, VICTIM)] {
            for (answer, length) in [(500, 500), (200_000, 500), (500, 200_000)] {
                self.application.outcomes.clear();
                let id = self.ask(from, to, question(answer, length));
                let took = self.until("called", |arena| arena.outcome(id).is_some());
                let result = self.outcome(id).expect("called").as_ref();
                assert_eq!(result.map(Bytes::len), Ok(answer));
                assert!(took < ms(200), "{took:?}");
            }
        }
        self.victim().assert_calls_sound();
    }
}
