//! Catch-up by calls: what is no longer active is not broadcast, but a node that has lost its state
//! may still need it. Each node keeps the newest that it was delivered; a node that comes back asks
//! another for a list of what has expired of it, and for each artifact in it. What that one had to make
//! room for meanwhile, or is too slow to give, it asks the others for.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use slotcast::artifact::{Artifact, METADATA_BYTES_MAX};
use slotcast::config::{Class, RouteConfig};
use slotcast::error::CallError;
use slotcast::id::{ArtifactId, NodeId, RouteId};
use slotcast_tokio::{NodeHandle, Server};
use tokio::task::JoinHandle;

use crate::Failure;
use crate::load::LANES;

/// Asks for the ids of all finished artifacts: 32 bytes each.
const LIST: RouteId = RouteId(1);
/// Asks for one finished artifact by its id: the length of its metadata in a byte, the metadata, and
/// the bytes.
const PIECE: RouteId = RouteId(2);

/// Bytes of artifacts that a node keeps of each channel, so that long ones do not drive out short ones.
const KEPT_BYTES_MAX: usize = 8 << 20;
/// Ids in a list.
const LISTED_MAX: usize = 32_768;
/// Calls for pieces that are under way at once.
const CALLS_MAX: usize = 16;

/// The routes, for artifacts of up to so many bytes.
pub(crate) fn routes(artifact_bytes_max: usize) -> [RouteConfig; 2] {
    let piece = (1 + METADATA_BYTES_MAX + artifact_bytes_max) as u32;
    [
        RouteConfig::new(LIST, "list").bytes_max(0, 32 * LISTED_MAX as u32),
        RouteConfig::new(PIECE, "piece").class(Class::Bulk).bytes_max(32, piece),
    ]
}

/// The newest that a node was delivered on a channel.
#[derive(Default)]
struct Kept {
    /// The oldest first.
    order: VecDeque<ArtifactId>,
    artifacts: HashMap<ArtifactId, KeptArtifact>,
    bytes: usize,
}

struct KeptArtifact {
    artifact: Artifact,
    /// What is active is broadcast, and needs no calls.
    is_active: bool,
}

impl Kept {
    fn insert(&mut self, artifact: Artifact) {
        let id = artifact.id();
        // It was published again.
        if let Some(kept) = self.artifacts.get_mut(&id) {
            kept.is_active = true;
            return;
        }
        self.bytes += artifact.bytes().len();
        self.order.push_back(id);
        self.artifacts.insert(id, KeptArtifact { artifact, is_active: true });
        while self.bytes > KEPT_BYTES_MAX {
            let oldest = self.order.pop_front().expect("there are bytes of it");
            let oldest = self.artifacts.remove(&oldest).expect("in order");
            self.bytes -= oldest.artifact.bytes().len();
        }
    }

    fn finished(&self) -> impl Iterator<Item = &ArtifactId> {
        self.order.iter().filter(|id| self.artifacts.get(*id).is_some_and(|kept| !kept.is_active))
    }
}

/// What a node was delivered, by channel; shared by those who take its events and its requests.
#[derive(Clone, Default)]
pub(crate) struct Archive(Arc<Mutex<[Kept; LANES.len()]>>);

