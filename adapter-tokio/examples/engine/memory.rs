//! The engine's network in memory: what the same engine does without one.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use slotcast::id::NodeId;

use crate::engine::{Input, Net};

pub(crate) struct Memory {
    own: usize,
    all: Vec<Sender<Bytes>>,
    inbox: Receiver<Bytes>,
}

impl Memory {
    /// So many that are connected.
    pub(crate) fn new(count: usize) -> Vec<Self> {
        let (all, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| channel()).unzip();
        let memory = |(own, inbox)| Self { own, all: all.clone(), inbox };
        inboxes.into_iter().enumerate().map(memory).collect()
    }
}

impl Net for Memory {
    fn next(&mut self, timeout: Duration) -> Result<Input, RecvTimeoutError> {
        self.inbox.recv_timeout(timeout).map(Input::Message)
    }

    fn publish(&self, _: u64, _: u32, bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        for (at, other) in self.all.iter().enumerate() {
            if at != self.own {
                // Those that have stopped miss nothing.
                let _ = other.send(bytes.clone());
            }
        }
    }

    fn fetch(&self, _: NodeId, _: u64) -> Option<Vec<u8>> {
        None
    }
}
