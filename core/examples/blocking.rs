//! A node over a plain `std::net::UdpSocket`, without any async runtime: the template for "any
//! runtime". Three replicas, a thread each, publish a greeting, wait until they have heard all the
//! others, and withdraw it again.
//!
//! `cargo run -p slotcast --features quic --example blocking`

#![allow(clippy::disallowed_methods, reason = "here is what drives the core: clock and threads")]

use std::error::Error;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config};
use slotcast::id::{ArtifactId, ChannelId};
use slotcast::membership::Topology;
use slotcast::node::{Node, NodeKey, Output};
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
                let node = Node::new(config, key, topology, seed, start);
                Replica { node: node.expect("a sound setup"), socket, start }.greet(number)
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
    start: Instant,
}

impl Replica {
    /// The application.
    fn greet(mut self, number: usize) -> std::io::Result<()> {
        let greeting = format!("hello from replica {number}");
        let greeting = Artifact::new(greeting.into(), b"").expect("a short text");
        let id: ArtifactId = greeting.id();
        self.node.publish(GREETINGS, greeting).expect("the outbox is empty");
        let mut heard = 0;
        // Half a second more than it takes, for those that start late.
        while heard < REPLICAS - 1 || self.start.elapsed() < Duration::from_millis(500) {
            self.step()?;
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
        }
        self.node.abort(GREETINGS, &id);
        self.step()?;
        let now = self.now();
        self.node.shutdown(now);
        while !self.node.is_closed() {
            self.step()?;
        }
        println!("replica {number} has shut down");
        Ok(())
    }

    fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    /// The driver: send all there is, then wait for a datagram or the next deadline.
    fn step(&mut self) -> std::io::Result<()> {
        let mut buffer = Vec::new();
        let wake_at = loop {
            match self.node.poll(self.now(), 1, &mut buffer) {
                Output::Transmit(transmit) => {
                    self.socket.send_to(&buffer[..transmit.size], transmit.destination)?;
                }
                Output::Idle { wake_at, .. } => break wake_at,
            }
        };
        let wait = wake_at.since(self.now());
        // Zero would mean "for ever"; the application wants its turn now and then, too.
        let wait = wait.clamp(Duration::from_millis(1), Duration::from_millis(100));
        self.socket.set_read_timeout(Some(wait))?;
        let mut datagram = [0; 1500];
        match self.socket.recv_from(&mut datagram) {
            Ok((length, from)) => {
                let now = self.now();
                self.node.handle_datagrams(now, from, None, None, length, &datagram[..length]);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
