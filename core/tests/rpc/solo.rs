//! One machine whose peers are played by the test, byte by byte.

use std::time::Duration;

use slotcast::broadcast::SendBuffer;
use slotcast::config::Config;
use slotcast::error::Fault;
use slotcast::id::RouteId;
use slotcast::rpc::{CallId, CallStream, Output, Request, RequestId, Rpc};
use slotcast::time::Time;
use slotcast::wire::{CallHead, CallReset, Reply};

use crate::web::{ROUTE, body, hello, peer};

/// A piece that the machine has sent: to whom, in which stream, what, and whether it ends there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sent {
    pub(crate) to: usize,
    pub(crate) stream: CallStream,
    pub(crate) bytes: Vec<u8>,
    pub(crate) finish: bool,
}

pub(crate) struct Solo {
    pub(crate) machine: Rpc,
    pub(crate) now: Time,
    pub(crate) wake_at: Time,
    /// What was wanted besides waiting, until the test takes it.
    pub(crate) outputs: Vec<Output>,
    /// Nothing that is sent is acknowledged.
    pub(crate) holds_acks: bool,
    config: Config,
    peers: usize,
    streams: u64,
}

impl Solo {
    /// A machine that serves [`ROUTE`], with `peers` connected members of the same configuration.
    pub(crate) fn new(config: &Config, peers: usize) -> Self {
        let mut machine = Rpc::new(config).expect("it holds together");
        assert!(machine.serve(Time(1), ROUTE, true));
        for at in 0..peers {
            machine.add_peer(peer(at));
            machine.peer_up(peer(at), &hello(config));
        }
        Self { peers, ..Self::of(machine, config) }
    }

    /// A machine that has a connected member already.
    pub(crate) fn of(machine: Rpc, config: &Config) -> Self {
        let mut solo = Self {
            machine,
            now: Time(1),
            wake_at: Time::NEVER,
            outputs: Vec::new(),
            holds_acks: false,
            config: config.clone(),
            peers: 1,
            streams: 0,
        };
        solo.settle();
        solo
    }

    pub(crate) fn up(&mut self, at: usize) {
        self.machine.peer_up(peer(at), &hello(&self.config));
        self.settle();
    }

    pub(crate) fn down(&mut self, at: usize) {
        self.machine.peer_down(peer(at));
        self.settle();
    }

