//! Metrics of the members beside this node, and of the connections to them.

use std::fmt;
use std::time::Duration;
use std::vec;

use super::family::{Families, Labels, Name, bytes, label, seconds, things};
use crate::snapshot::{LinkSnapshot, PeerSnapshot};

fn labels(peer: &PeerSnapshot) -> Labels {
    vec![label("peer", peer.id)]
}

/// A value of each peer.
fn of_all<T>(
    peers: &[PeerSnapshot],
    value: impl Fn(&PeerSnapshot) -> T,
) -> impl Iterator<Item = (Labels, T)> {
    peers.iter().map(move |peer| (labels(peer), value(peer)))
}

/// A value of each connection that is up.
fn of_links<T>(
    peers: &[PeerSnapshot],
    value: impl Fn(&LinkSnapshot) -> T,
) -> impl Iterator<Item = (Labels, T)> {
    peers.iter().filter_map(move |peer| Some((labels(peer), value(peer.link.as_ref()?))))
}

pub(super) fn encode(peers: &[PeerSnapshot], families: &mut Families<'_>) -> fmt::Result {
    type OfPeer = fn(&PeerSnapshot) -> u64;
    let gauges: [(Name<'_>, OfPeer); 5] = [
        (things("slotcast_peer_up", "Whether the peer is connected"), |p| p.link.is_some().into()),
        (things("slotcast_peer_cut_off", "Whether the peer is cut off for its faults"), |p| {
            p.is_cut_off.into()
        }),
        (
            things("slotcast_peer_backlog_updates", "Changes that the peer has still to be sent"),
            |p| p.backlog.updates,
        ),
        (
            things(
                "slotcast_peer_paced_channels",
                "Channels in which the peer takes no more for now",
            ),
            |p| p.paced_channels,
        ),
        (
            things(
                "slotcast_peer_fruitless_peak",
                "Most pieces of work at a time without progress",
            ),
            |p| p.fruitless_peak,
        ),
    ];
    for (name, value) in gauges {
        families.gauges(name, of_all(peers, value))?;
    }
    let age = seconds("slotcast_peer_backlog_age", "Age of the oldest change not sent yet");
    families.spans(age, of_all(peers, |peer| peer.backlog.age))?;
    let faults = things("slotcast_peer_faults", "Rules that the peer has broken");
    families.counters(faults, of_all(peers, |peer| peer.faults))?;
    encode_uses(peers, families)?;
    encode_links(peers, families)
}

/// Bytes of broadcast, by use.
fn encode_uses(peers: &[PeerSnapshot], families: &mut Families<'_>) -> fmt::Result {
    let with_use = |peer: &PeerSnapshot, name: &str| {
        let mut labels = labels(peer);
        labels.push(label("use", name));
        labels
    };
    let name = bytes(
        "slotcast_peer_broadcast_received",
        "What the peer sent on streams of broadcast, by what became of it",
    );
    let received = peers.iter().flat_map(|peer| {
        let bytes = &peer.received;
        [
            (with_use(peer, "useful"), bytes.useful),
            (with_use(peer, "duplicate"), bytes.duplicate),
            (with_use(peer, "aborted"), bytes.aborted),
            (with_use(peer, "control"), bytes.control),
        ]
    });
    families.counters(name, received)?;
    let name = bytes(
        "slotcast_peer_broadcast_encoded",
        "What was encoded for the peer on streams of broadcast",
    );
    let sent = peers.iter().flat_map(|peer| {
        let bytes = &peer.sent;
        [(with_use(peer, "content"), bytes.content), (with_use(peer, "control"), bytes.control)]
    });
    families.counters(name, sent)
}

fn encode_links(peers: &[PeerSnapshot], families: &mut Families<'_>) -> fmt::Result {
    type OfLink<T> = fn(&LinkSnapshot) -> T;
    let spans: [(Name<'_>, OfLink<Duration>); 3] = [
        (seconds("slotcast_peer_uptime", "Age of the connection"), |l| l.uptime),
        (seconds("slotcast_peer_round_trip", "Estimated round trip"), |l| l.round_trip),
        (seconds("slotcast_peer_held", "Held back for quotas of channels"), |l| l.held_for),
    ];
    for (name, value) in spans {
        families.spans(name, of_links(peers, value))?;
    }
    let gauges: [(Name<'_>, OfLink<u64>); 8] = [
        (
            bytes("slotcast_peer_congestion_window", "What congestion control allows in flight"),
            |l| l.congestion_window,
        ),
        (bytes("slotcast_peer_in_flight", "In packets neither acknowledged nor lost"), |l| {
            l.in_flight_bytes
        }),
        (bytes("slotcast_peer_unacked", "To be sent by QUIC, or in flight"), |l| l.unacked_bytes),
        (
            bytes("slotcast_peer_receive_window", "What the peer may send ahead of what was read"),
            |l| l.receive_window,
        ),
        (bytes("slotcast_peer_send_window", "What may be unacknowledged"), |l| l.send_window),
        (things("slotcast_peer_silent_channels", "Channels inert one way or both"), |l| {
            l.silent_channels
        }),
        (things("slotcast_peer_held_channels", "Channels in which the peer is held back"), |l| {
            l.held_channels
        }),
        (bytes("slotcast_peer_mtu", "UDP payload that the path carries"), |l| l.mtu.into()),
    ];
    for (name, value) in gauges {
        families.gauges(name, of_links(peers, value))?;
    }
    let counters: [(Name<'_>, OfLink<u64>); 9] = [
        (things("slotcast_peer_congestion_events", "Times that congestion was noticed"), |l| {
            l.congestion_events
        }),
        (things("slotcast_peer_sent_packets", "Packets sent"), |l| l.sent_packets),
        (things("slotcast_peer_lost_packets", "Packets sent and lost"), |l| l.lost_packets),
        (bytes("slotcast_peer_lost", "In lost packets; sent again as far as still current"), |l| {
            l.lost_bytes
        }),
        (bytes("slotcast_peer_aborted", "Given to QUIC in streams that were reset"), |l| {
            l.aborted_bytes
        }),
        (bytes("slotcast_peer_sent", "UDP payload sent"), |l| l.sent_bytes),
        (things("slotcast_peer_sent_datagrams", "Datagrams sent"), |l| l.sent_datagrams),
        (bytes("slotcast_peer_received", "UDP payload received"), |l| l.received_bytes),
        (things("slotcast_peer_received_datagrams", "Datagrams received"), |l| {
            l.received_datagrams
        }),
    ];
    for (name, value) in counters {
        families.counters(name, of_links(peers, value))?;
    }
    Ok(())
}
