//! What a node in a simulated network has in place of the system's random numbers and clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use quinn_proto::{
    ClientConfig, ConnectionId, ConnectionIdGenerator, InvalidCid, ServerConfig, TimeSource,
};

use super::protection::{ROOT, Secret};
use slotcast::id::NodeId;

/// Length of the connection ids to which a client sends its first packets; quinn-proto's own are as
/// long.
const INITIAL_CID_BYTES: usize = 20;

/// A sequence of numbers, which a node and its seed decide. Equal draws in equal order are equal.
/// (The atomic is for configurations that are `Sync`; one thread at a time uses it.)
#[derive(Debug)]
pub(super) struct Source {
    secret: Secret,
    drawn: AtomicU64,
}

impl Source {
    pub(super) fn new(id: NodeId, seed: &[u8; 32]) -> Self {
        Self { secret: ROOT.derive("source", &[&id.0, seed]), drawn: AtomicU64::new(0) }
    }

    pub(super) fn draw<const N: usize>(&self) -> [u8; N] {
        let number = self.drawn.fetch_add(1, Relaxed);
        let mut drawn = [0; N];
        self.secret.derive("drawn", &[&number.to_le_bytes()]).expand(&mut drawn);
        drawn
    }

    /// A client draws the connection ids of its first packets from here.
    pub(super) fn give_cids(self: Arc<Self>, client: &mut ClientConfig) {
        let cid = move || ConnectionId::new(&self.draw::<INITIAL_CID_BYTES>());
        client.initial_dst_cid_provider(Arc::new(cid));
    }
}

/// Makes connection ids that can be recognised, in the manner of
/// [`HashedConnectionIdGenerator`](quinn_proto::HashedConnectionIdGenerator), which draws from the
/// system.
pub(super) struct Cids {
    secret: Secret,
    source: Arc<Source>,
}

impl Cids {
    const NONCE_BYTES: usize = 3;
    pub(super) const BYTES: usize = 8;

    /// Of these, each recognises the ids of all others that were given the same key.
    pub(super) fn new(key: u64, source: Arc<Source>) -> Self {
        Self { secret: ROOT.derive("cids", &[&key.to_le_bytes()]), source }
    }

    fn sign(&self, cid: &mut [u8; Self::BYTES]) {
        let (nonce, signature) = cid.split_at_mut(Self::NONCE_BYTES);
        self.secret.derive("cid", &[nonce]).expand(signature);
    }
}

impl ConnectionIdGenerator for Cids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut cid = self.source.draw();
        self.sign(&mut cid);
        ConnectionId::new(&cid)
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        let mut signed = cid[..].try_into().map_err(|_| InvalidCid)?;
        self.sign(&mut signed);
        if signed == cid[..] { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        Self::BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Address tokens are dated by no clock, and so do not age.
pub(super) fn stop_clock(server: &mut ServerConfig) {
    server.time_source(Arc::new(StoppedClock));
}

struct StoppedClock;

impl TimeSource for StoppedClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}
