//! A small chained BFT, after Jolteon (Gelashvili et al., 2021): a leader proposes a block on top of the
//! highest certificate, all vote to all, a quorum of votes is its certificate and begins the next view. A view
//! that lasts too long ends by a quorum of timeouts, and the next leader shows that it knows of the highest
//! certificate among them. A block is final when it and its child in the next view have certificates.
//!
//! A block says how many validators vote on its child, at most one more or less than on itself, so that
//! quorums before and after a change have honest validators in common.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use slotcast::id::NodeId;

pub(crate) type Hash = [u8; 32];
/// Validator and Ed25519 signature.
type Signed = BTreeMap<u8, Vec<u8>>;

/// Bytes of blocks in an answer.
const ANSWER_BYTES: usize = 6 << 20;

pub(crate) enum Input {
    Message(Bytes),
    /// Somebody wants the final blocks from this height on.
    Ask(u64, Box<dyn FnOnce(Vec<u8>) + Send>),
    Nothing,
}

/// What connects engines.
pub(crate) trait Net {
    fn next(&mut self, timeout: Duration) -> Result<Input, RecvTimeoutError>;
    /// To all others, in place of what has the same view and name; what is of earlier views ends.
    fn publish(&self, view: u64, name: u32, bytes: Vec<u8>);
    /// Final blocks of another validator, from a height on.
    fn fetch(&self, from: NodeId, height: u64) -> Option<Vec<u8>>;
}

#[derive(Clone, Serialize, Deserialize, Default)]
struct Certificate {
    view: u64,
    block: Hash,
    votes: Signed,
}

/// A quorum that gave up the view before; each with the view of the highest certificate it knew.
#[derive(Clone, Serialize, Deserialize, Default)]
struct Timeouts(BTreeMap<u8, (u64, Vec<u8>)>);

#[derive(Clone, Serialize, Deserialize)]
struct Header {
    view: u64,
    height: u64,
    /// Validators that vote on its children.
    validators: u8,
    /// Of its parent.
    certificate: Certificate,
    timeouts: Option<Timeouts>,
    payload: Hash,
}

#[derive(Clone)]
struct Block {
    header: Header,
    payload: Bytes,
}

#[derive(Serialize, Deserialize)]
enum Message {
    Block(Header),
    Vote { view: u64, block: Hash, by: u8, signature: Vec<u8> },
    Timeout { view: u64, known: Certificate, by: u8, signature: Vec<u8> },
}

/// What the person who watches, and the story, see of an engine, and tell it.
#[derive(Default)]
pub(crate) struct View {
    /// Final blocks.
    pub(crate) chain: Vec<Hash>,
    pub(crate) view: u64,
    pub(crate) timeouts: u64,
    pub(crate) fetched: u64,
    /// Validators that there are to be.
    pub(crate) wanted: u8,
    pub(crate) is_stopped: bool,
}

pub(crate) struct Settings {
    pub(crate) own: u8,
    pub(crate) pair: Ed25519KeyPair,
    /// All that ever validate, in their order.
    pub(crate) keys: Vec<NodeId>,
    pub(crate) genesis_validators: u8,
    pub(crate) payload_bytes: usize,
    /// A leader waits so long before it proposes.
    pub(crate) pause: Duration,
    pub(crate) timeout: Duration,
}

pub(crate) struct Engine<N> {
    net: N,
    settings: Settings,
    seen: Arc<Mutex<View>>,
    view: u64,
    voted: u64,
    deadline: Instant,
    propose_at: Option<Instant>,
    /// The highest certificate.
    high: Certificate,
    blocks: HashMap<Hash, Block>,
    chain: Vec<Block>,
    votes: BTreeMap<(u64, Hash), Signed>,
    timeouts: BTreeMap<u64, Timeouts>,
}

fn hash(bytes: &[u8]) -> Hash {
    digest(&SHA256, bytes).as_ref().try_into().expect("32 bytes")
}

