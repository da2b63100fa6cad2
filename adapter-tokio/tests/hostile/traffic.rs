//! What honest members do all the time: they broadcast to each other, and call each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use slotcast_tokio::slotcast::broadcast::Event;
use slotcast_tokio::slotcast::id::NodeId;
use slotcast_tokio::{Channel, NodeHandle};
use tokio::sync::watch;

use crate::arena::within;
use crate::words::{CHANNELS, ROUTE};

/// Between two rounds of the honest members: they leave the machine to others, too.
const PAUSE: Duration = Duration::from_millis(1);

/// The newest round of `from` that has arrived, by channel. What comes of the foe goes to `taken`.
pub(crate) fn watch_deliveries(
    node: &NodeHandle,
    from: NodeId,
    foe: NodeId,
    taken: Option<watch::Sender<Vec<Vec<u8>>>>,
) -> watch::Receiver<[u64; 2]> {
    let (seen, receiver) = watch::channel([0; 2]);
    for (place, id) in CHANNELS.into_iter().enumerate() {
        let channel = node.channel(id).expect("configured");
        let (seen, taken) = (seen.clone(), taken.clone());
        tokio::spawn(async move {
            while let Some(event) = channel.next_event().await {
                let Event::Delivered { artifact, from: sender } = event else { continue };
                let bytes = artifact.bytes();
                if sender == from {
                    let round = u64::from_be_bytes(bytes[..8].try_into().expect("a number"));
                    seen.send_modify(|seen| seen[place] = seen[place].max(round));
                } else if sender == foe
                    && let Some(taken) = &taken
                {
                    taken.send_modify(|taken| taken.push(bytes.to_vec()));
                }
            }
        });
    }
    receiver
}

fn reversed(body: &[u8]) -> Vec<u8> {
    body.iter().rev().copied().collect()
}

pub(crate) fn serve(node: &NodeHandle) {
    let server = node.route(ROUTE).expect("configured").serve().expect("served");
    tokio::spawn(async move {
        while let Some(request) = server.next_request().await {
            let answer = reversed(request.body());
            // A hostile caller may have gone.
            let _ = request.answer(answer);
        }
    });
}

/// One artifact that is pushed, one that is fetched, a call, and the same again.
pub(crate) async fn talk(
    node: NodeHandle,
    peer: NodeId,
    mut seen: watch::Receiver<[u64; 2]>,
    rounds: watch::Sender<u64>,
    stop: Arc<AtomicBool>,
) {
    let channels = CHANNELS.map(|id| node.channel(id).expect("configured"));
    let route = node.route(ROUTE).expect("configured");
    let publish = |channel: &Channel, round: u64, length: usize| {
        let mut bytes = round.to_be_bytes().to_vec();
        bytes.extend(node.key_id().0);
        bytes.resize(length, 7);
        channel.publish(bytes, b"").expect("there is room for one")
    };
    for round in 1.. {
        if stop.load(Relaxed) {
            return;
        }
        let ids = [publish(&channels[0], round, 200), publish(&channels[1], round, 20_000)];
        let arrived = seen.wait_for(|seen| *seen == [round; 2]);
        within("a broadcast", arrived).await.expect("the node runs");
        let body = round.to_be_bytes();
        let answer = within("a call", route.call(peer, body.to_vec())).await;
        assert_eq!(answer.expect("answered"), reversed(&body));
        for (channel, id) in channels.iter().zip(&ids) {
            assert!(channel.abort(id));
        }
        rounds.send_replace(round);
        tokio::time::sleep(PAUSE).await;
    }
}
