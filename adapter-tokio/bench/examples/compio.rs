//! An adapter for compio, a runtime whose sockets complete operations (io_uring, IOCP): two nodes on
//! one thread send each other an artifact, and each address is bound again right after the shutdown.
//!
//! `cargo run -p slotcast-bench --example compio`
//!
//! The socket owns the buffers of the operations in hand. Nothing here is `Send`.

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
    receiving: Vec<Receiving>,
    sending: Vec<Sending>,
    /// Of what was sent.
    free: Vec<Vec<u8>>,
    timer: Option<(Instant, Operation<()>)>,
    closing: Option<Operation<io::Result<()>>>,
}

impl CompioIo {
    fn new(socket: UdpSocket) -> Self {
        let receiving = (0..IN_HAND).map(|_| receive(&socket, Vec::new())).collect();
        let (sending, free) = (Vec::new(), Vec::new());
        Self { socket: Some(socket), receiving, sending, free, timer: None, closing: None }
    }

    /// Takes back the buffers of what has been sent.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut result = Ok(());
        let free = &mut self.free;
        self.sending.retain_mut(|operation| match operation.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(BufResult(sent, buffer)) => {
                free.push(buffer);
                if let Err(error) = sent {
                    result = Err(error);
                }
                false
            }
        });
        result
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
        let mut any = false;
        for operation in &mut self.receiving {
            let Poll::Ready(BufResult(result, buffer)) = operation.as_mut().poll(cx) else {
                continue;
            };
            let flow = result.map(|(length, from)| {
                let (to, ecn, datagrams) = (None, None, &buffer[..length]);
                handle(Received { from, to, ecn, stride: length, datagrams })
            });
            *operation = receive(socket, buffer);
            any = true;
            if let ControlFlow::Break(()) = flow? {
                break;
            }
        }
        if any { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        transmit: &Transmit,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        let result = self.poll_sent(cx);
        let Some(socket) = self.socket.clone().filter(|_| self.sending.len() < IN_HAND) else {
            return Poll::Pending;
        };
        let mut datagram = std::mem::replace(buffer, self.free.pop().unwrap_or_default());
        datagram.truncate(transmit.size);
        let to = transmit.destination;
        let mut operation: Sending = Box::pin(async move { socket.send_to(datagram, to).await });
        // An operation begins when it is polled first.
        if let Poll::Ready(BufResult(sent, buffer)) = operation.as_mut().poll(cx) {
            self.free.push(buffer);
            sent?;
        } else {
            self.sending.push(operation);
        }
        // Of an earlier datagram, but an error all the same.
        Poll::Ready(result)
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
        let _ = self.poll_sent(cx);
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
