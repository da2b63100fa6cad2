//! An adapter for compio, a runtime whose sockets complete operations (io_uring, IOCP): two nodes on
//! one thread send each other an artifact, and each address is bound again right after the shutdown.
//!
//! `cargo run -p slotcast-bench --example compio`
//!
//! The socket owns the buffers of the operations in hand. Nothing here is `Send`.

use std::collections::VecDeque;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use compio::buf::BufResult;
use compio::net::UdpSocket;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config};
use slotcast::driver::{Io, NodeHandle, Receive, Received, Setup, StartError, random_bytes, start};
use slotcast::id::ChannelId;
use slotcast::membership::Topology;
use slotcast::node::{NodeKey, Transmit};

type Operation<T> = Pin<Box<dyn Future<Output = T>>>;
type Receiving = Operation<BufResult<(usize, SocketAddr), Vec<u8>>>;
type Sending = Operation<BufResult<usize, Vec<u8>>>;

/// Operations in hand each way: as many datagrams can arrive, or leave, before the driver looks again.
const IN_HAND: usize = 32;

/// Longer than any datagram with the default MTU.
const DATAGRAM_BYTES_MAX: usize = 2048;

struct CompioIo {
    /// `None` once it is being closed.
    socket: Option<UdpSocket>,
    /// In the order in which they were begun, which is the order in which datagrams arrive.
    receiving: VecDeque<Receiving>,
    sending: Vec<Sending>,
    /// Buffers of datagrams that were sent.
    free: Vec<Vec<u8>>,
    /// Errors of sends that have completed since, one for each.
    send_errors: VecDeque<io::Error>,
    timer: Option<(Instant, Operation<()>)>,
    closing: Option<Operation<io::Result<()>>>,
}

impl CompioIo {
    fn new(socket: UdpSocket) -> Self {
        let receiving = (0..IN_HAND).map(|_| receive(&socket, Vec::new())).collect();
        Self {
            socket: Some(socket),
            receiving,
            sending: Vec::new(),
            free: Vec::new(),
            send_errors: VecDeque::new(),
            timer: None,
            closing: None,
        }
    }

    /// Takes back the buffers of datagrams that have been sent.
    fn poll_sent(&mut self, cx: &mut Context<'_>) {
        let Self { sending, free, send_errors, .. } = self;
        sending.retain_mut(|operation| match operation.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(BufResult(result, buffer)) => {
                free.push(buffer);
                send_errors.extend(result.err());
                false
            }
        });
    }
}

fn receive(socket: &UdpSocket, mut buffer: Vec<u8>) -> Receiving {
    let socket = socket.clone();
    buffer.clear();
    buffer.reserve(DATAGRAM_BYTES_MAX);
    Box::pin(async move { socket.recv_from(buffer).await })
}

impl Io for CompioIo {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        handle: &mut Receive<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(socket) = &self.socket else { return Poll::Pending };
        let mut is_any_ready = false;
        let mut next = 0;
        // Those that are begun here are polled, too, so that each of them has the waker.
        while let Some(operation) = self.receiving.get_mut(next) {
            let Poll::Ready(BufResult(result, buffer)) = operation.as_mut().poll(cx) else {
                next += 1;
                continue;
            };
            is_any_ready = true;
            drop(self.receiving.remove(next));
            let flow = result.map(|(length, from)| {
                let (to, ecn, datagrams) = (None, None, &buffer[..length]);
                handle(Received { from, to, ecn, stride: length, datagrams })
            });
            self.receiving.push_back(receive(socket, buffer));
            if let ControlFlow::Break(()) = flow? {
                break;
            }
        }
        if is_any_ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        transmit: &Transmit,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        self.poll_sent(cx);
        let Some(socket) = self.socket.clone().filter(|_| self.sending.len() < IN_HAND) else {
            return Poll::Pending;
        };
        let mut datagram = std::mem::replace(buffer, self.free.pop().unwrap_or_default());
        datagram.truncate(transmit.size);
        let to = transmit.destination;
        self.sending.push(Box::pin(async move { socket.send_to(datagram, to).await }));
        // An operation begins when it is polled first.
        self.poll_sent(cx);
        // Perhaps of an earlier datagram. As many calls as there are errors report them all.
        Poll::Ready(self.send_errors.pop_front().map_or(Ok(()), Err))
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        if self.timer.as_ref().is_none_or(|(set, _)| *set != deadline) {
            let sleep = compio::time::sleep_until(deadline);
            self.timer = Some((deadline, Box::pin(sleep)));
        }
        let (_, sleep) = self.timer.as_mut().expect("just set");
        ready!(sleep.as_mut().poll(cx));
        self.timer = None;
        Poll::Ready(())
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What fails to leave now is lost, as it may be in the network.
        self.poll_sent(cx);
        if !self.sending.is_empty() {
            return Poll::Pending;
        }
        // Dropped operations are cancelled; the socket is closed once the kernel has let go of them.
        self.receiving.clear();
        if let Some(socket) = self.socket.take() {
            self.closing = Some(Box::pin(socket.close()));
        }
        match &mut self.closing {
            Some(closing) => closing.as_mut().poll(cx).map(drop),
            None => Poll::Ready(()),
        }
    }
}

/// Starts a node on the current runtime.
async fn bind(setup: Setup, address: SocketAddr) -> Result<NodeHandle, StartError> {
    let socket = UdpSocket::bind(address).await;
    let socket = socket.map_err(|error| StartError::Socket { address, error })?;
    let local = socket.local_addr().map_err(|error| StartError::Socket { address, error })?;
    let (node, driver) = start(setup, CompioIo::new(socket), local)?;
    compio::runtime::spawn(driver).detach();
    Ok(node)
}

const CHANNEL: ChannelId = ChannelId(1);

fn main() -> Result<(), Box<dyn Error>> {
    compio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let keys = [(); 2].map(|()| NodeKey::from_seed(random_bytes()));
    let any = "127.0.0.1:0".parse()?;
    let mut nodes = Vec::new();
    for key in &keys {
        let alone = Topology::new(1, [(key.id(), vec![any])])?;
        let config = Config::new([ChannelConfig::new(CHANNEL)]);
        nodes.push(bind(Setup::new(key.clone(), config, alone), any).await?);
    }
    let members = nodes.iter().map(|node| (node.key_id(), vec![node.local_address()]));
    let topology = Topology::new(2, members)?;
    for node in &nodes {
        node.set_topology(topology.clone())?;
    }
    for (from, to) in [(0, 1), (1, 0)] {
        nodes[from].channel(CHANNEL)?.publish(vec![from as u8; 1 << 20], b"a megabyte")?;
        let inbox = nodes[to].channel(CHANNEL)?;
        let delivered = compio::time::timeout(Duration::from_secs(10), inbox.next_event()).await?;
        let Some(Event::Delivered { artifact, from }) = delivered else {
            return Err(format!("not delivered: {delivered:?}").into());
        };
        println!("node {to} received {} bytes from {from:#}", artifact.bytes().len());
    }
    for node in nodes {
        let address = node.local_address();
        node.shutdown().await?;
        let again = std::net::UdpSocket::bind(address)?;
        println!("{} is free again", again.local_addr()?);
    }
    Ok(())
}
