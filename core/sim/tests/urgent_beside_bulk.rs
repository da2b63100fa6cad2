//! W4: how long urgent artifacts take beside bulk transfers that never pause, on a path of 100 ms there
//! and back.
//!
//! The publisher is the node at place 0. Each other node gets urgent artifacts, bulk ones or both: a
//! node that does not have a channel is sent nothing of it. Where nothing but windows bounds the rate,
//! no datagram waits in the network, and all that an urgent artifact waits for is the publisher.

use std::collections::BTreeMap;
use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Class, Config};
use slotcast::id::{ArtifactId, ChannelId};
use slotcast::time::Time;
use slotcast_sim::{Application, Bottleneck, Chance, Context, Link, Setup, Subnet};

const URGENT: ChannelId = ChannelId(1);
const BULK: [ChannelId; 3] = [ChannelId(2), ChannelId(3), ChannelId(4)];

const ONE_WAY: Duration = ms(50);

const URGENT_BYTES: usize = 200;
const URGENT_EVERY: Duration = ms(37);

/// Transfers of a bulk channel that are under way at the same time, so that none of the channels
/// pauses between two.
const BULK_AT_ONCE: usize = 2;

/// Before anything is measured: congestion windows are open, and queues are full.
const WARM_UP: Duration = ms(1_200);

/// 100 Mbit/s.
const UPLINK: u64 = 12_500_000;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What a node receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Receives {
    Urgent,
    Bulk,
    Both,
}

/// A path, and what is sent over it.
#[derive(Clone, Debug)]
struct Case {
    receivers: Vec<Receives>,
    stream_window: u32,
    mtu_max: u16,
    /// Of the publisher.
    uplink: Bottleneck,
    /// Of the link to each receiver of bulk artifacts, in bytes per second; 0 for no bound.
    bulk_link_rate: u64,
    /// The rate to which the publisher shapes what it sends, in bytes per second.
    shaped_to: Option<u64>,
    bulk_bytes: usize,
    /// Before the first urgent artifact, the links to receivers of bulk ones lose all for so long.
    outage: Duration,
    urgent_count: usize,
}

impl Case {
    fn new(receivers: impl IntoIterator<Item = Receives>) -> Self {
        Self {
            receivers: receivers.into_iter().collect(),
            stream_window: 2 << 20,
            mtu_max: 1_500,
            uplink: Bottleneck::default(),
            bulk_link_rate: 0,
            shaped_to: None,
            bulk_bytes: 16 << 20,
            outage: Duration::ZERO,
            urgent_count: 60,
        }
    }

    /// The same with no bulk artifacts.
    fn alone(&self) -> Self {
        Self { bulk_bytes: 0, ..self.clone() }
    }

    fn setup(&self) -> Setup {
        let urgent = ChannelConfig::new(URGENT).class(Class::Urgent);
        let bulk = BULK.map(|id| ChannelConfig::new(id).class(Class::Bulk));
        let config = |receives| {
            let mut channels = Vec::new();
            if receives != Receives::Bulk {
                channels.push(urgent.clone());
            }
            if receives != Receives::Urgent {
                channels.extend(bulk.clone());
            }
            let mut config = Config::new(channels);
            config.transport.stream_window = self.stream_window;
            config.transport.mtu_max = self.mtu_max;
            config
        };
        let mut publisher = config(Receives::Both);
        if let Some(rate) = self.shaped_to {
            publisher.transport.uplink = Some(rate);
        }
        let receivers = self.receivers.iter().map(|receives| config(*receives));
        let configs = std::iter::once(publisher).chain(receivers).collect();
        Setup::with_configs(configs).link(Link::new(ONE_WAY)).seed(4)
    }

    fn run(&self) -> Figures {
        Run::new(self).course()
    }
}

/// When each artifact was delivered at which node.
#[derive(Default)]
struct Log {
    delivered: BTreeMap<(usize, ArtifactId), Time>,
}

