//! The applications of a run's members, and what must hold between what they did and what they were
//! told. Each check names the invariant that it is for.

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

use super::super::application::{Application, Context, Sent};
use super::content::{self, Kind, WORD};
use super::plan::Plan;
use super::report::{Bytes, Failure};
use crate::artifact::Artifact;
use crate::broadcast::{Candidate, Decision, Event};
use crate::config::{ChannelConfig, Relay};
use crate::error::PublishError;
use crate::id::{ArtifactId, ChannelId, NodeId};
use crate::node::NodeEvent;
use crate::node::crypto::Crypto;
use crate::time::Time;

/// Places in the lists of invariants: 1 to 12, and 0 for what is the run's own.
pub(super) const INVARIANTS: usize = 13;

type Name = (ChannelId, ArtifactId);

/// An artifact that a member has made.
pub(super) struct Made {
    pub(super) channel: ChannelId,
    pub(super) id: ArtifactId,
    pub(super) kind: Kind,
    length: u64,
    /// Given up when it is aborted, unless it is to be published again.
    artifact: Option<Artifact>,
    publishers: BTreeSet<usize>,
    /// By sender and receiver: words sent in the present epoch.
    sent: Vec<u32>,
    /// By sender: what QUIC held for each receiver when it aborted.
    aborted: BTreeMap<usize, Vec<u64>>,
}

#[derive(Clone, Copy, Debug)]
struct Active {
    since: Time,
    /// Was active before, in the life of this process.
    again: bool,
}

/// What a node was brought.
#[derive(Clone, Copy, Debug)]
struct Live {
    from: Option<usize>,
}

/// What the application of one member knows.
#[derive(Default)]
pub(super) struct Replica {
    pub(super) is_running: bool,
    active: BTreeMap<u32, Active>,
    /// What it has published since it was started: that need not be brought to it.
    owned: BTreeSet<u32>,
    live: BTreeMap<Name, Live>,
    /// When the last was told to have expired.
    expired: BTreeMap<u32, Time>,
    /// When it was aborted last.
    ended: BTreeMap<u32, Time>,
    height: Arc<AtomicU32>,
}

pub(super) struct Oracle {
    seed: u64,
    ids: Vec<NodeId>,
    honest: usize,
    channels: Vec<ChannelConfig>,
    is_readable: bool,
    pub(super) replicas: Vec<Replica>,
    pub(super) made: Vec<Made>,
    by_name: BTreeMap<Name, u32>,
    /// By sender and receiver: since when both have been running members to each other.
    joined: Vec<Time>,
    pub(super) failure: Option<Failure>,
    pub(super) checks: [u64; INVARIANTS],
    pub(super) published: u64,
    pub(super) aborted: u64,
    pub(super) delivered: u64,
    pub(super) duplicates: u64,
    pub(super) refused: u64,
    /// Nanoseconds from publishing to delivery.
    pub(super) latencies: Vec<u64>,
    pub(super) bytes: Bytes,
}

impl Oracle {
    /// `ids` of all members by place; the first `honest` of `order` are.
    pub(super) fn new(plan: &Plan, ids: Vec<NodeId>, hostile: &[usize]) -> Self {
        let count = ids.len();
        let mut replicas: Vec<Replica> = (0..count).map(|_| Replica::default()).collect();
        hostile.iter().for_each(|at| replicas[*at].is_hostile = true);
        Self {
            seed: plan.seed,
            honest: count - hostile.len(),
            ids,
            channels: plan.config.channels.clone(),
            is_readable: plan.crypto == Crypto::Null,
            replicas,
            made: Vec::new(),
            by_name: BTreeMap::new(),
            joined: std::vec![Time::ZERO; count * count],
            failure: None,
            checks: [0; INVARIANTS],
            published: 0,
            aborted: 0,
            delivered: 0,
            duplicates: 0,
            refused: 0,
            latencies: Vec::new(),
            bytes: Bytes::default(),
        }
    }
}
