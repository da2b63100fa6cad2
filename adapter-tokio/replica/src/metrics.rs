//! Metrics for Prometheus over HTTP, in threads of their own.

use std::net::SocketAddr;
use std::thread;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use slotcast_tokio::NodeHandle;
use slotcast_tokio::slotcast::prometheus::Metrics;
use smol::block_on;
use tiny_http::{Header, Request, Response, Server};

use crate::Failure;

/// As OpenMetrics has it.
const CONTENT_TYPE: &str =
    "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A socket that listens for scrapes.
pub(crate) struct Listener(Server);

impl Listener {
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let bound = Server::http(address).map(Self);
        bound.map_err(|error| Failure::Start(format!("cannot listen on {address}: {error}")))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.server_addr().to_ip().expect("it is bound to an IP address")
    }

    /// Answers scrapes of a node until the process ends.
    pub(crate) fn serve(self, node: &NodeHandle) {
        let metrics = Metrics::new(node);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(metrics.clone()));
        thread::spawn(move || {
            for request in self.0.incoming_requests() {
                // Who has gone needs no answer.
                let _ = answer(request, &metrics, &registry);
            }
        });
    }
}

fn answer(request: Request, metrics: &Metrics, registry: &Registry) -> std::io::Result<()> {
    if request.url() != "/metrics" {
        return request.respond(Response::from_string("/metrics\n").with_status_code(404));
    }
    block_on(metrics.refresh());
    let mut text = String::new();
    encode(&mut text, registry).expect("a string takes everything");
    let kind: Header = CONTENT_TYPE.parse().expect("a header");
    request.respond(Response::from_string(text).with_header(kind))
}