impl Application for Log {
    fn handle_event(&mut self, context: &mut Context<'_>, _: ChannelId, event: Event) {
        if let Event::Delivered { artifact, .. } = event {
            self.delivered.insert((context.at(), artifact.id()), context.time());
        }
    }
}

/// What a run came to.
#[derive(Debug)]
struct Figures {
    /// From publishing to delivery, at those that receive urgent artifacts only, and at those that
    /// receive both; in ascending order.
    beside: Vec<Duration>,
    among: Vec<Duration>,
    /// Bytes of datagrams that all receivers have received per second.
    rate: f64,
}

impl Figures {
    /// The longest of the 99th percentiles.
    fn p99(&self) -> Duration {
        p99(&self.beside).max(p99(&self.among))
    }
}

/// The 99th percentile, of at most 100 values the longest; zero without any.
fn p99(latencies: &[Duration]) -> Duration {
    let count = (latencies.len() * 99).div_ceil(100);
    count.checked_sub(1).map_or(Duration::ZERO, |at| latencies[at])
}

struct Run<'a> {
    case: &'a Case,
    subnet: Subnet<Log>,
    bulk: Vec<(ChannelId, ArtifactId)>,
    urgent: Vec<(Time, ArtifactId)>,
    /// Published so far; makes each artifact another one.
    count: u64,
}

impl<'a> Run<'a> {
    fn new(case: &'a Case) -> Self {
        let mut subnet = Subnet::new(case.setup(), Log::default());
        *subnet.network.uplink(0) = case.uplink;
        for at in (1..).zip(&case.receivers).filter(|(_, of)| **of != Receives::Urgent) {
            let link = subnet.network.link(0, at.0);
            link.bytes_per_second = case.bulk_link_rate;
            link.queue_bytes_max = case.bulk_link_rate / 20;
        }
        let count = case.receivers.len();
        let are_up = |subnet: &mut Subnet<Log>| (1..=count).all(|at| subnet.is_up(0, at));
        subnet.run_until("connected", ms(10_000), are_up);
        Self { case, subnet, bulk: Vec::new(), urgent: Vec::new(), count: 0 }
    }

    fn course(mut self) -> Figures {
        self.keep_up_bulk();
        // An outage shows with windows that have opened as far as they can.
        let warm_at = self.subnet.now() + WARM_UP + 2 * self.case.outage;
        while self.subnet.now() < warm_at {
            self.step();
        }
        self.cut_off_bulk_receivers(self.case.outage);
        let (begun, received_before) = (self.subnet.now(), self.received());
        for _ in 0..self.case.urgent_count {
            let id = self.publish(URGENT, URGENT_BYTES);
            self.urgent.push((self.subnet.now(), id));
            self.step();
        }
        let seconds = self.subnet.now().since(begun).as_secs_f64();
        let rate = (self.received() - received_before) as f64 / seconds;
        self.figures(rate)
    }

    fn cut_off_bulk_receivers(&mut self, span: Duration) {
        let receivers: Vec<usize> = self.receivers(|receives| receives != Receives::Urgent);
        for (loss, span) in [(Chance::percent(100), span), (Chance::NEVER, Duration::ZERO)] {
            receivers.iter().for_each(|at| self.subnet.network.link(0, *at).loss = loss);
            self.subnet.elapse(span);
        }
    }

    /// Bytes that all receivers have received.
    fn received(&self) -> u64 {
        let receivers = (1..=self.case.receivers.len()).filter_map(|at| self.subnet.node(at));
        receivers.map(|node| node.stats().received_bytes).sum()
    }

    fn step(&mut self) {
        self.subnet.elapse(URGENT_EVERY);
        self.keep_up_bulk();
    }

    /// Replaces bulk artifacts that all have by others.
    fn keep_up_bulk(&mut self) {
        if self.case.bulk_bytes == 0 {
            return;
        }
        let receivers: Vec<usize> = self.receivers(|receives| receives != Receives::Urgent);
        for (channel, id) in std::mem::take(&mut self.bulk) {
            match receivers.iter().all(|at| self.subnet.application.has(*at, &id)) {
                true => self.abort(channel, &id),
                false => self.bulk.push((channel, id)),
            }
        }
        for channel in BULK {
            while self.bulk.iter().filter(|(on, _)| *on == channel).count() < BULK_AT_ONCE {
                let id = self.publish(channel, self.case.bulk_bytes);
                self.bulk.push((channel, id));
            }
        }
    }

