//! Who sends what to whom while one artifact is spread: a table.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config, Relay};
use slotcast::id::ChannelId;
use slotcast::time::Time;
use slotcast_sim::{Application, Bottleneck, Context, Link, Sent, Setup, Subnet};

const CHANNEL: ChannelId = ChannelId(1);

/// Bytes of the artifact: 128 chunks of 16 KiB.
const LENGTH: usize = 2 << 20;

/// Bytes per second that each member can send, and receive: 100 Mbit/s.
const RATE: u64 = 12_500_000;

/// Of each path, in one direction.
const LATENCY: Duration = Duration::from_millis(20);

/// The member that publishes.
const PUBLISHER: usize = 0;

/// Begins each word of the artifact; its offset in the artifact follows, as 8 bytes.
const MARK: [u8; 8] = *b"\xf3spread\x9e";
const WORD: usize = 16;

/// What was sent, and when it was there.
#[derive(Default)]
struct Log {
    chunk_bytes: usize,
    /// By sender and receiver: bytes of datagrams.
    bytes: BTreeMap<(usize, usize), u64>,
    /// By receiver: the first and the last chunk that the publisher has sent.
    stripes: BTreeMap<usize, (usize, usize)>,
    had_at: BTreeMap<usize, Time>,
}

impl Application for Log {
    fn handle_event(&mut self, node: &mut Context<'_>, _: ChannelId, event: Event) {
        if let Event::Delivered { .. } = event {
            self.had_at.insert(node.at(), node.time());
        }
    }

    fn handle_sent(&mut self, sent: &Sent<'_>) {
        *self.bytes.entry((sent.from, sent.to)).or_default() += sent.bytes.len() as u64;
        if sent.from != PUBLISHER {
            return;
        }
        for word in sent.bytes.windows(WORD).filter(|word| word.starts_with(&MARK)) {
            let offset = u64::from_le_bytes(word[MARK.len()..].try_into().expect("eight bytes"));
            // Of a word that is cut by the end of a frame, what follows is something else.
            if offset >= LENGTH as u64 || !offset.is_multiple_of(WORD as u64) {
                continue;
            }
            let chunk = offset as usize / self.chunk_bytes;
            let (first, last) = self.stripes.entry(sent.to).or_insert((chunk, chunk));
            (*first, *last) = ((*first).min(chunk), (*last).max(chunk));
        }
    }
}

fn artifact() -> Artifact {
    let word = |at: usize| [MARK, ((at * WORD) as u64).to_le_bytes()].concat();
    let bytes: Vec<u8> = (0..LENGTH / WORD).flat_map(word).collect();
    Artifact::new(bytes.into(), b"spread").expect("within the limits")
}

/// Lets member 0 of so many spread an artifact, on connections that are otherwise idle. `None` if it has
/// not reached everybody after a minute.
pub(crate) fn table(members: usize, seed: u64) -> Option<String> {
    let mut config = Config::new([ChannelConfig::new(CHANNEL).relaying(Relay::Automatic, 64)]);
    config.peers_max = config.peers_max.max(members as u16);
    let access = Bottleneck::new(RATE, Duration::from_millis(100));
    let setup = Setup::new(&config, members).seed(seed).link(Link::new(LATENCY));
    let mut subnet = Subnet::new(setup.uplink(access).downlink(access), Log::default());
    subnet.run_until("all are connected", Duration::from_secs(60), |subnet| {
        let is_up = |at| subnet.node(at).is_some_and(|n| n.peers_up().count() == members - 1);
        (0..members).all(is_up)
    });
    subnet.elapse(Duration::from_secs(1));
    let artifact = artifact();
    subnet.application.bytes.clear();
    subnet.application.chunk_bytes = artifact.advert().chunk_size();
    let begun = subnet.now();
    let published = subnet.command(PUBLISHER, |_, node| node.publish(CHANNEL, artifact.clone()));
    published.expect("it runs").expect("there is room");
    let have_all = |subnet: &mut Subnet<Log>| subnet.application.had_at.len() == members - 1;
    let have_all = subnet.run(begun + Duration::from_secs(60), have_all);
    have_all.then(|| draw(members, &artifact, begun, &subnet.application))
}

fn draw(members: usize, artifact: &Artifact, begun: Time, log: &Log) -> String {
    let advert = artifact.advert();
    let mut text = format!(
        "member {PUBLISHER} spreads {} KiB, {} chunks of {} KiB, to {} others; each sends {} kB/s, \
         {} ms away\nstripe: what the publisher sends a member, which passes it on to all others; \
         S/B + 2L is {:.0} ms\n\n",
        LENGTH >> 10,
        advert.chunks(),
        advert.chunk_size() >> 10,
        members - 1,
        RATE / 1_000,
        LATENCY.as_millis(),
        1e3 * (LENGTH as f64 / RATE as f64 + 2.0 * LATENCY.as_secs_f64()),
    );
    text += "member        stripe  has it after  sends  KiB to member\n";
    text += "                                      KiB ";
    (0..members).for_each(|to| write!(text, "{to:>5}").expect("a string takes all"));
    for from in 0..members {
        let stripe = match log.stripes.get(&from) {
            Some((first, last)) => format!("{first} to {last}"),
            None if from == PUBLISHER => "publishes".to_string(),
            None => "none".to_string(),
        };
        let had = log.had_at.get(&from).map(|time| time.since(begun).as_millis());
        let had = had.map_or(String::new(), |ms| format!("{ms} ms"));
        let to = |to: usize| log.bytes.get(&(from, to)).copied().unwrap_or(0) >> 10;
        let all: u64 = (0..members).map(to).sum();
        write!(text, "\n{from:>6}  {stripe:>12}  {had:>12}  {all:>5} ")
            .expect("a string takes all");
        for cell in 0..members {
            let cell = if cell == from { "-".to_string() } else { to(cell).to_string() };
            write!(text, "{cell:>5}").expect("a string takes all");
        }
    }
    text
}
