//! The bound of what QUIC can do here: plain `quinn`, one long stream to each peer, and everything that waits for a
//! peer written into it at once. No slots, no aborts, no hashes: what is written arrives. Beside it the same with a
//! stream for each such batch, as slotcast has it, so that neither a loss nor an abort holds up another batch: the
//! difference is what streams cost.
//!
//! A frame is the length of an artifact (4 bytes) and its bytes. An artifact is named by its first 8 bytes, in which
//! those of [`InFlight`](crate::in_flight::InFlight) differ. Short ones are copied into one buffer per peer, long ones
//! are written without a copy.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{Connection, RecvStream};
use tokio::sync::Notify;

use crate::mesh::{DeliveryLog, Mesh};
use crate::runtime::Runtime;
use crate::system::{Delivery, Id, Shape, System};

/// Up to so many bytes, copying is cheaper than passing a reference through all layers.
const COPIED_BYTES_MAX: usize = 1024;

const LENGTH_BYTES: usize = 4;
const NAME_BYTES: usize = 8;

/// Nodes with one stream to each peer.
pub type OneStream<R> = Subnet<R, false>;

/// Nodes with a stream to each peer for each batch.
pub type StreamPerBatch<R> = Subnet<R, true>;

/// `n` nodes in this process, a connection between any two of them, over 127.0.0.1.
#[derive(Debug)]
pub struct Subnet<R, const PER_BATCH: bool> {
    mesh: Mesh,
    /// By node, then by peer.
    queues: Vec<Vec<Arc<Queue>>>,
    runtime: PhantomData<R>,
}

impl<R: Runtime, const PER_BATCH: bool> System for Subnet<R, PER_BATCH> {
    const NAME: &str = if PER_BATCH { "stream per batch" } else { "one stream" };

    async fn start(shape: Shape) -> Self {
        let mesh = Mesh::connect::<R>(shape).await;
        let mut queues = Vec::new();
        for (node, peers) in mesh.peers.iter().enumerate() {
            let mut of_node = Vec::new();
            for (peer, connection) in peers.iter().enumerate() {
                let queue = Arc::new(Queue::default());
                of_node.push(queue.clone());
                let end = End { node: node as u16, peer, log: mesh.log.clone() };
                drop(R::spawn(write(connection.clone(), queue, PER_BATCH, end.clone())));
                drop(R::spawn(read(connection.clone(), PER_BATCH, end)));
            }
            queues.push(of_node);
        }
        Self { mesh, queues, runtime: PhantomData }
    }

    fn publish(&self, node: usize, _: u16, bytes: Bytes) -> Id {
        self.queues[node].iter().for_each(|queue| queue.push(&bytes));
        id(bytes.first_chunk().expect("a name"))
    }

    /// Nothing is aborted.
    fn abort(&self, _: usize, _: u16, _: &Id) {}

    async fn deliveries(&self, into: &mut Vec<Delivery>) {
        self.mesh.log.drain(into).await;
    }

    fn udp_bytes(&self) -> u64 {
        self.mesh.udp_bytes()
    }

    async fn shutdown(self) {
        self.mesh.shutdown::<R>().await;
    }
}

fn id(name: &[u8; NAME_BYTES]) -> Id {
    let mut id = Id::default();
    id[..NAME_BYTES].copy_from_slice(name);
    id
}

/// What waits for a peer.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: Vec<Bytes>,
    /// What comes behind them.
    copied: BytesMut,
}

impl Waiting {
    fn cut(&mut self) {
        if !self.copied.is_empty() {
            self.pieces.push(self.copied.split().freeze());
        }
    }
}

impl Queue {
    fn push(&self, bytes: &Bytes) {
        {
            let mut waiting = self.waiting.lock().expect("no holder panics");
            waiting.copied.put_u32(bytes.len() as u32);
            if bytes.len() <= COPIED_BYTES_MAX {
                waiting.copied.put_slice(bytes);
            } else {
                waiting.cut();
                waiting.pieces.push(bytes.clone());
            }
        }
        self.more.notify_one();
    }

    /// Waits until something waits, and takes all of it.
    async fn take(&self, pieces: &mut Vec<Bytes>) {
        loop {
            {
                let mut waiting = self.waiting.lock().expect("no holder panics");
                waiting.cut();
                if !waiting.pieces.is_empty() {
                    std::mem::swap(pieces, &mut waiting.pieces);
                    return;
                }
            }
            self.more.notified().await;
        }
    }
}

/// A node's end of a connection.
#[derive(Clone, Debug)]
struct End {
    node: u16,
    peer: usize,
    log: Arc<DeliveryLog>,
}

impl End {
    fn fail(&self, why: impl ToString) {
        self.log.fail(self.node, self.peer, &why.to_string());
    }
}

async fn write(connection: Connection, queue: Arc<Queue>, per_batch: bool, end: End) {
    let mut pieces = Vec::new();
    let mut open = None;
    loop {
        queue.take(&mut pieces).await;
        let mut stream = match open.take() {
            Some(stream) => stream,
            None => match connection.open_uni().await {
                Ok(stream) => stream,
                Err(lost) => return end.fail(lost),
            },
        };
        if let Err(error) = stream.write_all_chunks(&mut pieces).await {
            return end.fail(error);
        }
        pieces.clear();
        if per_batch {
            stream.finish().expect("it is open");
        } else {
            open = Some(stream);
        }
    }
}

/// Streams are read one after the other.
async fn read(connection: Connection, per_batch: bool, end: End) {
    loop {
        match connection.accept_uni().await {
            Ok(stream) => read_frames(stream, per_batch, &end).await,
            Err(lost) => return end.fail(lost),
        }
    }
}

async fn read_frames(mut stream: RecvStream, per_batch: bool, end: &End) {
    let (mut frame, mut arrived) = (Frame::default(), Vec::new());
    loop {
        match stream.read_chunk(usize::MAX, true).await {
            Ok(Some(chunk)) => frame.take(&chunk.bytes, &mut arrived),
            Ok(None) if per_batch => return,
            Ok(None) => return end.fail("the stream has ended"),
            Err(error) => return end.fail(error),
        }
        end.log.push(end.node, arrived.drain(..));
    }
}

/// How much of a frame has come.
#[derive(Default)]
struct Frame {
    /// Its length and name.
    head: [u8; LENGTH_BYTES + NAME_BYTES],
    came: usize,
}

impl Frame {
    /// Takes what comes next, and names the artifacts that are complete by it.
    fn take(&mut self, mut bytes: &[u8], arrived: &mut Vec<Id>) {
        while !bytes.is_empty() {
            if self.came < self.head.len() {
                let count = bytes.len().min(self.head.len() - self.came);
                self.head[self.came..][..count].copy_from_slice(&bytes[..count]);
                (self.came, bytes) = (self.came + count, &bytes[count..]);
            }
            if self.came >= self.head.len() {
                let (length, name) = self.head.split_first_chunk().expect("a length");
                let end = LENGTH_BYTES + u32::from_be_bytes(*length) as usize;
                let count = bytes.len().min(end - self.came);
                (self.came, bytes) = (self.came + count, &bytes[count..]);
                if self.came == end {
                    arrived.push(id(name.first_chunk().expect("a name")));
                    self.came = 0;
                }
            }
        }
    }
}