    /// The places of those that receive what is asked for.
    fn receivers(&self, is_asked_for: impl Fn(Receives) -> bool) -> Vec<usize> {
        let places = self.case.receivers.iter().zip(1..);
        places.filter(|(receives, _)| is_asked_for(**receives)).map(|(_, at)| at).collect()
    }

    fn publish(&mut self, channel: ChannelId, length: usize) -> ArtifactId {
        self.count += 1;
        let mut bytes = vec![0; length];
        bytes[..8].copy_from_slice(&self.count.to_be_bytes());
        let artifact = Artifact::new(bytes.into(), &[]).expect("within the format's limits");
        let id = artifact.id();
        let published = self.subnet.command(0, |_, node| node.publish(channel, artifact));
        published.expect("it runs").expect("there is room");
        id
    }

    fn abort(&mut self, channel: ChannelId, id: &ArtifactId) {
        self.subnet.command(0, |_, node| node.abort(channel, id));
    }

    fn figures(mut self, rate: f64) -> Figures {
        let [beside, among] = [Receives::Urgent, Receives::Both].map(|of| {
            let places = self.receivers(|receives| receives == of);
            let mut latencies = Vec::new();
            for (published_at, id) in self.urgent.clone() {
                for at in &places {
                    let has = |subnet: &mut Subnet<Log>| subnet.application.has(*at, &id);
                    self.subnet.run_until("the urgent one", ms(20_000), has);
                    let delivered_at = self.subnet.application.delivered[&(*at, id)];
                    latencies.push(delivered_at.since(published_at));
                }
            }
            latencies.sort_unstable();
            latencies
        });
        Figures { beside, among, rate }
    }
}

impl Log {
    fn has(&self, at: usize, id: &ArtifactId) -> bool {
        self.delivered.contains_key(&(at, *id))
    }
}

/// Urgent artifacts take at most 1.2 times as long as alone, while bulk ones take what they can.
fn assert_unhindered(case: &Case, rate_min: f64) {
    let alone = case.alone().run().p99();
    assert_eq!(alone, ONE_WAY);
    let figures = case.run();
    let (p99, rate) = (figures.p99(), figures.rate);
    println!("urgent p99 {p99:?}, alone {alone:?}; {:.1} MB/s", rate / 1e6);
    let Case { stream_window, mtu_max, receivers, .. } = case;
    let what = format!("{receivers:?}, stream window {stream_window}, MTU {mtu_max}");
    assert!(rate >= rate_min, "{what}: {rate} B/s are no load");
    assert!(p99 <= alone * 6 / 5, "{what}: {p99:?}, alone {alone:?}");
}

/// All to one peer. Nothing but windows bounds the rate, which is at least about that of one stream.
fn to_the_same_peer(stream_window: u32, mtu_max: u16) {
    let case = Case { stream_window, mtu_max, ..Case::new([Receives::Both]) };
    let rate_min = 0.8 * f64::from(stream_window) / (2 * ONE_WAY).as_secs_f64();
    assert_unhindered(&case, rate_min);
}

#[test]
fn w4_to_the_same_peer_with_windows_of_2_mib() {
    to_the_same_peer(2 << 20, 1_500);
}

#[test]
fn w4_to_the_same_peer_with_windows_of_2_mib_and_long_datagrams() {
    to_the_same_peer(2 << 20, 9_000);
}

#[test]
fn w4_to_the_same_peer_with_windows_of_8_mib() {
    to_the_same_peer(8 << 20, 1_500);
}

#[test]
fn w4_to_the_same_peer_with_windows_of_8_mib_and_long_datagrams() {
    to_the_same_peer(8 << 20, 9_000);
}

