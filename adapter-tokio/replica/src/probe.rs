//! A call from time to time to each member that is connected: so metrics tell how long an application takes
//! to answer, and not only how long its packets take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use slotcast_tokio::slotcast::config::RouteConfig;
use slotcast_tokio::slotcast::id::RouteId;
use slotcast_tokio::{NodeHandle, Server};
use smol::block_on;

/// The one route of this application.
pub(crate) const PROBE: RouteId = RouteId(1);

/// Between two calls to all.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) fn route() -> RouteConfig {
    RouteConfig::new(PROBE, "probe").bytes_max(0, 0)
}

/// Answers the calls of others until the node has shut down.
pub(crate) fn answer(server: Server) {
    thread::spawn(move || {
        while let Some(request) = block_on(server.next_request()) {
            // An error says that the caller does not wait any more.
            let _ = request.answer(Vec::new());
        }
    });
}

/// Calls all members that are connected, again and again.
pub(crate) fn ask(node: NodeHandle, stop: Arc<AtomicBool>) {
    let route = node.route(PROBE).expect("the route is configured");
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            for member in node.peers_up() {
                // Metrics count how it ended.
                let _ = block_on(route.call(member, Vec::new()));
            }
            thread::sleep(PAUSE);
        }
    });
}
