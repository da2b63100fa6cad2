//! The runtime: nothing else here knows of it.

use std::net::SocketAddr;

use slotcast_tokio::{NodeHandle, Setup, StartError};
use tokio::runtime::Runtime as Tokio;

use crate::report::Told;
use crate::settings::Runtime;
use crate::topology::Watched;

type Report = Box<dyn FnMut(Told<'_>) + Send>;

/// A node whose driver waits to be spawned.
pub(crate) struct Idle {
    pub(crate) node: NodeHandle,
    spawn: Box<dyn FnOnce(Watched, Report) -> Option<Tokio>>,
}

impl Idle {
    pub(crate) fn bind(
        runtime: Runtime,
        setup: Setup,
        address: SocketAddr,
    ) -> Result<Self, StartError> {
        match runtime {
            Runtime::Tokio => {
                let mut builder = tokio::runtime::Builder::new_multi_thread();
                let built = builder.worker_threads(1).enable_all().build();
                let runtime = built.map_err(|error| StartError::Socket { address, error })?;
                let guard = runtime.enter();
                let (node, driver) = slotcast_tokio::bind_unspawned(setup, address)?;
                drop(guard);
                let handle = node.clone();
                let spawn = move |topologies: Watched, told: Report| {
                    drop(runtime.spawn(driver));
                    drop(runtime.spawn(handle.follow(topologies, told)));
                    Some(runtime)
                };
                Ok(Self { node, spawn: Box::new(spawn) })
            }
            Runtime::Smol => {
                let (node, driver) = slotcast_smol::bind_unspawned(setup, address)?;
                let handle = node.clone();
                let spawn = move |topologies: Watched, told: Report| {
                    smol::spawn(driver).detach();
                    smol::spawn(handle.follow(topologies, told)).detach();
                    None
                };
                Ok(Self { node, spawn: Box::new(spawn) })
            }
        }
    }

    /// Spawns the driver, and has the node follow topologies. What is returned keeps both running.
    pub(crate) fn spawn(
        self,
        topologies: Watched,
        told: impl FnMut(Told<'_>) + Send + 'static,
    ) -> Option<Tokio> {
        (self.spawn)(topologies, Box::new(told))
    }
}
