//! What each path shows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::Serialize;
use slotcast_tokio::NodeHandle;
use slotcast_tokio::slotcast::driver::WeakNodeHandle;
use slotcast_tokio::slotcast::id::NodeId;
use slotcast_tokio::slotcast::snapshot::Snapshot;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::SNAPSHOT_AGE_MAX;
use crate::settings::Runtime;

/// How long an answer waits for the node. A driver takes less than a millisecond for a turn, unless its
/// thread is kept busy.
const NODE_PATIENCE: Duration = Duration::from_secs(2);

/// As OpenMetrics has it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const TEXT: &str = "text/plain; charset=utf-8";

/// The page loads nothing but its numbers, from where it comes from.
const POLICY: &str = "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; \
                      style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// A node, as seen over HTTP. It does not keep the node running.
pub(crate) struct Site {
    node: WeakNodeHandle,
    about: About,
    latest: Mutex<Option<(Instant, Arc<Snapshot>)>>,
}

/// What does not change.
#[derive(Clone, Serialize)]
struct About {
    id: NodeId,
    address: SocketAddr,
    runtime: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Status<'a> {
    #[serde(flatten)]
    about: &'a About,
    snapshot: &'a Snapshot,
}

impl Site {
    pub(crate) fn new(node: &NodeHandle, runtime: Runtime) -> Self {
        let about = About {
            id: node.member_id(),
            address: node.local_address(),
            runtime: runtime.name(),
            version: env!("CARGO_PKG_VERSION"),
        };
        Self { node: node.downgrade(), about, latest: Mutex::default() }
    }

    /// The answer to a request.
    pub(super) async fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET\n");
        }
        let shown = match path {
            "/" => Ok(("text/html; charset=utf-8", include_str!("page.html").into())),
            "/healthz" => self.snapshot().await.map(|_| (TEXT, "ok\n".into())),
            "/metrics" => self.snapshot().await.map(|snapshot| (OPEN_METRICS, metrics(&snapshot))),
            "/status.json" => {
                self.snapshot().await.map(|snapshot| ("application/json", self.status(&snapshot)))
            }
            _ => {
                let paths = "/, /healthz, /metrics, /status.json\n";
                return response(StatusCode::NOT_FOUND, TEXT, paths);
            }
        };
        match shown {
            Ok((kind, text)) => response::<String>(StatusCode::OK, kind, text),
            Err(why) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, why),
        }
    }

    /// The node as it was a moment ago, or why it does not say.
    async fn snapshot(&self) -> Result<Arc<Snapshot>, &'static str> {
        // Who comes while a snapshot is made waits for it.
        let mut latest = self.latest.lock().await;
        if let Some((made, snapshot)) = &*latest
            && made.elapsed() <= SNAPSHOT_AGE_MAX
        {
            return Ok(snapshot.clone());
        }
        let node = self.node.upgrade().ok_or("the node has shut down\n")?;
        let snapshot = timeout(NODE_PATIENCE, node.snapshot()).await;
        let snapshot = snapshot.map_err(|_| "the node does not answer\n")?;
        let snapshot = Arc::new(snapshot.ok_or("the node has shut down\n")?);
        *latest = Some((Instant::now(), snapshot.clone()));
        Ok(snapshot)
    }

    fn status(&self, snapshot: &Snapshot) -> String {
        let status = Status { about: &self.about, snapshot };
        serde_json::to_string(&status).expect("numbers and names")
    }
}

fn metrics(snapshot: &Snapshot) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot.clone()));
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string takes everything");
    text
}

fn response<T: Into<Bytes>>(
    status: StatusCode,
    kind: &'static str,
    text: T,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}
