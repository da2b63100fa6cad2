//! Both ends of a route as [`tower_service::Service`]s, for those who have layers for them: timeouts, retries,
//! limits, metrics.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use tower_service::Service;

use super::{Call, Member, Request, Server};
use crate::error::CallError;
use crate::id::NodeId;

/// Calls the member. Ready means that it has credit for another call: [`Member::poll_ready`].
impl Service<Bytes> for Member {
    type Response = Bytes;
    type Error = CallError;
    type Future = Call;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Self::poll_ready(self, cx)
    }

    fn call(&mut self, body: Bytes) -> Call {
        Self::call(self, body)
    }
}

/// A member's request, as a service has it: [`Server::answer_with`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Asked {
    /// Who asks.
    pub from: NodeId,
    /// What is asked.
    pub body: Bytes,
    /// Until when the caller waits, on the runtime's clock.
    pub deadline: Instant,
}

impl Server {
    /// Answers requests by what a service says, until the node has shut down. One request is worked on at a
    /// time: who wants several at once runs this in as many tasks, with clones of the server and of the
    /// service. Requests are not taken before the service is ready. When the caller does not wait any
    /// more, the service's future is dropped. When it fails, the caller is told that there is no answer.
    ///
    /// On a route that [reads in parts](crate::config::RouteConfig::reads_in_parts), use
    /// [`next_request`](Self::next_request) instead: requests have no bodies here.
    ///
    /// # Errors
    /// If the service will never be ready again.
    pub async fn answer_with<S>(&self, mut service: S) -> Result<(), S::Error>
    where
        S: Service<Asked, Response = Bytes>,
    {
        loop {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            let Some(request) = self.next_request().await else { return Ok(()) };
            let asked = Asked {
                from: request.from(),
                body: request.body().clone(),
                deadline: request.deadline(),
            };
            let answering = service.call(asked);
            let answer = while_wanted(&request, answering).await;
            let Some(Ok(answer)) = answer else { continue };
            let bytes = u32::try_from(answer.len()).unwrap_or(u32::MAX);
            // An error: the caller does not wait any more, or the answer is too long, which it is told.
            if request.room(bytes).await.is_ok() {
                let _ = request.answer(answer);
            }
        }
    }
}

/// What a future gives, unless the caller of a request stops waiting before.
async fn while_wanted<F: Future>(request: &Request, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut cancelled = pin!(request.cancelled());
    let either = poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        cancelled.as_mut().poll(cx).map(|()| None)
    });
    either.await
}
