//! The comparison: the broadcast rule of the Internet Computer's P2P layer, written over plain `quinn`.
//!
//! - Every update to a peer is one bidirectional stream: the peer reads the message to its end and answers one byte.
//!   One task per update and peer; how many artifacts are open at a time is the publisher's business.
//! - An artifact below `PUSH_BYTES_MAX` travels in the update. From there on the update carries only its id (SHA-256),
//!   and each receiver fetches the bytes from the sender by a bidirectional stream of its own and checks them.
//! - Updates are written into slots. A receiver holds an artifact while the slot that announced it does; deletions are
//!   *not* sent, so it learns of one only when the slot is used again.
//! - Aborting happens at the sender alone: updates still under way are reset, and fetches are answered with nothing.
//!
//! Where the original does more per update, this does not, so that what is measured is the rule: no HTTP framing, no
//! protobuf, no timer per artifact, no event loop between stream and table, no retries (nobody leaves), and payloads
//! are written without a copy.
//!
//! A lost connection or a malformed message ends the run: see [`DeliveryLog::drain`].

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex},
};

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use sha2::{Digest, Sha256};

use crate::mesh::{DeliveryLog, Mesh};
use crate::runtime::{Runtime, Task};
use crate::system::{Delivery, Id, Shape, System};

/// An artifact of this many bytes or more is announced, a smaller one pushed.
const PUSH_BYTES_MAX: usize = 1024;
/// The longest response a fetch accepts.
const ARTIFACT_BYTES_MAX: usize = 64 << 20;

/// Error code of a stream that the sender gave up.
const CANCELLED: VarInt = VarInt::from_u32(6);

const TAG_PUSH: u8 = 0;
const TAG_ADVERT: u8 = 1;
const TAG_FETCH: u8 = 2;
/// Tag, slot, version.
const UPDATE_HEAD_BYTES: usize = 1 + 8 + 8;
const REQUEST_BYTES_MAX: usize = UPDATE_HEAD_BYTES + PUSH_BYTES_MAX;

const ANSWER: Bytes = Bytes::from_static(&[1]);

/// `n` nodes in this process, a connection between any two of them, over 127.0.0.1.
#[allow(missing_debug_implementations, reason = "nobody prints it")]
pub struct Subnet<R: Runtime> {
    nodes: Vec<Arc<Node<R>>>,
    mesh: Mesh,
}

impl<R: Runtime> System for Subnet<R> {
    const NAME: &str = "stream per update";

    /// All artifacts share the slots, whatever their channel.
    async fn start(shape: Shape) -> Self {
        let mesh = Mesh::connect::<R>(shape).await;
        let node = |(index, peers): (usize, &Vec<Connection>)| {
            Arc::new(Node::new(index as u16, peers.clone(), mesh.log.clone()))
        };
        let nodes: Vec<Arc<Node<R>>> = mesh.peers.iter().enumerate().map(node).collect();
        for node in &nodes {
            for (peer, connection) in node.peers.iter().enumerate() {
                drop(R::spawn(serve_peer(node.clone(), peer, connection.clone())));
            }
        }
        Self { nodes, mesh }
    }

    /// Publishing again what is published does nothing.
    fn publish(&self, node: usize, _: u16, bytes: Bytes) -> Id {
        self.nodes[node].publish(bytes)
    }

    fn abort(&self, node: usize, _: u16, id: &Id) {
        self.nodes[node].abort(id);
    }

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

struct Node<R: Runtime> {
    index: u16,
    /// The connections to all other nodes; a peer is an index into this.
    peers: Vec<Connection>,
    outbox: Mutex<Outbox<R>>,
    inbox: Mutex<Inbox>,
    log: Arc<DeliveryLog>,
}

/// What this node publishes.
struct Outbox<R: Runtime> {
    published: HashMap<Id, Published<R>>,
    slots_free: Vec<u64>,
    slots: u64,
    version: u64,
}

struct Published<R: Runtime> {
    slot: u64,
    version: u64,
    bytes: Bytes,
    updates: Vec<R::Task<Result<(), Lost>>>,
}

impl<R: Runtime> Default for Outbox<R> {
    fn default() -> Self {
        Self { published: HashMap::new(), slots_free: Vec::new(), slots: 0, version: 0 }
    }
}

impl<R: Runtime> Node<R> {
    fn new(index: u16, peers: Vec<Connection>, log: Arc<DeliveryLog>) -> Self {
        Self { index, peers, outbox: Mutex::default(), inbox: Mutex::default(), log }
    }

    fn publish(self: &Arc<Self>, bytes: Bytes) -> Id {
        let id: Id = Sha256::digest(&bytes).into();
        let inserted = self.outbox.lock().expect("no holder panics").insert(id, bytes.clone());
        if let Some((slot, version)) = inserted {
            let message = encode_update(slot, version, &id, &bytes);
            drop(R::spawn(self.clone().spawn_updates(id, version, message)));
        }
        id
    }

