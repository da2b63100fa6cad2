//! The engine's network: all that it needs of slotcast.

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::driver::{Call, Occurrence, Occurrences, Select};
use slotcast::id::{ChannelId, NodeId, RouteId};
use slotcast_tokio::NodeHandle;
use smol::future::{block_on, poll_once};

use crate::engine::{ANSWER_BYTES, Input, Net};

const BLOCKS: ChannelId = ChannelId(1);
const VOTES: ChannelId = ChannelId(2);
const SYNC: RouteId = RouteId(1);
/// Half a second, and an answer's bytes at 1 MB/s.
const PATIENCE: Duration = Duration::from_millis(500 + ANSWER_BYTES as u64 / 1000);

pub(crate) fn config() -> Config {
    let sync = RouteConfig::new(SYNC, "blocks from a height on").bytes_max(8, 8 << 20);
    Config::new([BLOCKS, VOTES].map(ChannelConfig::new)).routes([sync])
}

pub(crate) struct Slotcast(NodeHandle, Occurrences, Vec<NodeId>, Option<Call>);

impl Slotcast {
    pub(crate) fn new(node: NodeHandle, keys: Vec<NodeId>) -> Self {
        let events = node.events(&Select::all()).expect("configured");
        Self(node, events, keys, None)
    }
}

impl Net for Slotcast {
    fn next(&mut self, timeout: Duration) -> Result<Input, RecvTimeoutError> {
        if let Some(answer) = self.3.as_mut().and_then(|call| block_on(poll_once(call))) {
            self.3 = None;
            return Ok(Input::Answer(answer.ok()));
        }
        Ok(match self.1.next_timeout(timeout)? {
            Occurrence::Artifact { event: Event::Delivered { artifact, .. }, .. } => {
                Input::Message(artifact.to_bytes())
            }
            Occurrence::Request { request, .. } => {
                let height = request.body()[..].try_into().map_or(0, u64::from_be_bytes);
                Input::Ask(height, Box::new(|blocks| request.answer(blocks).unwrap_or_default()))
            }
            _ => Input::Nothing,
        })
    }

    fn publish(&self, view: u64, name: u32, bytes: Vec<u8>) {
        let channel = self.0.channel(if name == 0 { BLOCKS } else { VOTES }).expect("configured");
        // Without room, it is as if it were lost: the view ends by its timeout.
        let _ = channel.publish_keyed(view, name, bytes, b"");
        channel.abort_below(view.saturating_sub(4));
    }

    fn ask(&mut self, whom: usize, height: u64) {
        let route = self.0.route(SYNC).expect("configured");
        self.3 = Some(route.call_within(self.2[whom], height.to_be_bytes().to_vec(), PATIENCE));
    }
}
