//! What the application of the machine does.

use core::sync::atomic::Ordering;
use core::time::Duration;

use super::{Run, channel_id};
use crate::fuzz::model::PEERS;
use crate::fuzz::pool::{self, Art};
use slotcast::config::Relay;

impl Run {
    /// Publishes an artifact, in place of what has its key and the name if there is one.
    pub(in crate::fuzz) fn publish(&mut self, channel: usize, name: Option<u32>, art: Art) {
        let (id, artifact) = (channel_id(channel), pool::artifact(art).clone());
        let was_active = self.model[channel].has_slot(art);
        let model = &mut self.model[channel];
        let (published, expected) = match name {
            None => (self.machine.publish(id, artifact), model.publish(art)),
            Some(name) => {
                let published = self.machine.publish_keyed(id, name, artifact);
                (published, model.publish_keyed(name, art))
            }
        };
        assert_eq!(published, expected);
        if published.is_ok() {
            if self.chunks.is_part((channel, art)) {
                // The rest of it is not needed any more.
                self.model[channel].own(art);
            }
            self.chunks.whole((channel, art));
            let config = &self.model[channel].config;
            let is_spread =
                config.relay == Relay::Automatic && pool::len(art) >= config.spread_bytes_min;
            if is_spread && !was_active {
                let members = (0..PEERS).filter(|peer| self.peers[*peer].is_up(channel));
                self.chunks.spread((channel, art), members);
            }
        }
        self.check();
    }

    pub(in crate::fuzz) fn relay(&mut self, channel: usize, art: Art) {
        let relayed = self.machine.relay(channel_id(channel), pool::artifact(art));
        assert_eq!(relayed, self.model[channel].relay(art));
        if relayed.is_ok() {
            self.model[channel].set_is_part(art, false);
            self.chunks.whole((channel, art));
        }
        self.check();
    }

    pub(in crate::fuzz) fn abort(&mut self, channel: usize, art: Art) {
        let aborted = self.machine.abort(channel_id(channel), &pool::artifact(art).id());
        assert_eq!(aborted, self.model[channel].abort(art));
        self.check();
    }

    pub(in crate::fuzz) fn abort_below(&mut self, channel: usize, key: u64) {
        let aborted = self.machine.abort_below(channel_id(channel), key);
        assert_eq!(aborted, self.model[channel].abort_below(key));
        self.check();
    }

    pub(in crate::fuzz) fn reconsider(&mut self, channel: usize, view: u8) {
        self.view.store(view, Ordering::Relaxed);
        assert!(self.machine.reconsider(self.now, channel_id(channel)));
        self.model[channel].reconsider(self.decide(channel));
        self.check();
    }

    pub(in crate::fuzz) fn advance(&mut self, span: Duration) {
        self.now = self.now + span;
        self.check();
    }
}
