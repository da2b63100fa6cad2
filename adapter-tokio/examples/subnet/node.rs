//! One life of a node: what an application does with its handles. Only starting it differs between
//! the runtimes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slotcast::broadcast::Event;
use slotcast::error::PublishError;
use slotcast::id::{ArtifactId, NodeId};
use slotcast::node::NodeStats;
use slotcast_tokio::{Channel, NodeHandle};
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, timeout};

use crate::Failure;
use crate::catchup::{Archive, CaughtUp};
use crate::ledger::Ledger;
use crate::load::{Fate, LANES, Load, Name};

/// How long it may take until all nodes are connected.
const CONNECTING_MAX: Duration = Duration::from_secs(10);

/// A running node, and who takes its events and requests.
pub(crate) struct Node {
    pub(crate) life: usize,
    handle: NodeHandle,
    channels: Vec<Channel>,
    archive: Archive,
    takers: Vec<JoinHandle<()>>,
}

impl Node {
    /// Takes the events of a node from now on; done when so many others are connected.
    pub(crate) async fn join(
        life: usize,
        handle: NodeHandle,
        others: usize,
        load: Load,
        ledger: Arc<Ledger>,
    ) -> Result<Self, Failure> {
        ledger.begin(life);
        let channels = LANES.iter().map(|lane| handle.channel(lane.id));
        let channels = channels.collect::<Result<Vec<_>, _>>()?;
        let archive = Archive::default();
        let mut takers = archive.serve(&handle)?;
        takers.extend(channels.iter().enumerate().map(|(lane, channel)| {
            let (channel, archive) = (channel.clone(), archive.clone());
            tokio::spawn(take_events(life, (lane, channel), load, ledger.clone(), archive))
        }));
        let all_up = async {
            while handle.peers_up().len() < others {
                handle.next_event().await;
            }
        };
        timeout(CONNECTING_MAX, all_up).await.map_err(|_| "the nodes do not connect")?;
        ledger.connected(life);
        Ok(Self { life, handle, channels, archive, takers })
    }

    /// Gets from peers what has been and gone: from the first that has it.
    pub(crate) async fn catch_up(&self, peers: &[NodeId]) -> Result<CaughtUp, Failure> {
        CaughtUp::from_peers(&self.handle, peers, &self.archive).await
    }

    /// Publishes in tasks of their own: on each channel from these numbers on, by a schedule that
    /// begins at `begin`, until `end`. The tasks give the numbers to go on with.
    pub(crate) fn publish(
        &self,
        from: &[u32],
        begin: Instant,
        end: Option<Instant>,
        load: Load,
        ledger: &Arc<Ledger>,
    ) -> Vec<JoinHandle<Result<u32, PublishError>>> {
        let publish = |(lane, channel): (usize, &Channel)| {
            let name = Name { life: self.life, lane, number: from[lane] };
            let (channel, ledger) = (channel.clone(), ledger.clone());
            tokio::spawn(async move {
                let mut publisher = Publisher { name, begin, channel, load, ledger };
                match end {
                    // Cut off at whatever it waits for: that is what a restart is like.
                    Some(end) => tokio::select! {
                        () = sleep_until(end.into()) => {}
                        result = publisher.run() => result?,
                    },
                    None => publisher.run().await?,
                }
                Ok(publisher.name.number)
            })
        };
        self.channels.iter().enumerate().map(publish).collect()
    }

    /// Aborts one artifact of the channel.
    pub(crate) fn abort(&self, lane: usize, id: &ArtifactId) {
        self.channels[lane].abort(id);
    }

    /// Shuts the node down, and takes the events that are left. What it has counted.
    pub(crate) async fn stop(self) -> Result<NodeStats, Failure> {
        self.handle.shutdown().await?;
        for taker in self.takers {
            taker.await?;
        }
        Ok(self.handle.stats())
    }
}

/// Writes a channel's events into the ledger until the node has shut down.
async fn take_events(
    life: usize,
    (lane, channel): (usize, Channel),
    load: Load,
    ledger: Arc<Ledger>,
    archive: Archive,
) {
    while let Some(event) = channel.next_event().await {
        match event {
            Event::Delivered { artifact, .. } => {
                let at = Instant::now();
                let id = artifact.id();
                let name = ledger.book().records.get(&id).map(|record| record.name);
                let is_genuine = |name| load.is_genuine(name, artifact.bytes());
                ledger.delivered(life, &id, at, name.is_some_and(is_genuine));
                archive.delivered(lane, artifact);
            }
            Event::Withdrawn { .. } => ledger.withdrawn(),
            Event::Expired { id } => {
                ledger.expired(life, &id);
                archive.expired(lane, &id);
            }
            _ => {}
        }
    }
}

/// Publishes on one channel, and aborts.
struct Publisher {
    /// Of the next artifact.
    name: Name,
    begin: Instant,
    channel: Channel,
    load: Load,
    ledger: Arc<Ledger>,
}

impl Publisher {
    /// Publishes each artifact when it is due; goes on aborting after the last one.
    async fn run(&mut self) -> Result<(), PublishError> {
        let Name { life, lane, .. } = self.name;
        loop {
            while let Some(id) = self.ledger.to_abort(life, lane, false) {
                self.ledger.aborted(&id);
                self.channel.abort(&id);
            }
            if self.name.number == self.load.count(lane) {
                self.ledger.publisher(life, lane).await;
                continue;
            }
            let due = self.begin + self.load.due(self.name);
            tokio::select! {
                () = self.ledger.publisher(life, lane) => {}
                () = sleep_until(due.into()) => {
                    self.publish_next().await?;
                }
            }
        }
    }

    async fn publish_next(&mut self) -> Result<(), PublishError> {
        let Name { life, lane, .. } = self.name;
        let fate = self.load.fate(self.name);
        let artifact = self.load.artifact(self.name);
        let id = artifact.id();
        loop {
            // Before, since it may arrive before the call returns.
            self.ledger.published(id, self.name, fate);
            match self.channel.publish(artifact.to_bytes(), artifact.metadata()) {
                Ok(published) => {
                    assert_eq!(published, id, "an id follows from bytes and metadata");
                    break;
                }
                Err(PublishError::OutboxFull | PublishError::ActiveBytesExceeded) => {
                    self.ledger.unpublished(&id);
                    match self.ledger.to_abort(life, lane, true) {
                        Some(id) => {
                            self.ledger.aborted(&id);
                            self.channel.abort(&id);
                        }
                        None => self.ledger.publisher(life, lane).await,
                    }
                }
                Err(PublishError::Busy) => {
                    self.ledger.unpublished(&id);
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    self.ledger.unpublished(&id);
                    return Err(error);
                }
            }
        }
        self.name.number += 1;
        if let Fate::AbortedSoon(pause) = fate {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            self.ledger.aborted(&id);
            self.channel.abort(&id);
        }
        Ok(())
    }
}
