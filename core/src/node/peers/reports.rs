//! What is reported of the members: at most one event of each kind for each, however much happened.

use super::{Peer, Peers};
use crate::bits::ones;
use crate::broadcast::Lag;
use crate::id::{Arrival, ChannelId, NodeId, PeerIndex};
use crate::node::incarnations::TWIN_INTERVAL;
use crate::node::{Closed, NodeEvent};
use crate::time::Time;

impl Peer {
    /// The next event to report.
    fn take_event(&mut self, channels: &[ChannelId]) -> Option<NodeEvent> {
        let peer = self.node;
        if let Some((fault, count)) = self.fault.take() {
            return Some(NodeEvent::Fault { peer, fault, count });
        }
        if std::mem::take(&mut self.has_twin) {
            return Some(NodeEvent::Twin { peer });
        }
        let is_up = self.connection.is_some();
        if std::mem::replace(&mut self.reported_up, is_up) != is_up {
            if is_up {
                return Some(NodeEvent::Up { peer });
            }
            self.reported_behind = 0;
            return Some(NodeEvent::Down { peer, why: self.last_close });
        }
        let at = ones(self.behind ^ self.reported_behind).next()?;
        self.reported_behind ^= 1 << at;
        let channel = channels[at];
        Some(match self.behind >> at & 1 {
            1 => NodeEvent::Behind { peer, channel },
            _ => NodeEvent::CaughtUp { peer, channel },
        })
    }

    fn has_event(&self) -> bool {
        let is_up = self.connection.is_some();
        self.fault.is_some()
            || self.has_twin
            || is_up != self.reported_up
            || self.behind != self.reported_behind
    }
}

impl Peers {
    /// A member has come to be behind in a channel, or is not behind any more.
    pub(in crate::node) fn note_lag(&mut self, lag: Lag) {
        let known = self.peer_mut(lag.peer);
        known.behind = known.behind & !(1 << lag.channel) | u64::from(lag.is_behind) << lag.channel;
        self.report(lag.peer);
    }

    pub(super) fn report(&mut self, peer: PeerIndex) {
        let arrival = self.arrival;
        let known = self.peer_mut(peer);
        if known.reports_since.is_none() {
            known.reports_since = Some(arrival);
            self.to_report.insert((arrival, peer.0));
        }
    }

    /// Two processes use a peer's key. True if that is to be reported now.
    pub(in crate::node) fn note_twin(&mut self, now: Time, peer: PeerIndex) -> bool {
        let known = self.peer_mut(peer);
        if known.twin_due > now {
            return false;
        }
        (known.has_twin, known.twin_due) = (true, now + TWIN_INTERVAL);
        self.report(peer);
        true
    }

    /// A member says that another process uses this node's key.
    pub(in crate::node) fn note_own_twin(&mut self, now: Time, told_by: NodeId) {
        if self.own_twin_due <= now {
            self.own_twin = Some((self.arrival, told_by));
            self.own_twin_due = now + TWIN_INTERVAL;
        }
    }

    /// The next event to report, with the input since which its peer has one: at most one of each kind per
    /// peer, however much happened.
    pub(in crate::node) fn next_event(&mut self) -> Option<(Arrival, NodeEvent)> {
        loop {
            let left = self.left.first().copied();
            let report = self.to_report.first().copied();
            let others = left.map(|(arrival, _)| arrival).into_iter();
            let others = others.chain(report.map(|(arrival, _)| arrival)).min();
            if let Some((arrival, told_by)) =
                self.own_twin.take_if(|(arrival, _)| others.is_none_or(|other| *arrival <= other))
            {
                return Some((arrival, NodeEvent::KeyInUse { told_by }));
            }
            if let Some((arrival, peer)) = left
                && report.is_none_or(|(other, _)| arrival <= other)
            {
                self.left.pop_first();
                return Some((arrival, NodeEvent::Down { peer, why: Closed::Left }));
            }
            let (arrival, index) = report?;
            let known = self.by_index[index as usize].as_mut().expect("a member");
            if let Some(event) = known.take_event(&self.channels) {
                return Some((arrival, event));
            }
            self.to_report.pop_first();
            known.reports_since = None;
        }
    }

    /// The input of what [`Peers::next_event`] gives next. Removes what has become untrue.
    pub(in crate::node) fn next_arrival(&mut self) -> Option<Arrival> {
        while let Some((_, index)) = self.to_report.first().copied() {
            let known = self.by_index[index as usize].as_mut().expect("a member");
            if known.has_event() {
                break;
            }
            self.to_report.pop_first();
            known.reports_since = None;
        }
        let left = self.left.first().map(|(arrival, _)| *arrival);
        let twin = self.own_twin.map(|(arrival, _)| arrival);
        let report = self.to_report.first().map(|(arrival, _)| *arrival);
        left.into_iter().chain(twin).chain(report).min()
    }

    pub(in crate::node) fn has_events(&self) -> bool {
        !self.to_report.is_empty() || !self.left.is_empty() || self.own_twin.is_some()
    }
}
