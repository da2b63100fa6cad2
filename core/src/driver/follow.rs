//! Topologies from an external source, such as a file.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::NodeHandle;
use super::shared::State;
use super::waiters::{Source, Waiting};
use crate::membership::{Topology, TopologyError};

/// A source of topologies: a file, a registry, a chain.
pub trait TopologySource {
    /// Why there is no new topology, though something has changed.
    type Error;

    /// Waits for the next topology or error; each is returned once. `None`: there will be no more.
    /// Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Option<Result<Topology, Self::Error>>>;
}

/// Why a result of a [`TopologySource`] is not followed. The topology in use stays.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unfollowed<E> {
    /// The source has returned an error.
    #[error(transparent)]
    Source(E),
    /// The node has rejected the topology.
    #[error("topology version {version} is refused")]
    Refused {
        /// Its version.
        version: u64,
        /// Why not.
        #[source]
        error: TopologyError,
    },
}

impl NodeHandle {
    /// Follows the topologies of a source, each in place of the one before. Calls `told` with each
    /// topology that has come into use and with each error. A topology that is in use already is
    /// ignored. One of the same version with other content is an error, since other members may
    /// have the first.
    ///
    /// The future is to be spawned. It ends with the source or the node, which it does not keep
    /// running.
    pub fn follow<S, T>(&self, mut source: S, mut told: T) -> impl Future<Output = ()> + use<S, T>
    where
        S: TopologySource,
        T: FnMut(Result<&Topology, Unfollowed<S::Error>>),
    {
        let shared = self.shared_arc();
        async move {
            loop {
                let next = {
                    let mut next = pin!(source.next());
                    let mut end = Waiting::new(&*shared, Source::End);
                    let has_ended = |state: &mut State| state.is_closed().then_some(((), false));
                    let or_closed = poll_fn(|cx| match end.poll(cx, has_ended) {
                        Poll::Ready(()) => Poll::Ready(None),
                        Poll::Pending => next.as_mut().poll(cx),
                    });
                    or_closed.await
                };
                let topology = match next {
                    None => return,
                    Some(Ok(topology)) => topology,
                    Some(Err(error)) => {
                        told(Err(Unfollowed::Source(error)));
                        continue;
                    }
                };
                let version = topology.version();
                match shared.replace_topology(&topology) {
                    Ok(true) => told(Ok(&topology)),
                    Ok(false) => {}
                    Err(TopologyError::Closed) => return,
                    Err(error) => told(Err(Unfollowed::Refused { version, error })),
                }
            }
        }
    }
}