fn quorum(validators: u8) -> usize {
    let faulty = (usize::from(validators) - 1) / 3;
    (usize::from(validators) + faulty) / 2 + 1
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(value).expect("plain data")
}

fn vote_text(view: u64, block: &Hash) -> Vec<u8> {
    encode(&("engine vote", view, block))
}

fn timeout_text(view: u64, known: u64) -> Vec<u8> {
    encode(&("engine timeout", view, known))
}

impl<N: Net> Engine<N> {
    pub(crate) fn new(net: N, settings: Settings, seen: Arc<Mutex<View>>) -> Self {
        let header = Header {
            view: 0,
            height: 0,
            validators: settings.genesis_validators,
            certificate: Certificate::default(),
            timeouts: None,
            payload: hash(b""),
        };
        let genesis = Block { header, payload: Bytes::new() };
        let id = hash(&encode(&genesis.header));
        let high = Certificate { block: id, ..Certificate::default() };
        seen.lock().expect("no panic").chain = vec![id];
        Self {
            net,
            seen,
            view: 1,
            voted: 0,
            deadline: Instant::now() + settings.timeout,
            propose_at: Some(Instant::now()),
            high,
            blocks: HashMap::from([(id, genesis.clone())]),
            chain: vec![genesis],
            votes: BTreeMap::new(),
            timeouts: BTreeMap::new(),
            settings,
        }
    }

