//! What is compared: broadcast systems, all of whose nodes are in this process, on loopback.

use std::future::Future;
use std::time::Instant;

use bytes::Bytes;

/// The name of an artifact.
pub type Id = [u8; 32];

/// How a system is set up.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Nodes, at most 64, all of which are connected to all others.
    pub nodes: usize,
    /// Channels that are independent of each other, if the system knows such.
    pub channels: u16,
    /// The first channel is urgent and the others are bulk, if the system knows such classes. Else all
    /// have the default class.
    pub has_classes: bool,
    /// UDP payload of the longest datagram, in bytes, 1,200 to 65,507.
    pub mtu: u16,
}

/// An artifact has reached a node, complete and checked.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// The receiver.
    pub node: u16,
    /// The artifact.
    pub id: Id,
    /// When the receiver had it.
    pub at: Instant,
}

/// A broadcast system. Its methods are called in the runtime that it was started in.
pub trait System: Sized + Send + Sync + 'static {
    /// As it is called in tables.
    const NAME: &str;

    /// Starts all nodes, and returns once all are connected.
    fn start(shape: Shape) -> impl Future<Output = Self> + Send;

    /// Broadcasts `bytes` from `node` to all others, without any wait.
    fn publish(&self, node: usize, channel: u16, bytes: Bytes) -> Id;

    /// Ends the broadcast of `id` by `node`.
    fn abort(&self, node: usize, channel: u16, id: &Id);

    /// Waits until something was delivered anywhere, then moves all of it to the end of `into`.
    fn deliveries(&self, into: &mut Vec<Delivery>) -> impl Future<Output = ()> + Send;

    /// UDP payload bytes that all nodes have sent so far.
    fn udp_bytes(&self) -> u64;

    /// Closes all connections.
    fn shutdown(self) -> impl Future<Output = ()> + Send;
}