    /// A task of its own, since spawning from a worker is much cheaper than from outside the runtime.
    async fn spawn_updates(self: Arc<Self>, id: Id, version: u64, message: Bytes) {
        let mut outbox = self.outbox.lock().expect("no holder panics");
        let published =
            outbox.published.get_mut(&id).filter(|published| published.version == version);
        // Otherwise it was aborted before this ran.
        if let Some(published) = published {
            let spawn = |peer: &Connection| R::spawn(send_update(peer.clone(), message.clone()));
            published.updates = self.peers.iter().map(spawn).collect();
        }
    }

    fn abort(&self, id: &Id) {
        let removed = self.outbox.lock().expect("no holder panics").remove(id);
        for update in removed.into_iter().flat_map(|published| published.updates) {
            update.abort();
        }
    }

    fn bytes_of(&self, id: &Id) -> Bytes {
        let outbox = self.outbox.lock().expect("no holder panics");
        outbox.published.get(id).map_or_else(Bytes::new, |published| published.bytes.clone())
    }

    fn deliver(&self, id: &Id) {
        if self.inbox.lock().expect("no holder panics").complete(id) {
            self.log.push(self.index, [*id]);
        }
    }
}

impl<R: Runtime> Outbox<R> {
    /// The slot and version for a new artifact; `None` when it is published already.
    fn insert(&mut self, id: Id, bytes: Bytes) -> Option<(u64, u64)> {
        let Entry::Vacant(entry) = self.published.entry(id) else {
            return None;
        };
        let slot = self.slots_free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        self.version += 1;
        let version = self.version;
        entry.insert(Published { slot, version, bytes, updates: Vec::new() });
        Some((slot, version))
    }

    fn remove(&mut self, id: &Id) -> Option<Published<R>> {
        let published = self.published.remove(id)?;
        self.slots_free.push(published.slot);
        Some(published)
    }
}

/// What the peers' slots say, and which artifacts therefore matter.
#[derive(Default)]
struct Inbox {
    slots: HashMap<(usize, u64), SlotContent>,
    artifacts: HashMap<Id, Wanted>,
}

struct SlotContent {
    version: u64,
    id: Id,
}

#[derive(Default)]
struct Wanted {
    /// Slots that hold it; never 0.
    holders: u32,
    delivered: bool,
}

impl Inbox {
    /// Takes the newer content of a slot. True if this is the first that is heard of the artifact.
    fn handle_update(&mut self, peer: usize, slot: u64, version: u64, id: Id) -> bool {
        let replaced = match self.slots.entry((peer, slot)) {
            Entry::Occupied(entry) if entry.get().version >= version => return false,
            Entry::Occupied(mut entry) => Some(entry.insert(SlotContent { version, id })),
            Entry::Vacant(entry) => {
                entry.insert(SlotContent { version, id });
                None
            }
        };
        let wanted = self.artifacts.entry(id).or_default();
        wanted.holders += 1;
        let first = wanted.holders == 1;
        if let Some(replaced) = replaced {
            self.release(replaced.id);
        }
        first
    }

    fn release(&mut self, id: Id) {
        if let Entry::Occupied(mut entry) = self.artifacts.entry(id) {
            entry.get_mut().holders -= 1;
            if entry.get().holders == 0 {
                entry.remove();
            }
        }
    }

    /// The bytes are here. True if they are to be delivered: still held by someone, and for the first time.
    fn complete(&mut self, id: &Id) -> bool {
        self.artifacts
            .get_mut(id)
            .is_some_and(|wanted| !std::mem::replace(&mut wanted.delivered, true))
    }
}

/// What a peer asks for by opening a stream.
enum Request {
    Push { slot: u64, version: u64, bytes: Bytes },
    Advert { slot: u64, version: u64, id: Id },
    Fetch { id: Id },
}

fn encode_update(slot: u64, version: u64, id: &Id, bytes: &Bytes) -> Bytes {
    let (tag, payload): (u8, &[u8]) =
        if bytes.len() < PUSH_BYTES_MAX { (TAG_PUSH, bytes) } else { (TAG_ADVERT, id) };
    let mut message = BytesMut::with_capacity(UPDATE_HEAD_BYTES + payload.len());
    message.put_u8(tag);
    message.put_u64(slot);
    message.put_u64(version);
    message.put_slice(payload);
    message.freeze()
}

fn encode_fetch(id: &Id) -> Bytes {
    let mut message = BytesMut::with_capacity(1 + id.len());
    message.put_u8(TAG_FETCH);
    message.put_slice(id);
    message.freeze()
}

fn decode_request(message: &Bytes) -> Option<Request> {
    let (&tag, body) = message.split_first()?;
    if tag == TAG_FETCH {
        return Some(Request::Fetch { id: body.try_into().ok()? });
    }
    let (slot, rest) = body.split_first_chunk()?;
    let (version, payload) = rest.split_first_chunk()?;
    let (slot, version) = (u64::from_be_bytes(*slot), u64::from_be_bytes(*version));
    match tag {
        TAG_PUSH => Some(Request::Push { slot, version, bytes: message.slice_ref(payload) }),
        TAG_ADVERT => Some(Request::Advert { slot, version, id: payload.try_into().ok()? }),
        _ => None,
    }
}

/// A stream was reset, or its connection is gone. The first is an abort, the second is noticed by [`serve_peer`].
struct Lost;

impl<E: std::error::Error> From<E> for Lost {
    fn from(_: E) -> Self {
        Self
    }
}

/// Resets the stream unless told that it served its purpose; quinn alone would end it as if the message were complete.
struct ResetOnDrop {
    stream: SendStream,
    done: bool,
}

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.stream.reset(CANCELLED);
        }
    }
}