    /// Until it is stopped.
    pub(crate) fn run(mut self) {
        while !self.seen.lock().expect("no panic").is_stopped {
            let now = Instant::now();
            if now >= self.deadline {
                self.time_out();
            } else if self.propose_at.is_some_and(|at| at <= now) {
                self.propose_at = None;
                self.propose();
            }
            let next = self.propose_at.map_or(self.deadline, |at| at.min(self.deadline));
            let wait = next.saturating_duration_since(Instant::now());
            match self.net.next(wait.min(Duration::from_millis(50))) {
                Ok(Input::Message(bytes)) => self.handle(bytes),
                Ok(Input::Ask(height, answer)) => answer(self.blocks_from(height)),
                Ok(Input::Nothing) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn handle(&mut self, bytes: Bytes) {
        // A message of another validator may be anything.
        let Ok((message, rest)) = postcard::take_from_bytes(&bytes) else { return };
        match message {
            Message::Block(header) => {
                let payload = bytes.slice_ref(rest);
                self.handle_block(Block { header, payload });
            }
            Message::Vote { view, block, by, signature } => {
                self.handle_vote(view, block, by, signature);
            }
            Message::Timeout { view, known, by, signature } => {
                if self.is_signed(by, &timeout_text(view, known.view), &signature) {
                    self.note_certificate(known.clone());
                    self.note_timeout(view, known.view, by, signature);
                }
            }
        }
    }

    fn handle_block(&mut self, block: Block) {
        let header = &block.header;
        let id = hash(&encode(header));
        if self.blocks.contains_key(&id) || hash(&block.payload) != header.payload {
            return;
        }
        if !self.blocks.contains_key(&header.certificate.block) {
            self.fetch();
        }
        let Some(parent) = self.blocks.get(&header.certificate.block) else { return };
        let validators = parent.header.validators;
        let is_next = header.height == parent.header.height + 1
            && header.view > parent.header.view
            && header.validators.abs_diff(validators) <= 1
            && usize::from(header.validators.max(1)) <= self.settings.keys.len();
        if !is_next || !self.is_certified(&header.certificate) {
            return;
        }
        let follows = header.certificate.view + 1 == header.view;
        if !follows && !self.excuses(header, validators) {
            return;
        }
        let (view, certificate) = (header.view, header.certificate.clone());
        self.blocks.insert(id, block);
        self.note_certificate(certificate);
        if !follows {
            self.enter(view);
        }
        if view == self.view && view > self.voted && self.settings.own < validators {
            self.voted = view;
            let by = self.settings.own;
            let signature = self.sign(&vote_text(view, &id));
            let vote = Message::Vote { view, block: id, by, signature: signature.clone() };
            self.net.publish(view, 1, encode(&vote));
            self.handle_vote(view, id, by, signature);
        } else if let Some(votes) = self.votes.get(&(view, id)).cloned() {
            // Votes may come before what they are for.
            self.certify(view, id, votes);
        }
    }

    /// Whether enough gave up the view before, and none of them knew more than what it builds on.
    fn excuses(&self, header: &Header, validators: u8) -> bool {
        let Some(Timeouts(all)) = &header.timeouts else { return false };
        let view = header.view - 1;
        all.len() >= quorum(validators)
            && all.iter().all(|(by, (known, signature))| {
                *by < validators
                    && *known <= header.certificate.view
                    && self.is_signed(*by, &timeout_text(view, *known), signature)
            })
    }

    fn handle_vote(&mut self, view: u64, block: Hash, by: u8, signature: Vec<u8>) {
        let is_recent = view + 2 >= self.view && view < self.view + 1000;
        if !is_recent || !self.is_signed(by, &vote_text(view, &block), &signature) {
            return;
        }
        let votes = self.votes.entry((view, block)).or_default();
        votes.insert(by, signature);
        let votes = votes.clone();
        self.certify(view, block, votes);
    }

    fn certify(&mut self, view: u64, block: Hash, votes: Signed) {
        if view > self.high.view && self.blocks.contains_key(&block) {
            let certificate = Certificate { view, block, votes };
            self.note_certificate(certificate);
        }
    }

    fn is_certified(&self, certificate: &Certificate) -> bool {
        let Some(block) = self.blocks.get(&certificate.block) else { return false };
        if block.header.height == 0 {
            return certificate.view == 0;
        }
        let Some(parent) = self.blocks.get(&block.header.certificate.block) else { return false };
        let validators = parent.header.validators;
        let text = vote_text(certificate.view, &certificate.block);
        certificate.view == block.header.view
            && certificate.votes.len() >= quorum(validators)
            && certificate
                .votes
                .iter()
                .all(|(by, signature)| *by < validators && self.is_signed(*by, &text, signature))
    }

    /// Something is certified: the next view begins, and an earlier block may be final.
    fn note_certificate(&mut self, certificate: Certificate) {
        if certificate.view <= self.high.view || !self.is_certified(&certificate) {
            return;
        }
        let (view, block) = (certificate.view, certificate.block);
        self.high = certificate;
        let header = &self.blocks[&block].header;
        if header.certificate.view + 1 == view {
            let parent = header.certificate.block;
            self.finalize(parent);
        }
        self.enter(view + 1);
    }

    fn finalize(&mut self, id: Hash) {
        let final_height = self.chain.len() as u64;
        let mut path = Vec::new();
        let mut at = id;
        while let Some(block) = self.blocks.get(&at)
            && block.header.height >= final_height
        {
            path.push((at, block.clone()));
            at = block.header.certificate.block;
        }
        let mut seen = self.seen.lock().expect("no panic");
        for (id, block) in path.into_iter().rev() {
            seen.chain.push(id);
            self.chain.push(block);
        }
        let keep = self.chain.len().saturating_sub(8) as u64;
        self.blocks.retain(|_, block| block.header.height >= keep);
    }

    fn enter(&mut self, view: u64) {
        if view <= self.view {
            return;
        }
        self.view = view;
        self.deadline = Instant::now() + self.settings.timeout;
        self.votes = self.votes.split_off(&(view.saturating_sub(2), [0; 32]));
        self.timeouts = self.timeouts.split_off(&view.saturating_sub(2));
        self.propose_at = Some(Instant::now() + self.settings.pause);
        let mut seen = self.seen.lock().expect("no panic");
        seen.view = view;
    }

    fn propose(&mut self) {
        let (height, validators) = match self.blocks.get(&self.high.block) {
            Some(parent) => (parent.header.height + 1, parent.header.validators),
            None => return,
        };
        if self.view % u64::from(validators) != u64::from(self.settings.own) {
            return;
        }
        let wanted = self.seen.lock().expect("no panic").wanted;
        let payload = Bytes::from(vec![self.view as u8; self.settings.payload_bytes]);
        let header = Header {
            view: self.view,
            height,
            validators: wanted.clamp(validators - 1, validators + 1),
            certificate: self.high.clone(),
            timeouts: self.timeouts.get(&(self.view - 1)).cloned(),
            payload: hash(&payload),
        };
        let mut bytes = encode(&Message::Block(header.clone()));
        bytes.extend_from_slice(&payload);
        self.net.publish(self.view, 0, bytes);
        self.handle_block(Block { header, payload });
    }

    fn time_out(&mut self) {
        self.deadline = Instant::now() + self.settings.timeout;
        self.seen.lock().expect("no panic").timeouts += 1;
        let (view, known, by) = (self.view, self.high.clone(), self.settings.own);
        self.voted = self.voted.max(view);
        let signature = self.sign(&timeout_text(view, known.view));
        let timeout = Message::Timeout { view, known, by, signature: signature.clone() };
        self.net.publish(view, 2, encode(&timeout));
        self.note_timeout(view, self.high.view, by, signature);
        self.fetch();
    }

    fn note_timeout(&mut self, view: u64, known: u64, by: u8, signature: Vec<u8>) {
        let validators = self.blocks[&self.high.block].header.validators;
        if view < self.view || view > self.view + 1000 || by >= validators {
            return;
        }
        let all = &mut self.timeouts.entry(view).or_default().0;
        all.insert(by, (known, signature));
        if all.len() >= quorum(validators) {
            self.enter(view + 1);
        }
    }

    /// Final blocks that others have and this one does not, each checked by the certificate in its child.
    fn fetch(&mut self) {
        let own = usize::from(self.settings.own);
        let others = self.settings.keys.len() - 1;
        let whom = (own + 1 + self.view as usize % others) % (others + 1);
        let height = self.chain.len() as u64;
        let Some(answer) = self.net.fetch(self.settings.keys[whom], height) else { return };
        let Ok(blocks) = postcard::from_bytes::<Vec<(Header, Vec<u8>)>>(&answer) else { return };
        for (header, payload) in blocks {
            let id = hash(&encode(&header));
            let certificate = header.certificate.clone();
            let is_child = self.blocks.get(&certificate.block).is_some_and(|parent| {
                parent.header.height + 1 == header.height
                    && parent.header.validators.abs_diff(header.validators) <= 1
            });
            if !is_child || hash(&payload) != header.payload || !self.is_certified(&certificate) {
                return;
            }
            self.blocks.insert(id, Block { header, payload: payload.into() });
            self.note_certificate(certificate);
            self.seen.lock().expect("no panic").fetched += 1;
        }
    }

    /// Final blocks from a height on, as many as go into an answer, and the two that make the last one final.
    fn blocks_from(&self, height: u64) -> Vec<u8> {
        let mut bytes = 0;
        let mut blocks = Vec::new();
        for block in self.chain.iter().skip(height as usize) {
            bytes += block.payload.len() + 1000;
            if bytes > ANSWER_BYTES {
                break;
            }
            blocks.push((&block.header, &block.payload[..]));
        }
        let mut at = self.high.block;
        let mut rest = Vec::new();
        while let Some(block) = self.blocks.get(&at)
            && block.header.height >= self.chain.len() as u64
            && bytes + block.payload.len() <= ANSWER_BYTES
        {
            rest.push((&block.header, &block.payload[..]));
            at = block.header.certificate.block;
        }
        blocks.extend(rest.into_iter().rev());
        encode(&blocks)
    }

    fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.settings.pair.sign(text).as_ref().to_vec()
    }

    fn is_signed(&self, by: u8, text: &[u8], signature: &[u8]) -> bool {
        let key = self.settings.keys.get(usize::from(by));
        key.is_some_and(|key| {
            UnparsedPublicKey::new(&ED25519, key.0).verify(text, signature).is_ok()
        })
    }
}