/// Urgent ones to a peer that gets no bulk ones, over links that share nothing.
fn to_another_peer(bulk_receivers: usize, stream_window: u32) {
    const LINK_RATE: u64 = 8_000_000;
    for mtu_max in [1_500, 9_000] {
        let mut receivers = vec![Receives::Bulk; bulk_receivers];
        receivers.push(Receives::Urgent);
        let bulk_link_rate = LINK_RATE;
        let case = Case { bulk_link_rate, stream_window, mtu_max, ..Case::new(receivers) };
        assert_unhindered(&case, 0.8 * (bulk_receivers as u64 * LINK_RATE) as f64);
    }
}

#[test]
fn w4_to_another_peer_than_bulk() {
    to_another_peer(1, 2 << 20);
    to_another_peer(1, 8 << 20);
}

#[test]
fn w4_to_another_peer_than_bulk_to_many_with_windows_of_2_mib() {
    to_another_peer(3, 2 << 20);
}

#[test]
fn w4_to_another_peer_than_bulk_to_many_with_windows_of_8_mib() {
    to_another_peer(3, 8 << 20);
}

/// Urgent ones to all peers, of which all but one get bulk ones, too. These saturate the publisher's
/// uplink, whose queue lasts for 100 ms. How much longer than the way urgent ones took.
fn over_a_shared_uplink(bulk_receivers: usize, shaped_to: Option<u64>) -> Duration {
    let mut receivers = vec![Receives::Both; bulk_receivers];
    receivers.push(Receives::Urgent);
    let uplink = Bottleneck::new(UPLINK, ms(100));
    let case =
        Case { uplink, shaped_to, bulk_bytes: 4 << 20, urgent_count: 100, ..Case::new(receivers) };
    let figures = case.run();
    let late = |latencies| p99(latencies) - ONE_WAY;
    println!(
        "{bulk_receivers} peers, shaped to {shaped_to:?}: urgent p99 {:?} above one way, {:?} to peers \
         that get bulk; {:.2} MB/s",
        late(&figures.beside),
        late(&figures.among),
        figures.rate / 1e6,
    );
    assert!(figures.rate >= 0.85 * UPLINK as f64, "{} B/s do not saturate it", figures.rate);
    figures.p99() - ONE_WAY
}

/// What an uplink that is not shaped costs is the queue of the router, of which bulk data leaves some
/// empty: less, the more peers it is sent to.
#[test]
fn w4_over_a_shared_uplink_to_4_peers() {
    let late = over_a_shared_uplink(4, None);
    assert!(late <= ms(75), "{late:?}");
}

#[test]
fn w4_over_a_shared_uplink_to_12_peers() {
    let late = over_a_shared_uplink(12, None);
    assert!(late <= ms(90), "{late:?}");
}

/// Below the uplink's rate, which counts headers, too.
const SHAPED_TO: u64 = UPLINK * 95 / 100;

#[test]
fn w4_over_a_shared_uplink_to_4_peers_shaped() {
    let late = over_a_shared_uplink(4, Some(SHAPED_TO));
    assert!(late <= ms(5), "{late:?}");
}

#[test]
fn w4_over_a_shared_uplink_to_12_peers_shaped() {
    let late = over_a_shared_uplink(12, Some(SHAPED_TO));
    assert!(late <= ms(5), "{late:?}");
}

/// What a whole window to each of several peers held is lost, and sent again as soon as the links are
/// back. Urgent artifacts to a peer that has lost nothing do not wait for it.
#[test]
fn w4_over_a_shared_uplink_beside_what_is_sent_again_shaped() {
    let mut receivers = vec![Receives::Bulk; 8];
    receivers.push(Receives::Urgent);
    let uplink = Bottleneck::new(UPLINK, ms(100));
    let (shaped_to, outage) = (Some(SHAPED_TO), ms(1_000));
    let case = Case { uplink, shaped_to, outage, bulk_bytes: 4 << 20, ..Case::new(receivers) };
    let late = case.run().p99() - ONE_WAY;
    println!("urgent p99 {late:?} above one way");
    assert!(late <= ms(5), "{late:?}");
}
