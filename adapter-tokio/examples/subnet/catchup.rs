//! Catch-up by calls: what is no longer active is not broadcast, but a node that has lost its state
//! may still need it. Each node keeps what it was delivered for a while after it has expired; a node
//! that comes back asks another for the list, and for each artifact in it. What that one had to make room
//! for meanwhile, or is too slow to give, it asks the others for.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use slotcast::artifact::{Artifact, METADATA_BYTES_MAX};
use slotcast::config::{Class, RouteConfig};
use slotcast::error::CallError;
use slotcast::id::{ArtifactId, NodeId, RouteId};
use slotcast_tokio::{NodeHandle, Route, Server};
use tokio::task::JoinHandle;

use crate::Failure;

/// Asks for the ids of all finished artifacts: 32 bytes each.
const LIST: RouteId = RouteId(1);
/// Asks for one finished artifact by its id: the length of its metadata in a byte, the metadata, and
/// the bytes.
const PIECE: RouteId = RouteId(2);

/// Bytes of artifacts that a node keeps; what does not fit is not kept, or no longer.
const KEPT_BYTES_MAX: usize = 64 << 20;
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

/// What a node was delivered.
#[derive(Default)]
struct Kept {
    active: HashMap<ArtifactId, Artifact>,
    finished: HashMap<ArtifactId, Artifact>,
    /// Oldest first.
    order: VecDeque<ArtifactId>,
    bytes: usize,
}

/// What a node was delivered, shared by those who take its events and its requests.
#[derive(Clone, Default)]
pub(crate) struct Archive(Arc<Mutex<Kept>>);

impl Archive {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn delivered(&self, artifact: Artifact) {
        let mut kept = self.kept();
        let length = artifact.bytes().len();
        while kept.bytes + length > KEPT_BYTES_MAX {
            let Some(oldest) = kept.order.pop_front() else { return };
            let oldest = kept.finished.remove(&oldest).expect("in order");
            kept.bytes -= oldest.bytes().len();
        }
        if kept.active.insert(artifact.id(), artifact).is_none() {
            kept.bytes += length;
        }
    }

    pub(crate) fn expired(&self, id: &ArtifactId) {
        let mut kept = self.kept();
        if let Some(artifact) = kept.active.remove(id) {
            kept.order.push_back(*id);
            if let Some(before) = kept.finished.insert(*id, artifact) {
                kept.bytes -= before.bytes().len();
                let at = kept.order.iter().position(|other| other == id);
                kept.order.remove(at.expect("in order"));
            }
        }
    }

    fn list(&self) -> Vec<u8> {
        let kept = self.kept();
        kept.order.iter().take(LISTED_MAX).flat_map(|id| id.0).collect()
    }

    fn piece(&self, id: &[u8]) -> Option<Vec<u8>> {
        let id = ArtifactId(id.try_into().ok()?);
        let artifact = self.kept().finished.get(&id)?.clone();
        let metadata = artifact.metadata();
        Some([&[metadata.len() as u8], metadata, artifact.bytes()].concat())
    }

    fn has(&self, id: &ArtifactId) -> bool {
        let kept = self.kept();
        kept.active.contains_key(id) || kept.finished.contains_key(id)
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
    /// Asks the peers, one after the other, for all artifacts that have finished for the first of them and are not in
    /// the archive.
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
        let mut missed: Vec<_> = ids.filter(|id| !archive.has(id)).collect();
        let pieces = handle.route(PIECE)?;
        for peer in peers {
            let mut still_missed = Vec::new();
            for ids in missed.chunks(CALLS_MAX) {
                still_missed.extend(caught_up.take(&pieces, *peer, ids).await?);
            }
            missed = still_missed;
        }
        caught_up.missing = missed.len();
        caught_up.took = begun.elapsed();
        Ok(caught_up)
    }

    /// Asks a peer for artifacts. Those that it has not given.
    async fn take(
        &mut self,
        pieces: &Route,
        peer: NodeId,
        ids: &[ArtifactId],
    ) -> Result<Vec<ArtifactId>, Failure> {
        let calls: Vec<_> = ids.iter().map(|id| pieces.call(peer, id.0.to_vec())).collect();
        let mut missed = Vec::new();
        for (call, id) in calls.into_iter().zip(ids) {
            let piece = match call.await {
                Ok(piece) => piece,
                Err(error @ (CallError::Closed | CallError::UnknownRoute | CallError::TooLong)) => {
                    return Err(error.into());
                }
                // It had to make room for a newer one, has more to do than it can, or is gone.
                Err(_) => {
                    missed.push(*id);
                    continue;
                }
            };
            let artifact = piece.split_first().and_then(|(length, rest)| {
                let metadata = rest.get(..usize::from(*length))?;
                Artifact::new(piece.slice(1 + metadata.len()..), metadata).ok()
            });
            match artifact.filter(|artifact| artifact.id() == *id) {
                Some(artifact) => {
                    self.artifacts += 1;
                    self.bytes += artifact.bytes().len() as u64;
                }
                None => self.corrupt += 1,
            }
        }
        Ok(missed)
    }
}
