//! A node driven by hand, without any async runtime: a thread that waits until its socket is ready or
//! a deadline has come, with segmentation offload in both directions. Three replicas publish a
//! greeting, wait until they have heard all the others, and withdraw it again.
//!
//! [`Driver`](slotcast::driver::Driver) is the same loop for async runtimes, and takes turns by time.
//!
//! `cargo run -p slotcast --features driver --example blocking`

#![allow(clippy::disallowed_methods, reason = "here is what drives the core: clock and threads")]

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config};
use slotcast::driver::{Received, Udp};
use slotcast::id::{ArtifactId, ChannelId};
use slotcast::membership::Topology;
use slotcast::node::{Node, NodeKey, Output, Transmit};
use slotcast::time::Time;

const GREETINGS: ChannelId = ChannelId(1);
const REPLICAS: u8 = 3;

fn main() -> Result<(), Box<dyn Error>> {
    // Secrets for show only: a real key is 32 unpredictable bytes.
    let keys: Vec<NodeKey> = (1..=REPLICAS).map(|n| NodeKey::from_seed([n; 32])).collect();
    let bound = keys.iter().map(|_| UdpSocket::bind("127.0.0.1:0"));
    let sockets = bound.collect::<Result<Vec<UdpSocket>, _>>()?;
    let mut members = Vec::new();
    for (key, socket) in keys.iter().zip(&sockets) {
        members.push((key.id(), vec![socket.local_addr()?]));
    }
    let topology = Topology::new(1, members)?;
    let config = Config::new([ChannelConfig::new(GREETINGS)]);
    let start = Instant::now();
    let threads: Vec<_> = keys
        .into_iter()
        .zip(sockets)
        .enumerate()
        .map(|(number, (key, socket))| {
            let (config, topology) = (config.clone(), topology.clone());
            thread::spawn(move || {
                let seed = [number as u8; 32];
                let node = Node::new(config, key, topology, seed, start).expect("a sound setup");
                Replica::new(node, socket, start)?.greet(number)
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no replica panics")?;
    }
    Ok(())
}

struct Replica {
    node: Node,
    socket: UdpSocket,
    udp: Udp,
    start: Instant,
    buffer: Vec<u8>,
    /// Datagrams in the buffer that the socket did not take yet.
    unsent: Option<Transmit>,
}

impl Replica {
    fn new(node: Node, socket: UdpSocket, start: Instant) -> io::Result<Self> {
        let udp = Udp::new(&socket, &node.config().driver)?;
        Ok(Self { node, socket, udp, start, buffer: Vec::new(), unsent: None })
    }

    /// The application.
    fn greet(mut self, number: usize) -> io::Result<()> {
        let greeting = format!("hello from replica {number}");
        let greeting = Artifact::new(greeting.into(), b"").expect("a short text");
        let id: ArtifactId = greeting.id();
        self.node.publish(GREETINGS, greeting).expect("the outbox is empty");
        let mut heard = 0;
        // Half a second more than it takes, for those that start late.
        while heard < REPLICAS - 1 || self.start.elapsed() < Duration::from_millis(500) {
            self.step()?;
            heard += self.take_events(number);
        }
        self.node.abort(GREETINGS, &id);
        self.step()?;
        let now = self.now();
        self.node.shutdown(now);
        while !self.node.is_closed() {
            self.step()?;
            self.take_events(number);
        }
        println!("replica {number} has shut down");
        Ok(())
    }

    /// Takes all that there is, since [`Replica::step`] does not wait before; how many greetings were
    /// among it.
    fn take_events(&mut self, number: usize) -> u8 {
        while let Some(event) = self.node.poll_node_event() {
            println!("replica {number}: {event:?}");
        }
        let mut heard = 0;
        while let Some(event) = self.node.poll_event(GREETINGS) {
            match event {
                Event::Delivered { artifact, from } => {
                    let text = String::from_utf8_lossy(artifact.bytes()).into_owned();
                    println!("replica {number} received from {from:#}: {text}");
                    heard += 1;
                }
                Event::Withdrawn { by, .. } => println!("replica {number}: {by:#} withdrew"),
                _ => {}
            }
        }
        heard
    }

    fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    /// The driver: what has arrived, what there is to send, then a wait for more.
    fn step(&mut self) -> io::Result<()> {
        // Before `Node::poll`: no deadline passes that a datagram in the socket would have met.
        self.receive()?;
        let wake_at = self.send();
        // `Node::poll` may have brought about events itself. Whoever looks for them only before it
        // would sleep on them.
        if self.node.has_output() {
            return Ok(());
        }
        // Half a second is for the application, which looks at the clock now and then, too.
        let wait = wake_at.since(self.now()).min(Duration::from_millis(500));
        let until = Timespec { tv_sec: 0, tv_nsec: wait.as_nanos() as i64 };
        let mut ready = PollFlags::IN;
        ready.set(PollFlags::OUT, self.unsent.is_some());
        match poll(&mut [PollFd::new(&self.socket, ready)], Some(&until)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Hands the node what has arrived.
    fn receive(&mut self) -> io::Result<()> {
        loop {
            let now = self.now();
            let Self { node, socket, udp, .. } = self;
            let result = udp.receive(socket, &mut |received| {
                let Received { from, to, ecn, stride, datagrams } = received;
                node.handle_datagrams(now, from, to, ecn, stride, datagrams);
                ControlFlow::Continue(())
            });
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The driver goes on after errors that may pass, and counts them with
                // `Node::handle_receive_error`. `Io::poll_receive` says which.
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends what there is to send, as far as the socket takes it; when to call again at the latest.
    fn send(&mut self) -> Time {
        loop {
            let now = self.now();
            let transmit = match self.unsent.take() {
                Some(transmit) => transmit,
                None => match self.node.poll(now, self.udp.segments_max(), &mut self.buffer) {
                    Output::Transmit(transmit) => transmit,
                    Output::Idle { wake_at, .. } => return wake_at,
                },
            };
            match self.udp.send(&self.socket, &transmit, &self.buffer) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.unsent = Some(transmit);
                    return self.node.poll_blocked(now);
                }
                // Lost, as the network may lose it.
                Err(error) => {
                    self.node.handle_send_error(now, error.kind(), transmit.datagrams());
                }
            }
        }
    }
}
