//! Calls under smol beside plain quinn: see `calls`, in the benches of the other adapter.
//!
//! `cargo bench -p slotcast-smol --bench rpc [-- --seconds S --rounds R --only NAME]`
//!
//! `SMOL_THREADS=2` gives smol's executor, which both systems run on, as many threads as tokio's
//! has on two cores.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use slotcast_smol::{NodeHandle, Setup};

#[path = "../../adapter-tokio/benches/calls/mod.rs"]
mod calls;
#[allow(dead_code, reason = "shared with the bench of broadcast")]
#[path = "../../adapter-tokio/benches/plain/mod.rs"]
mod plain;

struct Smol;

impl calls::Runtime for Smol {
    const NAME: &str = "smol";

    fn quinn() -> Arc<dyn quinn::Runtime> {
        Arc::new(quinn::SmolRuntime)
    }

    fn bind(setup: Setup, address: SocketAddr) -> NodeHandle {
        slotcast_smol::bind(setup, address).expect("the port is free")
    }

    fn spawn<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send {
        let (done, result) = smol::channel::bounded(1);
        smol::spawn(async move { done.send(future.await).await }).detach();
        async move { result.recv().await.expect("tasks do not panic") }
    }
}

fn main() {
    smol::block_on(smol::spawn(calls::bench::<Smol>()));
}
