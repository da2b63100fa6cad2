//! What the log tells of a node: its members, its peers, its socket.

use std::error::Error;
use std::net::SocketAddr;

use slotcast_tokio::slotcast::driver::{LoadError, Unfollowed};
use slotcast_tokio::slotcast::id::NodeId;
use slotcast_tokio::slotcast::membership::Topology;
use slotcast_tokio::slotcast::node::{Closed, NodeEvent, SocketBuffers, SocketOperation};

use crate::log::Log;

/// What has become of a topology in the file.
pub(crate) type Told<'a> = Result<&'a Topology, Unfollowed<LoadError>>;

/// An error and what caused it, in a line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

pub(crate) fn log_topology(log: &Log, id: NodeId, local: SocketAddr, told: Told<'_>) {
    match told {
        Ok(topology) => {
            let (version, members) = (topology.version(), topology.members().len());
            log.line(format_args!("topology version {version} is in force: {members} members"));
            check_place(topology, id, local, log);
        }
        Err(why) => {
            let why = with_causes(&why);
            log.line(format_args!("the topology stays as it is: {why}"));
        }
    }
}

/// Warns of a topology which does not send members here.
pub(crate) fn check_place(topology: &Topology, id: NodeId, local: SocketAddr, log: &Log) {
    let name = topology.owner(&id);
    match name.and_then(|name| topology.addresses(&name)) {
        None => log.line(format_args!(
            "warning: {id} is no member of this topology: the node keeps no connections"
        )),
        Some(addresses) if !addresses.iter().any(|address| address.port() == local.port()) => {
            log.line(format_args!(
                "warning: the topology sends members to {}, and this node listens on {local}",
                addresses[0]
            ));
        }
        Some(_) => {}
    }
}

pub(crate) fn log_peer(log: &Log, event: NodeEvent) {
    match event {
        NodeEvent::Up { peer } => log.line(format_args!("peer {peer:#} is up")),
        NodeEvent::Down { peer, why } => {
            let why = match why {
                Closed::Shutdown => "it has shut down",
                Closed::Reset => "it has restarted",
                Closed::Lost => "nothing was heard from it",
                Closed::ByPeer => "it has closed the connection",
                Closed::CutOff => "cut off for its faults",
                Closed::Left => "it has left the topology",
                _ => "the connection has ended",
            };
            log.line(format_args!("peer {peer:#} is down: {why}"));
        }
        NodeEvent::Fault { peer, fault, count } => {
            log.line(format_args!("peer {peer:#} broke a rule ({count} times): {fault}"));
        }
        NodeEvent::Twin { peer } => {
            log.line(format_args!("warning: two processes use the key of peer {peer:#}"));
        }
        NodeEvent::KeyInUse { told_by } => log.line(format_args!(
            "warning: another process uses the key of this one, says peer {told_by:#}"
        )),
        NodeEvent::Behind { peer, channel } => log
            .line(format_args!("warning: peer {peer:#} does not keep up on channel {}", channel.0)),
        NodeEvent::CaughtUp { peer, channel } => {
            log.line(format_args!("peer {peer:#} keeps up again on channel {}", channel.0))
        }
        NodeEvent::Refused { handshakes, datagrams } => log.line(format_args!(
            "{handshakes} handshakes were refused or failed, {datagrams} datagrams of strangers were dropped"
        )),
        NodeEvent::SocketErrors { operation, kind, count } => {
            let what = match operation {
                SocketOperation::Send => "sending",
                SocketOperation::Receive => "receiving",
            };
            log.line(format_args!("warning: {what} has failed ({count} times): {kind}"));
        }
        NodeEvent::SocketBuffers(SocketBuffers { wanted, send, receive }) => {
            let granted = send.min(receive) >> 10;
            log.line(format_args!(
                "warning: the system grants the socket {granted} KiB of {} KiB, so that datagrams get \
                 lost under load: raise net.core.rmem_max and net.core.wmem_max",
                wanted >> 10
            ));
        }
        _ => {}
    }
}