impl Archive {
    fn kept(&self) -> MutexGuard<'_, [Kept; LANES.len()]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn delivered(&self, lane: usize, artifact: Artifact) {
        self.kept()[lane].insert(artifact);
    }

    pub(crate) fn expired(&self, lane: usize, id: &ArtifactId) {
        if let Some(kept) = self.kept()[lane].artifacts.get_mut(id) {
            kept.is_active = false;
        }
    }

    fn list(&self) -> Vec<u8> {
        let kept = self.kept();
        kept.iter().flat_map(Kept::finished).take(LISTED_MAX).flat_map(|id| id.0).collect()
    }

    fn piece(&self, id: &[u8]) -> Option<Vec<u8>> {
        let id = ArtifactId(id.try_into().ok()?);
        let find = |kept: &Kept| Some(kept.artifacts.get(&id)?.artifact.clone());
        let artifact = self.kept().iter().find_map(find)?;
        let metadata = artifact.metadata();
        Some([&[metadata.len() as u8], metadata, artifact.bytes()].concat())
    }

    fn has(&self, id: &ArtifactId) -> bool {
        self.kept().iter().any(|kept| kept.artifacts.contains_key(id))
    }

    /// Answers other nodes from now on.
    pub(crate) fn serve(&self, handle: &NodeHandle) -> Result<Vec<JoinHandle<()>>, Failure> {
        let lists = self.clone().answer(handle.route(LIST)?.serve()?, |kept, _| Some(kept.list()));
        let pieces = self.clone().answer(handle.route(PIECE)?.serve()?, Self::piece);
        Ok(vec![tokio::spawn(lists), tokio::spawn(pieces)])
    }

    async fn answer(self, server: Server, answer: fn(&Self, &[u8]) -> Option<Vec<u8>>) {
        while let Some(request) = server.next_request().await {
            // Dropped, a request tells its caller that there is no answer.
            if let Some(answer) = answer(&self, request.body()) {
                // Who does not wait any more has got what it needs, or has gone.
                let _ = request.answer(answer);
            }
        }
    }
}

/// What came of catching up.
#[derive(Clone, Debug, Default)]
pub(crate) struct CaughtUp {
    /// Artifacts that were missed, and came.
    pub(crate) artifacts: usize,
    pub(crate) bytes: u64,
    /// Those that came, but not as they were published.
    pub(crate) corrupt: usize,
    /// Those that could not be had.
    pub(crate) missing: usize,
    pub(crate) took: Duration,
}

impl CaughtUp {
    /// Asks one peer what has finished, and all of them in turn for what of it is not in the archive. What a peer has
    /// not, the next one is asked for.
    pub(crate) async fn from_peers(
        handle: &NodeHandle,
        peers: &[NodeId],
        archive: &Archive,
    ) -> Result<Self, Failure> {
        let begun = Instant::now();
        let mut caught_up = Self::default();
        let first = *peers.first().expect("a subnet has two nodes or more");
        let list = handle.route(LIST)?.call(first, "").await?;
        let ids = list.chunks_exact(32).map(|id| ArtifactId(id.try_into().expect("32 bytes")));
        let missed = ids.filter(|id| !archive.has(id)).enumerate();
        let mut wanted: VecDeque<_> =
            missed.map(|(at, id)| Wanted { id, peer: at % peers.len(), tries: 0 }).collect();
        let pieces = handle.route(PIECE)?;
        let mut calls = VecDeque::new();
        loop {
            while calls.len() < CALLS_MAX
                && let Some(piece) = wanted.pop_front()
            {
                let call = pieces.call(peers[piece.peer], piece.id.0.to_vec());
                calls.push_back((piece, call));
            }
            let Some((piece, call)) = calls.pop_front() else { break };
            match call.await {
                Ok(answer) => caught_up.take(&piece.id, &answer),
                Err(error @ (CallError::Closed | CallError::UnknownRoute | CallError::TooLong)) => {
                    return Err(error.into());
                }
                // It had to make room for a newer one, has more to do than it can, or is gone.
                Err(_) if piece.tries + 1 < peers.len() => {
                    let Wanted { id, peer, tries } = piece;
                    wanted.push_back(Wanted {
                        id,
                        peer: (peer + 1) % peers.len(),
                        tries: tries + 1,
                    });
                }
                Err(_) => caught_up.missing += 1,
            }
        }
        caught_up.took = begun.elapsed();
        Ok(caught_up)
    }

    fn take(&mut self, id: &ArtifactId, answer: &Bytes) {
        let artifact = answer.split_first().and_then(|(length, rest)| {
            let metadata = rest.get(..usize::from(*length))?;
            Artifact::new(answer.slice(1 + metadata.len()..), metadata).ok()
        });
        match artifact.filter(|artifact| artifact.id() == *id) {
            Some(artifact) => {
                self.artifacts += 1;
                self.bytes += artifact.bytes().len() as u64;
            }
            None => self.corrupt += 1,
        }
    }
}

/// A piece that is to be called for.
struct Wanted {
    id: ArtifactId,
    /// Whose turn it is to be asked, by its place among the peers.
    peer: usize,
    /// How many were asked before.
    tries: usize,
}
