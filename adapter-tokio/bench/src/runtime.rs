//! The two runtimes, as the benches use them.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use slotcast::driver::{NodeHandle, Setup};

/// What the two runtimes do differently.
pub trait Runtime: Sync + Send + 'static {
    /// As it is called on the command line.
    const NAME: &str;
    /// For plain quinn.
    fn quinn() -> Arc<dyn quinn::Runtime>;
    /// Starts a node, and spawns its driver.
    fn bind(setup: Setup, address: SocketAddr) -> NodeHandle;
    /// A task; dropping the handle does not end it.
    fn spawn<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send;
}

/// tokio, with a thread per core.
#[derive(Debug)]
pub struct Tokio;

impl Runtime for Tokio {
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

/// smol's global executor. `SMOL_THREADS=2` gives it, which both systems run on, as many threads as
/// tokio's has on two cores.
#[derive(Debug)]
pub struct Smol;

impl Runtime for Smol {
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
