//! A small chained BFT, after Jolteon (Gelashvili et al., 2021): a leader proposes a block on top of the
//! highest certificate, all vote to all, a quorum of votes is its certificate and begins the next view. A view
//! that lasts too long ends by a quorum of timeouts, and the next leader shows that it knows of the highest
//! certificate among them. A block is final when it and its child in the next view have certificates.
//!
//! A block says how many validators vote on its child, at most one more or less than on itself, so that
//! quorums before and after a change have honest validators in common.
//!
//! A validator that misses blocks asks another for them and goes on meanwhile. Headers prove a chain, so
//! payloads of old blocks are not kept: a real replica has a checkpoint of its state instead. A real replica
//! also stores its last vote. Here, one that was restarted could vote twice, and counts as faulty.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use bytes::Bytes;
use slotcast::id::NodeId;

use crate::block::*;

/// An answer ends with the block that makes it longer than this.
pub(crate) const ANSWER_BYTES: usize = 2 << 20;
/// Final blocks whose payloads are kept.
const KEPT: usize = 8;
/// Blocks that wait for their parents: more than come while an answer is on its way.
const ORPHANS_MAX: usize = 8;
/// Votes and timeouts of later views than these in advance are not kept.
const VIEWS_AHEAD: u64 = 1000;

pub(crate) enum Input {
    Message(Bytes),
    /// Somebody wants the blocks from this height on.
    Ask(u64, Box<dyn FnOnce(Vec<u8>) + Send>),
    /// What [`Net::ask`] brought, if anything.
    Answer(Option<Bytes>),
    Nothing,
}

/// What connects engines. Only `next` waits.
pub(crate) trait Net {
    fn next(&mut self, timeout: Duration) -> Result<Input, RecvTimeoutError>;
    /// To all others, in place of what has the same view and name; what is of earlier views ends.
    fn publish(&self, view: u64, name: u32, bytes: Vec<u8>);
    /// Asks another validator for its blocks from a height on. An [`Input::Answer`] always follows.
    fn ask(&mut self, whom: usize, height: u64);
}

/// What an engine shows, and what it is told.
#[derive(Default)]
pub(crate) struct View {
    /// Final blocks.
    pub(crate) chain: Vec<Hash>,
    /// How many vote after the last final block.
    pub(crate) validators: u8,
    pub(crate) view: u64,
    pub(crate) timeouts: u64,
    pub(crate) fetched: u64,
    /// How many validators there are to be.
    pub(crate) wanted: u8,
    pub(crate) is_stopped: bool,
}

pub(crate) struct Settings {
    pub(crate) own: u8,
    pub(crate) pair: Ed25519KeyPair,
    /// All that ever validate, in their order.
    pub(crate) keys: Vec<NodeId>,
    /// There are never fewer.
    pub(crate) genesis_validators: u8,
    pub(crate) payload_bytes: usize,
    /// A leader waits so long before it proposes.
    pub(crate) pause: Duration,
    /// Of a view that follows a certificate. Doubles with each view without one.
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
    /// The highest certificate. Its block is in `blocks`.
    high: Certificate,
    /// The last final blocks, and all that may become final.
    blocks: HashMap<Hash, Block>,
    chain: Vec<Block>,
    orphans: VecDeque<(Block, Signature)>,
    votes: BTreeMap<u64, BTreeMap<u8, (Hash, Signature)>>,
    timeouts: BTreeMap<u64, Timeouts>,
    is_asking: bool,
    asked: usize,
}

