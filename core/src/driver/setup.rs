//! Starting a node.

use std::boxed::Box;
use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::vec::Vec;

use super::shared::Shared;
use super::{Driver, Io, NodeHandle};
use crate::broadcast::Filter;
use crate::config::Config;
use crate::id::ChannelId;
use crate::membership::Topology;
use crate::node::{Node, NodeError, NodeKey, TlsSettings};
#[cfg(feature = "qlog")]
use crate::node::{QlogWriter, RecordedConnection};

#[cfg(feature = "qlog")]
type OpenQlog = Box<dyn FnMut(&RecordedConnection) -> Option<QlogWriter> + Send>;

/// What a node is made of.
///
/// ```
/// use slotcast::broadcast::{Candidate, Decision, Priority};
/// use slotcast::config::{ChannelConfig, Config};
/// use slotcast::driver::Setup;
/// use slotcast::id::ChannelId;
/// use slotcast::membership::Topology;
/// use slotcast::node::NodeKey;
///
/// const BLOCKS: ChannelId = ChannelId(1);
///
/// fn setup(key: NodeKey, topology: Topology) -> Setup {
///     let config = Config::new([ChannelConfig::new(BLOCKS)]);
///     Setup::new(key, config, topology).filter(BLOCKS, |candidate: &Candidate<'_>| {
///         let is_short = candidate.advert.length <= 1 << 20;
///         if is_short { Decision::Fetch(Priority::Normal) } else { Decision::Drop }
///     })
/// }
/// ```
pub struct Setup {
    key: NodeKey,
    config: Config,
    topology: Topology,
    filters: Vec<(ChannelId, Box<dyn Filter>)>,
    seed: Option<[u8; 32]>,
    tls: TlsSettings,
    has_loopback: bool,
    socket: Option<UdpSocket>,
    #[cfg(feature = "qlog")]
    qlog: Option<OpenQlog>,
}

impl Setup {
    /// A node with this key and configuration, in this subnet. `Topology::default()` has no members
    /// and goes before all others: with it, a node can be started before all addresses are known,
    /// and follow the subnet's topology later ([`NodeHandle::set_topology`]).
    pub fn new(key: NodeKey, config: Config, topology: Topology) -> Self {
        Self {
            key,
            config,
            topology,
            filters: Vec::new(),
            seed: None,
            tls: TlsSettings::default(),
            has_loopback: false,
            socket: None,
            #[cfg(feature = "qlog")]
            qlog: None,
        }
    }

    /// Sets what decides about a channel's artifacts. Without a filter, all are fetched.
    #[must_use]
    pub fn filter(mut self, channel: ChannelId, filter: impl Filter + 'static) -> Self {
        self.filters.push((channel, Box::new(filter)));
        self
    }

    /// Has the node tell its application of its own artifacts, too, before it sends them: delivered, from
    /// [`NodeHandle::member_id`], and withdrawn or expired when they are aborted. So an application need not
    /// treat its own messages in another way than those of others. Filters are not asked about them.
    #[must_use]
    pub fn loopback(mut self) -> Self {
        self.has_loopback = true;
        self
    }

    /// Sets the seed of all randomness in the node, which is drawn from the system otherwise. It must be
    /// unpredictable for others, and different in each process.
    #[must_use]
    pub fn seed(mut self, seed: [u8; 32]) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets the algorithms of handshakes, instead of the default.
    #[must_use]
    pub fn tls(mut self, tls: TlsSettings) -> Self {
        self.tls = tls;
        self
    }

    /// Sets the socket that the node uses, bound and with whatever options the application needs: a
    /// network interface, a traffic class, one IP family or both. The adapter's `bind` does not bind
    /// its address then. The options stay as they are, except that the socket becomes non-blocking
    /// and that kernel buffers are enlarged to
    /// [`socket_buffer_bytes`](crate::config::DriverConfig::socket_buffer_bytes). Nobody else may
    /// read from it, and it must not be connected to one address.
    #[must_use]
    pub fn socket(mut self, socket: UdpSocket) -> Self {
        self.socket = Some(socket);
        self
    }

    /// Has connections recorded in qlog: see [`Node::set_qlog`].
    #[cfg(feature = "qlog")]
    #[must_use]
    pub fn qlog(
        mut self,
        open: impl FnMut(&RecordedConnection) -> Option<QlogWriter> + Send + 'static,
    ) -> Self {
        self.qlog = Some(Box::new(open));
        self
    }

    /// Takes out the socket that was set. For adapters, which otherwise bind one.
    pub fn take_socket(&mut self) -> Option<UdpSocket> {
        self.socket.take()
    }

    /// The configuration. Adapters need it to set up the socket ([`Udp::new`](super::Udp::new)).
    pub fn config(&self) -> &Config {
        &self.config
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The socket could not be bound or set up.
    #[error("cannot listen on {address}")]
    Socket {
        /// The address that was given to `bind`.
        address: SocketAddr,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The configuration or the topology is not valid.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A filter was set for a channel that the configuration does not have.
    #[error("filter for channel {}, which is not configured", _0.0)]
    UnknownChannel(ChannelId),
}

/// Thirty-two unpredictable bytes from the operating system: for a new [`NodeKey`], or a seed.
///
/// # Panics
/// If the operating system has none to give.
pub fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}

/// Makes a node over a bound socket: its handle, and the driver, which is to be spawned. `local` is
/// the socket's address.
///
/// # Errors
/// If the configuration or the topology is not valid, or a filter has no channel.
pub fn start<I: Io>(
    setup: Setup,
    io: I,
    local: SocketAddr,
) -> Result<(NodeHandle, Driver<I>), StartError> {
    let start = io.now();
    let seed = setup.seed.unwrap_or_else(random_bytes);
    let Setup { key, config, topology, .. } = setup;
    let mut node = Node::with_tls(config, key, topology, seed, start, &setup.tls)?;
    node.set_loopback(setup.has_loopback);
    #[cfg(feature = "qlog")]
    if let Some(open) = setup.qlog {
        node.set_qlog(open);
    }
    for (channel, filter) in setup.filters {
        if !node.set_filter(channel, filter) {
            return Err(StartError::UnknownChannel(channel));
        }
    }
    if let Some(buffers) = io.socket_buffers() {
        node.handle_socket_buffers(buffers);
    }
    let shared = Arc::new(Shared::new(&node, local));
    let handle = NodeHandle::new(shared.clone());
    Ok((handle, Driver::new(node, shared, io, start)))
}
