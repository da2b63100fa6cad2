//! Members that pass on every chunk that they are given with a byte changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use quinn_proto::{StreamId, TransportConfig};
use slotcast::artifact::{Advert, CHUNK_BYTES_MAX};
use slotcast::id::NodeId;
use slotcast::internals::channel_hello;
use slotcast::node::Ecn;
use slotcast::time::Time;
use slotcast::wire::{Chunk, Item, StreamDecoder, Update};
use slotcast_sim::hostile::bare::{BareEvent, BarePeer, LineId};
use slotcast_sim::hostile::frames;
use slotcast_sim::{Process, Subnet};

use crate::world::{CHANNEL, Log, Passing, config};

/// How many streams with a wrong chunk all of them have written.
pub(crate) type Corruptions = Arc<AtomicU64>;

/// A stripe that is being received, and passed on to these members.
#[derive(Default)]
struct Stripe {
    decoder: Option<StreamDecoder>,
    advert: Option<Advert>,
    passed_on: Vec<(LineId, StreamId)>,
}

/// A relay with the key of a member. It passes its stripes on as a node does, except that each chunk is
/// wrong. It publishes nothing, and does not answer requests.
pub(crate) struct Corrupting {
    bare: BarePeer,
    /// The others of its kind, which are sent nothing.
    accomplices: BTreeSet<NodeId>,
    corruptions: Corruptions,
    lines: BTreeMap<LineId, NodeId>,
    stripes: BTreeMap<(LineId, StreamId), Stripe>,
    version: u64,
}

impl Corrupting {
    /// Puts one in the place of a member that has not been started.
    pub(crate) fn install(
        subnet: &mut Subnet<Log>,
        at: usize,
        accomplices: BTreeSet<NodeId>,
        corruptions: &Corruptions,
    ) {
        let topology = subnet.topology(0..subnet.members());
        let mut transport = TransportConfig::default();
        transport.max_concurrent_uni_streams(1024_u32.into()).mtu_discovery_config(None);
        transport.receive_window((64_u32 << 20).into()).stream_receive_window((8_u32 << 20).into());
        let bare = BarePeer::new(
            subnet.key(at).clone(),
            &topology,
            &subnet.config(at).transport,
            transport,
            subnet.crypto(),
            at as u64,
            subnet.start_instant(),
        );
        let member = Self {
            bare,
            accomplices,
            corruptions: corruptions.clone(),
            lines: BTreeMap::new(),
            stripes: BTreeMap::new(),
            version: 0,
        };
        subnet.install(at, Box::new(member));
    }

    /// Says hello, and that it publishes nothing.
    fn greet(&mut self, line: LineId, node: NodeId) {
        self.lines.insert(line, node);
        let channels = config(Passing::Relays).channels.iter().map(channel_hello).collect();
        let snapshot = frames::updates(CHANNEL, &[&frames::snapshot(0, &[])]);
        for bytes in [frames::hello(1, channels, Vec::new()), snapshot] {
            if let Some(stream) = self.bare.open(line) {
                self.bare.write(line, stream, bytes, true);
            }
        }
    }

    fn listen(&mut self) {
        let lines: Vec<LineId> = self.lines.keys().copied().collect();
        for line in lines {
            let mut arrived = Vec::new();
            self.bare.read(line, None, |stream, bytes| {
                arrived.push((stream, bytes.map(<[u8]>::to_vec)));
            });
            for (stream, bytes) in arrived {
                match bytes {
                    Some(bytes) => self.take(line, stream, &bytes),
                    None => self.end(line, stream),
                }
            }
        }
    }

    fn take(&mut self, line: LineId, stream: StreamId, mut bytes: &[u8]) {
        let mut stripe = self.stripes.remove(&(line, stream)).unwrap_or_default();
        let new = || StreamDecoder::new(2 * CHUNK_BYTES_MAX);
        let mut decoder = stripe.decoder.take().unwrap_or_else(new);
        while let Ok(Some(item)) = decoder.next(&mut bytes) {
            let Item::Frame { kind, body } = item else { continue };
            if let Ok(Some(chunk)) = Chunk::decode(kind, body) {
                self.pass_on(line, &mut stripe, &chunk);
            } else if let Ok(Some(Update::Advert {
                spread: true, streamed: true, advert, ..
            })) = Update::decode(kind, body)
            {
                stripe.advert = Some(advert);
            }
        }
        stripe.decoder = Some(decoder);
        self.stripes.insert((line, stream), stripe);
    }

    fn pass_on(&mut self, from: LineId, stripe: &mut Stripe, chunk: &Chunk<'_>) {
        // Without one, another member passes its own stripe on.
        let Some(advert) = &stripe.advert else { return };
        let mut wrong = chunk.bytes.to_vec();
        wrong[0] ^= 1;
        let mut frame = Vec::new();
        Chunk { index: chunk.index, proof: chunk.proof.clone(), bytes: &wrong }.encode(&mut frame);
        if stripe.passed_on.is_empty() {
            self.version += 1;
            let flags = (true, false);
            let told = frames::partial(0, self.version, 1, flags, advert, [chunk.index]);
            let begun = frames::updates(CHANNEL, &[&told]);
            for (line, node) in &self.lines {
                if *line == from || self.accomplices.contains(node) {
                    continue;
                }
                let line = *line;
                let Some(stream) = self.bare.open(line) else { continue };
                self.bare.write(line, stream, begun.clone(), false);
                stripe.passed_on.push((line, stream));
                self.corruptions.fetch_add(1, Relaxed);
            }
        }
        for (line, stream) in &stripe.passed_on {
            self.bare.write(*line, *stream, frame.clone(), false);
        }
    }

    fn end(&mut self, line: LineId, stream: StreamId) {
        let stripe = self.stripes.remove(&(line, stream)).unwrap_or_default();
        for (line, stream) in stripe.passed_on {
            self.bare.write(line, stream, Vec::new(), true);
        }
    }
}

impl Process for Corrupting {
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, ecn: Option<Ecn>, datagram: &[u8]) {
        self.bare.handle_datagram(now, from, ecn, datagram);
    }

    fn poll(&mut self, now: Time, send: &mut dyn FnMut(SocketAddr, &[u8])) -> Time {
        loop {
            self.bare.serve(now);
            while let Some(event) = self.bare.next_event() {
                match event {
                    BareEvent::Connected { line, node } => self.greet(line, node),
                    BareEvent::Lost { line } => drop(self.lines.remove(&line)),
                    BareEvent::Stopped { .. } => {}
                }
            }
            self.listen();
            if !self.bare.transmit(now, send) {
                return self.bare.wake_at();
            }
        }
    }
}