    pub(crate) fn elapse(&mut self, span: Duration) {
        let end = self.now + span;
        while self.wake_at <= end {
            self.now = self.wake_at;
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    pub(crate) fn settle(&mut self) {
        loop {
            match self.machine.poll(self.now) {
                Output::Idle { wake_at } => {
                    assert!(wake_at > self.now, "what is due is done");
                    self.wake_at = wake_at;
                    break;
                }
                output => self.outputs.push(output),
            }
        }
        self.machine.assert_invariants();
    }

    /// The request that the application is told to end, if there is one.
    pub(crate) fn cancelled(&mut self) -> Option<RequestId> {
        self.machine.poll_cancelled().map(|cancelled| cancelled.request)
    }

    pub(crate) fn outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    // What peers say.

    pub(crate) fn open(&mut self, at: usize) -> CallStream {
        self.streams += 1;
        let stream = CallStream(1000 + self.streams);
        self.machine.handle_opened(self.now, peer(at), stream);
        self.settle();
        stream
    }

    pub(crate) fn wants(&self, at: usize, stream: CallStream) -> usize {
        self.machine.wants(peer(at), stream)
    }

    /// Hands in bytes as long as they are wanted: how many were.
    pub(crate) fn data(
        &mut self,
        at: usize,
        stream: CallStream,
        bytes: &[u8],
    ) -> Result<usize, Fault> {
        let mut taken = 0;
        while taken < bytes.len() {
            let wants = self.wants(at, stream).min(bytes.len() - taken);
            if wants == 0 {
                break;
            }
            let piece = &bytes[taken..taken + wants];
            let result = self.machine.handle_data(self.now, peer(at), stream, piece);
            self.settle();
            result?;
            taken += wants;
        }
        Ok(taken)
    }

    pub(crate) fn end(&mut self, at: usize, stream: CallStream) -> Result<(), Fault> {
        assert!(self.wants(at, stream) > 0, "an end is seen where something is wanted");
        let result = self.machine.handle_end(peer(at), stream);
        self.settle();
        result
    }

    pub(crate) fn reset(&mut self, at: usize, stream: CallStream) {
        self.reset_for(at, stream, CallReset::Unneeded);
    }

    pub(crate) fn reset_for(&mut self, at: usize, stream: CallStream, why: CallReset) {
        self.machine.handle_reset(self.now, peer(at), stream, why);
        self.settle();
    }

    pub(crate) fn stopped(&mut self, at: usize, stream: CallStream) {
        self.machine.handle_stopped(peer(at), stream);
        self.settle();
    }

    pub(crate) fn writable(&mut self, at: usize, stream: CallStream) {
        self.machine.handle_writable(peer(at), stream);
        self.settle();
    }

    /// A request of `length` bytes, of which as many are handed in as are wanted.
    pub(crate) fn ask(&mut self, at: usize, length: usize) -> CallStream {
        let stream = self.open(at);
        let bytes = [head(length), body(length).to_vec()].concat();
        self.data(at, stream, &bytes).expect("no fault");
        stream
    }

    /// A request of `length` bytes that the application has.
    pub(crate) fn asked(&mut self, at: usize, length: usize) -> (CallStream, Request) {
        let stream = self.ask(at, length);
        (stream, self.request())
    }

    /// The next request, whose room is given back at once.
    #[track_caller]
    pub(crate) fn request(&mut self) -> Request {
        let (request, permit) = self.machine.poll_request(ROUTE, |_| true).expect("a request");
        self.machine.release(permit);
        self.settle();
        request
    }

    // What the machine says.

    /// The next piece for a peer, of which the transport takes up to `limit` bytes.
    pub(crate) fn send(&mut self, at: usize, room: usize, limit: usize) -> Option<Sent> {
        let mut out = SendBuffer::new();
        let piece = self.machine.poll_flow(self.now, peer(at), 0, room, true, &mut out)?;
        let stream = piece.stream.unwrap_or_else(|| {
            self.streams += 1;
            CallStream(self.streams)
        });
        let mut bytes = Vec::new();
        out.for_each_piece(|piece| bytes.extend_from_slice(piece));
        let finish = piece.finish && bytes.len() <= limit;
        bytes.truncate(limit);
        self.machine.handle_written(stream, bytes.len());
        if finish && !self.holds_acks {
            self.machine.handle_acked(peer(at), stream);
        }
        self.settle();
        Some(Sent { to: at, stream, bytes, finish })
    }

    /// All that there is, pieces of a stream put together.
    pub(crate) fn sent(&mut self) -> Vec<Sent> {
        let mut all: Vec<Sent> = Vec::new();
        for at in 0..self.peers {
            while let Some(piece) = self.send(at, usize::MAX, usize::MAX) {
                let known = all.iter_mut().find(|s| (s.to, s.stream) == (at, piece.stream));
                match known {
                    Some(sent) => {
                        assert!(!sent.finish, "nothing behind the end");
                        sent.bytes.extend(piece.bytes);
                        sent.finish = piece.finish;
                    }
                    None => all.push(piece),
                }
            }
        }
        all
    }

    /// A call with a request of `length` bytes, all of which that can be is sent.
    pub(crate) fn call(&mut self, at: usize, length: usize) -> (CallId, CallStream) {
        let call = self.machine.call(self.now, peer(at), ROUTE, body(length), None, true);
        self.settle();
        let [sent] = &self.sent()[..] else { panic!("one stream") };
        (call.expect("there is credit"), sent.stream)
    }

    /// Nothing is left.
    #[track_caller]
    pub(crate) fn assert_quiet(&self) {
        assert_eq!((self.machine.len(), self.machine.body_bytes()), (0, 0));
        assert_eq!(self.machine.next_deadline(), Time::NEVER);
        assert!((0..self.peers).all(|at| !self.machine.has_backlog(peer(at))));
    }
}

pub(crate) fn frame(encode: impl FnOnce(&mut heapless::Vec<u8, 64>)) -> Vec<u8> {
    let mut bytes = heapless::Vec::new();
    encode(&mut bytes);
    bytes.to_vec()
}

/// What a machine wants done with a stream of which the rest is of no use.
pub(crate) fn close(at: usize, stream: CallStream) -> Output {
    close_for(at, stream, CallReset::Unneeded)
}

/// The same for a reason that the peer is told.
pub(crate) fn close_for(at: usize, stream: CallStream, why: CallReset) -> Output {
    Output::Close { peer: peer(at), stream, why }
}

/// The head of a request for [`ROUTE`] that waits for ten seconds.
pub(crate) fn head(length: usize) -> Vec<u8> {
    head_of(ROUTE, 10_000, length)
}

pub(crate) fn head_of(route: RouteId, timeout_ms: u32, length: usize) -> Vec<u8> {
    let length = length as u32;
    let head = CallHead { route, timeout_ms, prepaid: 16 << 10, length, wants_answer: true };
    frame(|out| head.encode(out))
}

pub(crate) fn reply(reply: Reply) -> Vec<u8> {
    frame(|out| reply.encode(out))
}

/// The head at the start of what was sent, and what follows it.
pub(crate) fn head_in(bytes: &[u8]) -> (CallHead, &[u8]) {
    // Kind and length are of one byte each.
    let (body, rest) = bytes[2..].split_at(bytes[1].into());
    (CallHead::decode(bytes[0].into(), body).expect("a head"), rest)
}
