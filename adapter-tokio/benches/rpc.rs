//! Calls under tokio beside plain quinn: see `calls`.
//!
//! `cargo bench -p slotcast-tokio --bench rpc [-- --seconds S --rounds R --only NAME]`

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use slotcast_tokio::{NodeHandle, Setup};

mod calls;
#[allow(dead_code, reason = "shared with the bench of broadcast")]
mod plain;

struct Tokio;

impl calls::Runtime for Tokio {
    const NAME: &str = "tokio";

    fn quinn() -> Arc<dyn quinn::Runtime> {
        Arc::new(quinn::TokioRuntime)
    }

    fn bind(setup: Setup, address: SocketAddr) -> NodeHandle {
        slotcast_tokio::bind(setup, address).expect("the port is free")
    }

    fn spawn<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send {
        let task = tokio::spawn(future);
        async { task.await.expect("tasks do not panic") }
    }
}

#[tokio::main]
async fn main() {
    // In a task: the main thread's future is polled less eagerly.
    tokio::spawn(calls::bench::<Tokio>()).await.expect("the bench does not panic");
}