/// One update to one peer, until it is answered.
async fn send_update(peer: Connection, message: Bytes) -> Result<(), Lost> {
    let (stream, mut answer) = peer.open_bi().await?;
    let mut guard = ResetOnDrop { stream, done: false };
    guard.stream.write_chunk(message).await?;
    guard.stream.finish()?;
    // A byte more than expected, so that the first read can see it; the last one sees the end, which frees the stream.
    let mut byte = [0; 2];
    while answer.read(&mut byte).await?.is_some() {}
    guard.done = true;
    Ok(())
}

/// Asks `peer` for an artifact. Empty if the peer does not have it.
async fn fetch(peer: &Connection, id: &Id) -> Result<Vec<u8>, Lost> {
    let (mut request, mut response) = peer.open_bi().await?;
    request.write_chunk(encode_fetch(id)).await?;
    request.finish()?;
    Ok(response.read_to_end(ARTIFACT_BYTES_MAX).await?)
}

/// Reads a short message to its end; without a copy when it arrived in one piece, as nearly all do.
async fn read_request(stream: &mut RecvStream) -> Result<Option<Bytes>, Lost> {
    let mut message = Bytes::new();
    while let Some(chunk) = stream.read_chunk(REQUEST_BYTES_MAX, true).await? {
        if message.is_empty() {
            message = chunk.bytes;
            continue;
        }
        if message.len() + chunk.bytes.len() > REQUEST_BYTES_MAX {
            return Ok(None);
        }
        message = [message, chunk.bytes].concat().into();
    }
    Ok(Some(message))
}

/// Takes all streams that a peer opens; a task each.
async fn serve_peer<R: Runtime>(node: Arc<Node<R>>, peer: usize, connection: Connection) {
    loop {
        match connection.accept_bi().await {
            Ok((answer, request)) => {
                drop(R::spawn(serve_stream(node.clone(), peer, answer, request)));
            }
            Err(lost) => return node.log.fail(node.index, peer, &lost.to_string()),
        }
    }
}

async fn serve_stream<R: Runtime>(
    node: Arc<Node<R>>,
    peer: usize,
    mut answer: SendStream,
    mut stream: RecvStream,
) -> Result<(), Lost> {
    let request = read_request(&mut stream).await?.as_ref().and_then(decode_request);
    match request {
        Some(Request::Push { slot, version, bytes }) => {
            let id: Id = Sha256::digest(&bytes).into();
            if node.inbox.lock().expect("no holder panics").handle_update(peer, slot, version, id) {
                node.deliver(&id);
            }
            answer.write_chunk(ANSWER).await?;
            answer.finish()?;
        }
        Some(Request::Advert { slot, version, id }) => {
            let new =
                node.inbox.lock().expect("no holder panics").handle_update(peer, slot, version, id);
            answer.write_chunk(ANSWER).await?;
            answer.finish()?;
            if new {
                // The fetch can take long: the update is over.
                drop((answer, stream));
                // Boxed: a task that serves a push shall not be as large as one that fetches.
                Box::pin(fetch_and_deliver(&node, peer, &id)).await?;
            }
        }
        Some(Request::Fetch { id }) => {
            answer.write_chunk(node.bytes_of(&id)).await?;
            answer.finish()?;
        }
        None => node.log.fail(node.index, peer, "malformed request"),
    }
    Ok(())
}

async fn fetch_and_deliver<R: Runtime>(node: &Node<R>, peer: usize, id: &Id) -> Result<(), Lost> {
    let bytes = fetch(&node.peers[peer], id).await?;
    if bytes.is_empty() {
        // Aborted meanwhile. Asking again until the slot is used again, as the original does, would change nothing.
        return Ok(());
    }
    if Id::from(Sha256::digest(&bytes)) == *id {
        node.deliver(id);
    } else {
        node.log.fail(node.index, peer, "bytes that do not match their id");
    }
    Ok(())
}