impl<N: Net> Engine<N> {
    pub(crate) fn new(net: N, settings: Settings, seen: Arc<Mutex<View>>) -> Self {
        let header = Header {
            view: 0,
            height: 0,
            validators: settings.genesis_validators,
            certificate: Certificate::default(),
            timeouts: Timeouts::new(),
            payload: hash(b""),
        };
        let genesis = Block { header, payload: None };
        let id = genesis.id();
        seen.lock().expect("no panic").chain = vec![id];
        Self {
            net,
            seen,
            view: 1,
            voted: 0,
            deadline: Instant::now() + settings.timeout,
            propose_at: Some(Instant::now()),
            high: Certificate { block: id, ..Certificate::default() },
            blocks: HashMap::from([(id, genesis.clone())]),
            chain: vec![genesis],
            orphans: VecDeque::new(),
            votes: BTreeMap::new(),
            timeouts: BTreeMap::new(),
            is_asking: false,
            asked: 0,
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
            match self.net.next(wait.min(Duration::from_millis(20))) {
                Ok(Input::Message(bytes)) => self.handle(bytes),
                Ok(Input::Ask(height, answer)) => answer(self.blocks_from(height)),
                Ok(Input::Answer(answer)) => self.handle_answer(answer.unwrap_or_default()),
                Ok(Input::Nothing) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn handle(&mut self, bytes: Bytes) {
        // A message of another validator may be anything.
        let Ok((message, rest)) = postcard::take_from_bytes(&bytes) else { return };
        match message {
            Message::Block(header, signature) => {
                let payload = Some(bytes.slice_ref(rest));
                self.handle_block(Block { header, payload }, signature);
            }
            Message::Vote { view, block, by, signature } => {
                if self.is_signed(by, &vote_text(view, &block), &signature) {
                    self.note_vote(view, block, by, signature);
                }
            }
            Message::Timeout { view, known, by, signature } => {
                if self.is_signed(by, &timeout_text(view, known.view), &signature) {
                    let known_view = known.view;
                    self.handle_certificate(known);
                    self.note_timeout(view, known_view, by, signature);
                }
            }
        }
    }

    fn handle_block(&mut self, block: Block, signature: Signature) {
        let (id, header) = (block.id(), &block.header);
        if self.blocks.contains_key(&id) || !block.is_intact() {
            return;
        }
        if !self.blocks.contains_key(&header.certificate.block) {
            if self.orphans.len() == ORPHANS_MAX {
                self.orphans.pop_front();
            }
            self.orphans.push_back((block, signature));
            return self.ask();
        }
        let Some(validators) = self.check(header) else { return };
        let (view, certificate) = (header.view, header.certificate.clone());
        let leader = leader(view, validators);
        let follows = certificate.view + 1 == view;
        if !self.is_signed(leader, &vote_text(view, &id), &signature)
            || !(follows || self.excuses(header, validators))
        {
            return;
        }
        self.blocks.insert(id, block);
        self.accept(certificate);
        if !follows {
            self.enter(view);
        }
        self.note_vote(view, id, leader, signature);
        let by = self.settings.own;
        if view == self.view && view > self.voted && by < validators {
            self.voted = view;
            let signature = self.sign(&vote_text(view, &id));
            let vote = Message::Vote { view, block: id, by, signature: signature.clone() };
            self.net.publish(view, 1, encode(&vote));
            self.note_vote(view, id, by, signature);
        }
        self.certify(view, id);
        self.adopt_orphans();
    }

    /// Blocks whose parents have come.
    fn adopt_orphans(&mut self) {
        let height = self.chain.len() as u64;
        self.orphans.retain(|(block, _)| block.header.height >= height);
        let has_parent = |(block, _): &(Block, Signature)| {
            self.blocks.contains_key(&block.header.certificate.block)
        };
        // Each one that is taken in calls for the next.
        if let Some(at) = self.orphans.iter().position(has_parent) {
            let (block, signature) = self.orphans.remove(at).expect("found");
            self.handle_block(block, signature);
            self.adopt_orphans();
        }
    }

    /// How many validators vote on a block, if it may follow its parent, which is known.
    fn check(&self, header: &Header) -> Option<u8> {
        let parent = &self.blocks.get(&header.certificate.block)?.header;
        let counts = self.settings.genesis_validators..=self.settings.keys.len() as u8;
        let is_next = header.height == parent.height + 1
            && header.view > parent.view
            && header.validators.abs_diff(parent.validators) <= 1
            && counts.contains(&header.validators);
        (is_next && self.is_certified(&header.certificate)).then_some(parent.validators)
    }

    /// Whether enough gave up the view before, and none of them knew more than what it builds on.
    fn excuses(&self, header: &Header, validators: u8) -> bool {
        let view = header.view - 1;
        header.timeouts.len() >= quorum(validators)
            && header.timeouts.iter().all(|(by, (known, signature))| {
                *by < validators
                    && *known <= header.certificate.view
                    && self.is_signed(*by, &timeout_text(view, *known), signature)
            })
    }

    /// How many vote on a known block.
    fn voters(&self, block: &Hash) -> Option<u8> {
        let header = &self.blocks.get(block)?.header;
        Some(self.blocks.get(&header.certificate.block)?.header.validators)
    }

    fn is_certified(&self, certificate: &Certificate) -> bool {
        let Certificate { view, block, votes } = certificate;
        let is_of = self.blocks.get(block).is_some_and(|block| block.header.view == *view);
        // Genesis needs no votes.
        is_of
            && (*view == 0
                || self.voters(block).is_some_and(|validators| {
                    let text = vote_text(*view, block);
                    votes.len() >= quorum(validators)
                        && votes.iter().all(|(by, signature)| {
                            *by < validators && self.is_signed(*by, &text, signature)
                        })
                }))
    }

    /// A vote whose signature is right. The first one of a view counts.
    fn note_vote(&mut self, view: u64, block: Hash, by: u8, signature: Signature) {
        if view + 2 >= self.view && view < self.view + VIEWS_AHEAD {
            self.votes.entry(view).or_default().entry(by).or_insert((block, signature));
            self.certify(view, block);
        }
    }

    /// Votes may come before what they are for.
    fn certify(&mut self, view: u64, block: Hash) {
        let Some(validators) = self.voters(&block) else { return };
        let Some(all) = self.votes.get(&view) else { return };
        let of_block = all.range(..validators).filter(|(_, vote)| vote.0 == block);
        if self.blocks[&block].header.view == view && of_block.clone().count() >= quorum(validators)
        {
            let votes = of_block.map(|(by, vote)| (*by, vote.1.clone())).collect();
            self.accept(Certificate { view, block, votes });
        }
    }

    /// A certificate that came without its block.
    fn handle_certificate(&mut self, certificate: Certificate) {
        if certificate.view > self.high.view {
            if !self.blocks.contains_key(&certificate.block) {
                self.ask();
            } else if self.is_certified(&certificate) {
                self.accept(certificate);
            }
        }
    }

    /// A block is certified: the next view begins, and its parent may be final.
    fn accept(&mut self, certificate: Certificate) {
        if certificate.view <= self.high.view {
            return;
        }
        let view = certificate.view;
        let parent = self.blocks[&certificate.block].header.certificate.clone();
        self.high = certificate;
        if parent.view + 1 == view {
            self.finalize(parent.block);
        }
        self.enter(view + 1);
    }

    fn finalize(&mut self, id: Hash) {
        let path: Vec<_> = self.path(id).map(|(id, block)| (id, block.clone())).collect();
        let mut seen = self.seen.lock().expect("no panic");
        for (id, block) in path.into_iter().rev() {
            seen.chain.push(id);
            seen.validators = block.header.validators;
            self.chain.push(block);
            if let Some(old) = self.chain.len().checked_sub(KEPT + 1) {
                self.chain[old].payload = None;
            }
        }
        let keep = self.chain.len().saturating_sub(KEPT) as u64;
        self.blocks.retain(|_, block| block.header.height >= keep);
    }

    /// A block and its ancestors that are not final yet, the highest first.
    fn path(&self, id: Hash) -> impl Iterator<Item = (Hash, &Block)> {
        let known = |id: Hash| self.blocks.get(&id).map(|block| (id, block));
        std::iter::successors(known(id), move |(_, block)| known(block.header.certificate.block))
            .take_while(|(_, block)| block.header.height >= self.chain.len() as u64)
    }

    fn enter(&mut self, view: u64) {
        if view <= self.view {
            return;
        }
        self.view = view;
        self.deadline = Instant::now() + self.patience();
        self.votes = self.votes.split_off(&view.saturating_sub(2));
        self.timeouts = self.timeouts.split_off(&view.saturating_sub(2));
        self.propose_at = Some(Instant::now() + self.settings.pause);
        self.seen.lock().expect("no panic").view = view;
    }

    /// Views since the last one with a certificate, without this one.
    fn lost_views(&self) -> u64 {
        self.view - self.high.view - 1
    }

    fn patience(&self) -> Duration {
        self.settings.pause + self.settings.timeout * (1 << self.lost_views().min(4))
    }

    fn propose(&mut self) {
        let parent = &self.blocks[&self.high.block].header;
        let (view, height, validators) = (self.view, parent.height + 1, parent.validators);
        if view <= self.voted || leader(view, validators) != self.settings.own {
            return;
        }
        let high_view = self.high.view;
        let mut timeouts = self.timeouts.get(&(view - 1)).cloned().unwrap_or_default();
        timeouts.retain(|by, (known, _)| *by < validators && *known <= high_view);
        if high_view + 1 == view {
            timeouts.clear();
        }
        let wanted = self.seen.lock().expect("no panic").wanted;
        let payload = Bytes::from(vec![view as u8; self.settings.payload_bytes]);
        let header = Header {
            view,
            height,
            validators: wanted.clamp(validators - 1, validators + 1),
            certificate: self.high.clone(),
            timeouts,
            payload: hash(&payload),
        };
        let block = Block { header, payload: Some(payload) };
        self.voted = view;
        let vote = self.sign(&vote_text(view, &block.id()));
        let mut bytes = encode(&Message::Block(block.header.clone(), vote.clone()));
        bytes.extend_from_slice(block.payload.as_deref().expect("just made"));
        self.net.publish(view, 0, bytes);
        self.handle_block(block, vote);
    }

    fn time_out(&mut self) {
        self.deadline = Instant::now() + self.patience();
        self.seen.lock().expect("no panic").timeouts += 1;
        let (view, known, by) = (self.view, self.high.clone(), self.settings.own);
        self.voted = self.voted.max(view);
        let signature = self.sign(&timeout_text(view, known.view));
        let timeout = Message::Timeout { view, known, by, signature: signature.clone() };
        self.net.publish(view, 2, encode(&timeout));
        if self.lost_views() > 0 {
            self.ask();
        }
        self.note_timeout(view, self.high.view, by, signature);
    }

    /// A timeout whose signature is right.
    fn note_timeout(&mut self, view: u64, known: u64, by: u8, signature: Signature) {
        let validators = self.blocks[&self.high.block].header.validators;
        if view < self.view || view > self.view + VIEWS_AHEAD || by >= validators {
            return;
        }
        let all = self.timeouts.entry(view).or_default();
        all.insert(by, (known, signature));
        let (count, has_own) = (all.len(), all.contains_key(&self.settings.own));
        if count >= quorum(validators) {
            self.enter(view + 1);
        } else if count > faulty(validators) && !has_own {
            // An honest one gave up: so does this one.
            self.enter(view);
            self.deadline = Instant::now();
        }
    }

    /// Asks one after the other, one at a time.
    fn ask(&mut self) {
        if !self.is_asking {
            let all = self.settings.keys.len();
            let whom = (usize::from(self.settings.own) + 1 + self.asked % (all - 1)) % all;
            self.is_asking = true;
            self.asked += 1;
            self.net.ask(whom, self.chain.len() as u64);
        }
    }

    /// Blocks that another one has, each checked by the certificate in its child.
    fn handle_answer(&mut self, mut answer: Bytes) {
        self.is_asking = false;
        let height = self.chain.len();
        while let Some(block) = Block::read(&mut answer) {
            let id = block.id();
            if block.header.height < self.chain.len() as u64 || self.blocks.contains_key(&id) {
                continue;
            }
            if !block.is_intact() || self.check(&block.header).is_none() {
                return;
            }
            let certificate = block.header.certificate.clone();
            self.blocks.insert(id, block);
            self.accept(certificate);
            self.seen.lock().expect("no panic").fetched += 1;
        }
        self.adopt_orphans();
        if self.chain.len() > height && !self.orphans.is_empty() {
            self.ask();
        }
    }

    /// Blocks from a height on, as many as go into an answer: final ones, then those up to the highest certificate.
    fn blocks_from(&self, height: u64) -> Vec<u8> {
        let mut answer = Vec::new();
        let open: Vec<_> = self.path(self.high.block).map(|(_, block)| block).collect();
        let all = self.chain.iter().skip(height as usize).chain(open.into_iter().rev());
        for block in all {
            block.write(&mut answer);
            if answer.len() > ANSWER_BYTES {
                break;
            }
        }
        answer
    }

    fn sign(&self, text: &[u8]) -> Signature {
        self.settings.pair.sign(text).as_ref().to_vec()
    }

    fn is_signed(&self, by: u8, text: &[u8], signature: &[u8]) -> bool {
        let key = self.settings.keys.get(usize::from(by));
        key.is_some_and(|key| {
            UnparsedPublicKey::new(&ED25519, key.0).verify(text, signature).is_ok()
        })
    }
}

fn leader(view: u64, validators: u8) -> u8 {
    (view % u64::from(validators)) as u8
}
