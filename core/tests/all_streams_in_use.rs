//! A machine used without a node, whose caller opens as many streams as it is asked to.

use slotcast::artifact::Artifact;
use slotcast::broadcast::{Broadcast, SendBuffer};
use slotcast::config::{ChannelConfig, Config};
use slotcast::id::{ChannelId, NodeId, PeerIndex};
use slotcast::time::Time;

const CHANNEL: ChannelId = ChannelId(1);
const PEER: PeerIndex = PeerIndex(0);

#[test]
fn what_waits_until_one_of_too_many_streams_ends_is_sent_then() {
    let mut channel = ChannelConfig::new(CHANNEL);
    channel.slots_max = 8192;
    let mut machine =
        Broadcast::new(&Config::new([channel]), NodeId([9; 32]), 1).expect("a sound configuration");
    machine.add_peer(PEER, NodeId([1; 32]));
    machine.peer_up(Time::ZERO, PEER, |_| true);
    let (mut out, mut streams) = (SendBuffer::new(), Vec::new());
    for number in 0_u32.. {
        let bytes = number.to_be_bytes().to_vec().into();
        machine.publish(CHANNEL, Artifact::new(bytes, &[]).expect("short")).expect("there is room");
        let (peer, flow) = machine.poll_ready().expect("there is an update");
        let Some(send) = machine.poll_flow(peer, flow, 1 << 16, true, &mut out) else { break };
        streams.push(send.stream.expect("updates are tracked"));
    }
    assert!(streams.len() >= 4096, "{}", streams.len());
    machine.handle_acked(PEER, streams[7]);
    let mut ready = std::iter::from_fn(|| {
        let (peer, flow) = machine.poll_ready()?;
        Some(machine.poll_flow(peer, flow, 1 << 16, true, &mut out))
    });
    assert!(ready.any(|send| send.is_some()), "there is a stream now");
}
