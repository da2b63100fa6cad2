//! The engine's network in memory: what the same engine does without one.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use bytes::Bytes;

use crate::engine::{Input, Net};

pub(crate) struct Memory {
    own: usize,
    all: Vec<Sender<Input>>,
    inbox: Receiver<Input>,
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
        self.inbox.recv_timeout(timeout)
    }

    fn publish(&self, _: u64, _: u32, bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        for (at, other) in self.all.iter().enumerate() {
            if at != self.own {
                // Those that have stopped miss nothing.
                let _ = other.send(Input::Message(bytes.clone()));
            }
        }
    }

    fn ask(&mut self, whom: usize, height: u64) {
        let own = self.all[self.own].clone();
        let answer = move |blocks: Vec<u8>| {
            let _ = own.send(Input::Answer(Some(blocks.into())));
        };
        let _ = match self.all.get(whom) {
            Some(other) => other.send(Input::Ask(height, Box::new(answer))),
            None => self.all[self.own].send(Input::Answer(None)),
        };
    }
}
