//! What a link is at one moment.

use super::Link;
use crate::snapshot::LinkSnapshot;
use crate::time::Time;

impl Link {
    /// All but for how long it has been up.
    pub(in crate::node) fn snapshot(&self, now: Time) -> LinkSnapshot {
        let stats = self.quic.stats();
        let windows = self.windows();
        let (held_channels, held_for) = self.quotas.held(now);
        LinkSnapshot {
            round_trip: stats.path.rtt,
            congestion_window: self.meter.window(),
            in_flight_bytes: self.meter.in_flight(),
            unacked_bytes: self.meter.unacked(),
            receive_window: windows.receive,
            send_window: windows.send,
            streams_max: windows.streams,
            silent_channels: self.silent_channels,
            held_channels,
            held_for,
            mtu: stats.path.current_mtu,
            congestion_events: stats.path.congestion_events,
            sent_packets: stats.path.sent_packets,
            lost_packets: stats.path.lost_packets,
            lost_bytes: stats.path.lost_bytes,
            aborted_bytes: self.aborted_bytes(),
            sent_bytes: stats.udp_tx.bytes,
            sent_datagrams: stats.udp_tx.datagrams,
            received_bytes: stats.udp_rx.bytes,
            received_datagrams: stats.udp_rx.datagrams,
            ..LinkSnapshot::default()
        }
    }
}
