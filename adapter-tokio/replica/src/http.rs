//! What operators see over HTTP: `/metrics` for Prometheus, `/healthz`, and a status page.
//!
//! The server runs in a thread of its own, whatever the runtime of the node.
//!
//! Invariants:
//! 1. There are at most [`CONNECTIONS_MAX`] connections, each for one request and at most [`CONNECTION_MAX`]
//!    long; further ones wait in the kernel. Of a request, [`REQUEST_BYTES_MAX`] are read.
//! 2. However many ask, the node makes no more than one snapshot in [`SNAPSHOT_AGE_MAX`].

mod site;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

pub(crate) use site::Site;

use crate::Failure;

/// Connections at a time: some people who look, and some programs that scrape.
const CONNECTIONS_MAX: usize = 32;

/// How long a connection may last: the longest that an answer waits for the node, and its way to a slow reader.
const CONNECTION_MAX: Duration = Duration::from_secs(10);

/// Bytes of a request: its line, and what browsers send as headers.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// How old a snapshot may be that is shown.
const SNAPSHOT_AGE_MAX: Duration = Duration::from_millis(250);

/// After an error of the listening socket, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens.
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let bind = || {
            let socket = TcpListener::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(Self { address: socket.local_addr()?, socket })
        };
        bind().map_err(|error: io::Error| {
            Failure::Start(format!("cannot listen on {address}: {error}"))
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Shows a site until the process ends.
    pub(crate) fn serve(self, site: Site) -> Result<(), Failure> {
        let fail = |error: io::Error| Failure::Start(format!("cannot serve HTTP: {error}"));
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().map_err(fail)?;
        let listener = {
            let _guard = runtime.enter();
            tokio::net::TcpListener::from_std(self.socket).map_err(fail)?
        };
        thread::spawn(move || runtime.block_on(accept(&listener, Arc::new(site))));
        Ok(())
    }
}

async fn accept(listener: &tokio::net::TcpListener, site: Arc<Site>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = places.clone().acquire_owned().await.expect("it is never closed");
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let site = site.clone();
        tokio::spawn(async move {
            // Who is slow, or speaks no HTTP, needs no answer.
            let _ = timeout(CONNECTION_MAX, serve(stream, &site)).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, site: &Site) -> hyper::Result<()> {
    let answer = service_fn(|request| async move {
        Ok::<_, Infallible>(site.answer(request.method(), request.uri().path()).await)
    });
    let mut server = http1::Builder::new();
    server.keep_alive(false).max_buf_size(REQUEST_BYTES_MAX);
    server.serve_connection(TokioIo::new(stream), answer).await
}
