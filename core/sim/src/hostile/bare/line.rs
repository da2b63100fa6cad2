//! One connection of a bare participant, and its streams.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{Dir, ReadError, StreamId, VarInt, WriteError};

use crate::Crypto;
use crate::null::Forger;
use slotcast::id::NodeId;
use slotcast::time::Time;

/// Bytes that wait for the peer's credit; a write beyond is not taken.
const UNWRITTEN_MAX: usize = 1 << 20;

/// Error code of streams that are given up.
const GIVEN_UP: VarInt = VarInt::from_u32(9);

/// Bytes of a stream that QUIC has not taken yet.
#[derive(Debug, Default)]
struct Unwritten {
    pieces: VecDeque<Bytes>,
    finish: bool,
}

impl Unwritten {
    fn bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Whatever its driver wants.
    Talk,
    /// Left alone in the middle of the handshake, so that the member waits.
    Hollow,
    /// Closed and forgotten once its first datagram is out.
    Ring,
}

pub(super) struct Line {
    pub(super) quic: quinn_proto::Connection,
    pub(super) generation: u64,
    /// Who was dialled.
    pub(super) dialled: Option<NodeId>,
    /// Who it is, once the handshake is over.
    pub(super) node: Option<NodeId>,
    pub(super) begun: Time,
    pub(super) purpose: Purpose,
    pub(super) is_over: bool,
    /// Something has happened: events or datagrams may be waiting.
    pub(super) touched: bool,
    pub(super) timeout: Option<Instant>,
    /// Streams of the peer in which something has happened since they were read.
    readable: BTreeSet<StreamId>,
    /// Streams that were read, and of which something was left.
    left: BTreeSet<StreamId>,
    unwritten: BTreeMap<StreamId, Unwritten>,
    unwritten_bytes: usize,
    /// Once the handshake is over, if nothing is protected.
    forger: Option<Forger>,
    /// What each packet begins with.
    frames: Bytes,
}

impl Line {
    pub(super) fn new(
        quic: quinn_proto::Connection,
        generation: u64,
        dialled: Option<NodeId>,
        purpose: Purpose,
        begun: Time,
    ) -> Self {
        Self {
            quic,
            generation,
            dialled,
            node: None,
            begun,
            purpose,
            is_over: false,
            touched: true,
            timeout: None,
            readable: BTreeSet::new(),
            left: BTreeSet::new(),
            unwritten: BTreeMap::new(),
            unwritten_bytes: 0,
            forger: None,
            frames: Bytes::new(),
        }
    }

    /// The handshake is over, with this node.
    pub(super) fn meet(&mut self, node: Option<NodeId>, crypto: Crypto) {
        self.node = node;
        self.forger = (crypto == Crypto::Null).then(|| Forger::new(&self.quic)).flatten();
    }

    pub(super) fn insert_frames(&mut self, frames: Bytes) {
        assert!(self.forger.is_some(), "after the handshake, and with `Crypto::Null`");
        self.frames = frames;
    }

    pub(super) fn note_readable(&mut self, stream: StreamId) {
        self.readable.insert(stream);
    }

    /// Takes note of the peer's new streams.
    pub(super) fn accept(&mut self, dir: Dir) {
        while let Some(stream) = self.quic.streams().accept(dir) {
            self.readable.insert(stream);
        }
    }

    pub(super) fn forget_streams(&mut self) {
        self.readable.clear();
        self.left.clear();
        self.unwritten.clear();
        self.unwritten_bytes = 0;
    }

    /// Hands out what there is to be sent.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        buffer: &mut Vec<u8>,
        send: &mut dyn FnMut(SocketAddr, &[u8]),
    ) {
        buffer.clear();
        while let Some(transmit) = self.quic.poll_transmit(now, 1, buffer) {
            let datagram = &buffer[..transmit.size];
            let forger = self.forger.as_mut();
            let forged = forger.and_then(|forger| forger.insert(datagram, &self.frames));
            send(transmit.destination, forged.as_deref().unwrap_or(datagram));
            buffer.clear();
        }
    }

    pub(super) fn open(&mut self, dir: Dir) -> Option<StreamId> {
        self.quic.streams().open(dir)
    }

    pub(super) fn write(&mut self, stream: StreamId, bytes: Bytes, finish: bool) -> bool {
        if self.unwritten_bytes > 0 && self.unwritten_bytes + bytes.len() > UNWRITTEN_MAX {
            return false;
        }
        self.unwritten_bytes += bytes.len();
        let unwritten = self.unwritten.entry(stream).or_default();
        if !bytes.is_empty() {
            unwritten.pieces.push_back(bytes);
        }
        unwritten.finish |= finish;
        self.flush();
        self.touched = true;
        true
    }

    /// Hands QUIC as much as the peer's credit allows.
    pub(super) fn flush(&mut self) {
        let (quic, waiting) = (&mut self.quic, &mut self.unwritten_bytes);
        self.unwritten.retain(|stream, unwritten| {
            let mut send = quic.send_stream(*stream);
            while let Some(piece) = unwritten.pieces.front_mut() {
                match send.write(piece) {
                    Ok(written) => {
                        *waiting -= written;
                        drop(piece.split_to(written));
                        if piece.is_empty() {
                            unwritten.pieces.pop_front();
                        }
                    }
                    Err(WriteError::Blocked) => return true,
                    // Stopped by the peer, or reset.
                    Err(_) => {
                        *waiting -= unwritten.bytes();
                        return false;
                    }
                }
            }
            if unwritten.finish {
                let _ = send.finish();
            }
            false
        });
    }

    pub(super) fn reset(&mut self, stream: StreamId) {
        if let Some(unwritten) = self.unwritten.remove(&stream) {
            self.unwritten_bytes -= unwritten.bytes();
        }
        let _ = self.quic.send_stream(stream).reset(GIVEN_UP);
        self.touched = true;
    }

    pub(super) fn ping(&mut self) {
        self.quic.ping();
        self.touched = true;
    }

    pub(super) fn stop(&mut self, stream: StreamId) {
        self.left.remove(&stream);
        let _ = self.quic.recv_stream(stream).stop(GIVEN_UP);
        self.touched = true;
    }

    pub(super) fn read(
        &mut self,
        limit: Option<usize>,
        mut take: impl FnMut(StreamId, Option<&[u8]>),
    ) {
        self.accept(Dir::Uni);
        let mut streams = std::mem::take(&mut self.readable);
        if limit.is_none() {
            streams.append(&mut self.left);
        }
        // Credit may be due, which is seen at the next transmit.
        self.touched |= !streams.is_empty();
        for stream in streams {
            if !self.read_stream(stream, limit.unwrap_or(usize::MAX), &mut take) {
                self.left.insert(stream);
            }
        }
    }

    /// False if something may be left.
    fn read_stream(
        &mut self,
        stream: StreamId,
        limit: usize,
        take: &mut impl FnMut(StreamId, Option<&[u8]>),
    ) -> bool {
        let mut recv = self.quic.recv_stream(stream);
        let Ok(mut chunks) = recv.read(true) else {
            take(stream, None);
            return true;
        };
        let mut rest = limit;
        let is_read = loop {
            if rest == 0 {
                break false;
            }
            match chunks.next(rest) {
                Ok(Some(chunk)) => {
                    rest -= chunk.bytes.len();
                    take(stream, Some(&chunk.bytes));
                }
                Ok(None) | Err(ReadError::Reset(_)) => {
                    take(stream, None);
                    break true;
                }
                Err(ReadError::Blocked) => break true,
            }
        };
        let _ = chunks.finalize();
        is_read
    }
}
