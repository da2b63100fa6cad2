//! Metrics of the node as a whole.

use std::fmt;
use std::vec::Vec;

use super::family::{Families, bytes, seconds, things};
use crate::snapshot::{DriverSnapshot, Snapshot};

pub(super) fn encode(snapshot: &Snapshot, families: &mut Families<'_>) -> fmt::Result {
    let (node, stats) = (&snapshot.node, &snapshot.node.stats);
    let none = Vec::new;
    families.spans(
        seconds("slotcast_uptime", "Time since the node's start"),
        [(none(), snapshot.uptime)],
    )?;
    let counters = [
        (bytes("slotcast_sent", "UDP payload handed to the socket"), stats.sent_bytes),
        (things("slotcast_sent_datagrams", "Datagrams handed to the socket"), stats.sent_datagrams),
        (bytes("slotcast_received", "UDP payload received"), stats.received_bytes),
        (
            things("slotcast_received_batches", "Batches of datagrams received"),
            stats.received_batches,
        ),
        (
            things("slotcast_stranger_datagrams", "Handshake datagrams from no member's address"),
            stats.strangers,
        ),
        (
            things("slotcast_refused_handshakes", "Handshakes refused, failed, or of no member"),
            stats.refused,
        ),
        (things("slotcast_connections", "Connections that came up"), stats.connections),
        (
            things("slotcast_twin_connections", "Connections refused since the key is in use"),
            stats.twins,
        ),
        (things("slotcast_faults", "Rules broken by members"), stats.faults),
        (things("slotcast_send_errors", "Times that the socket failed to send"), stats.send_errors),
        (
            things("slotcast_unsent_datagrams", "Datagrams lost by failures to send"),
            stats.unsent_datagrams,
        ),
        (
            things("slotcast_receive_errors", "Times that the socket failed to receive"),
            stats.receive_errors,
        ),
    ];
    for (name, count) in counters {
        families.counters(name, [(none(), count)])?;
    }
    let memory = &node.memory;
    let gauges = [
        (bytes("slotcast_memory_bound", "What the node holds at most"), memory.bound),
        (bytes("slotcast_memory_budgeted", "What budgets say that is held"), memory.budgeted),
        (things("slotcast_handshakes", "Connections that are coming up"), node.handshakes),
    ];
    for (name, value) in gauges {
        families.gauges(name, [(none(), value)])?;
    }
    node.driver.as_ref().map_or(Ok(()), |driver| encode_driver(driver, families))
}

fn encode_driver(driver: &DriverSnapshot, families: &mut Families<'_>) -> fmt::Result {
    let polls =
        seconds("slotcast_driver_poll", "How long the driver has kept its thread at a time");
    families.histograms(polls, [(Vec::new(), driver.polls)])?;
    let commands = things("slotcast_driver_commands", "Commands that wait for the driver");
    families.gauges(commands, [(Vec::new(), driver.commands)])
}
