//! Requests: which chunks are asked of whom, and what comes of it.

use super::chunk_set::{ChunksTold, full_word, words};
use super::holder::{NEVER, PATIENCE_MIN, Phase, Request};
use super::offer::{Offer, Place};
use super::order::Next;
use super::wanted::{Stage, Wanted};
use super::yielding::{BULK, Portion};
use super::{OFFERS_LOOKED_AT, Priority, Received, Transfers, Unsent, key};
use crate::artifact::CHUNKS_PREFERRED_MAX;
use crate::bits::ones;
use crate::broadcast::RequestId;
use crate::error::Fault;
use crate::id::PeerIndex;
use crate::sched::End;
use crate::time::Time;
use crate::trace::Note;
use crate::wire::{Chunk, ChunkRange, Ranges, count_chunks};

/// Of what a member sends unasked, so many chunks may have come before; then its stream is stopped. A
/// publisher that sends all the same stripe makes nobody send more than that in vain.
const REPEATED_MAX: u8 = 4;

impl Transfers {
    /// Asks a holder for as much as it may be asked for: urgent classes first, then high priorities,
    /// then what it has offered longest; or [last](crate::config::Freshness), if that has waited too long.
    pub(super) fn ask_more(&mut self, now: Time, peer: PeerIndex) {
        let mut is_overloaded = false;
        for class in self.class_order(peer) {
            while self.holder(peer).has_queued(class)
                && let Some(at) = self.free_request(peer, class)
                && let Some(portion) = self.portion(now, peer, class)
                && let Some(next) = self.next_offer(now, peer, class, is_overloaded)
            {
                self.ask(now, next, at, portion);
            }
            let mut priorities = 0..Priority::ALL.len();
            let is_late = priorities.any(|priority| self.has_late(now, peer, (class, priority)));
            self.note_late(peer, class, is_late);
            // Nothing is less urgent than bulk data, whether it comes last or not.
            is_overloaded |= is_late && class != BULK;
        }
    }

    pub(super) fn free_stream(&mut self, peer: PeerIndex) -> Option<usize> {
        let (requests_max, max) = (self.requests_max, self.streams_max);
        self.holder(peer).free_stream(requests_max, max)
    }

    pub(super) fn free_request(&mut self, peer: PeerIndex, class: usize) -> Option<usize> {
        let max = self.requests_max;
        self.holder(peer).free_request(class, max)
    }

    /// Asks for a portion of a queued offer, with the free request at `at`. Takes it out of the queue, and puts it back
    /// if there is more to ask for.
    fn ask(&mut self, now: Time, Next { offer, end, is_fresh }: Next, at: usize, portion: Portion) {
        let Offer { transfer, peer, .. } = self.offers[offer];
        self.displace(offer);
        if self.wanted[transfer].unasked == 0 || self.is_spreading(transfer) {
            return;
        }
        if self.is_left_to_others(now, offer) {
            return self.rest(now, offer);
        }
        let limit = self.request_chunks(offer, portion.bytes_max());
        let ranges = self.choose(offer, limit);
        if ranges.is_empty() {
            return;
        }
        let chunks = ranges.iter().flat_map(|range| range.chunks());
        self.begin_request(now, offer, (at, Phase::Unsent), chunks);
        let Wanted { channel, class, priority, .. } = self.wanted[transfer];
        let freshness = self.rooms[usize::from(channel)].freshness;
        let length = self.wanted[transfer].advert.length;
        let holder = self.holder(peer);
        // What is begun comes to its end without another turn, so that all of it counts when it begins.
        let bytes = match (is_fresh, end) {
            (true, _) => length,
            (false, End::Oldest) => holder.requests[at].left,
            (false, End::Newest) => 0,
        };
        holder.queues[class][priority].ends.note(end, bytes as usize, &freshness);
        holder.requests[at].ranges = ranges;
        let request = RequestId::new(at, holder.requests[at].generation);
        if portion == Portion::Little {
            self.note_trickle(now, (peer, class), request);
        }
        self.asking.push(peer);
        self.open(offer);
    }

    /// How many chunks a request is for: what the holder may be asked for ahead, and no more than so many bytes.
    fn request_chunks(&mut self, offer: u32, bytes_max: u64) -> u32 {
        let Offer { transfer, peer, .. } = self.offers[offer];
        let advert = &self.wanted[transfer].advert;
        let holder = self.holders[peer.at()].as_ref().expect("a member");
        let ahead = holder.request_bytes().min(bytes_max) / advert.chunk_size() as u64;
        u32::try_from(ahead).unwrap_or(u32::MAX).max(1)
    }

    /// Makes a request of chunks that nobody was asked for.
    pub(super) fn begin_request(
        &mut self,
        now: Time,
        offer: u32,
        (at, phase): (usize, Phase),
        chunks: impl Iterator<Item = u32>,
    ) {
        let Offer { transfer, peer, .. } = self.offers[offer];
        let wanted = &mut self.wanted[transfer];
        let holder = self.holders[peer.at()].as_mut().expect("a member");
        let span = (now, self.timeout);
        let request = holder.begin(span, at, phase, (transfer, offer), wanted.advert.chunks());
        for chunk in chunks {
            request.expected.insert(chunk);
            request.left += wanted.advert.chunk_bytes(chunk) as u64;
            wanted.note_asked(chunk);
        }
        wanted.live += 1;
        self.offers[offer].live += 1;
        let review_at = holder.note_asked(span, at);
        self.reviews.bring_forward(peer.at(), review_at);
    }

    /// Whether others can be expected to have sent all that is still to be asked for before this holder
    /// could send one chunk.
    fn is_left_to_others(&mut self, now: Time, offer: u32) -> bool {
        let Offer { transfer, peer, .. } = self.offers[offer];
        let (wanted, requests_max) = (&self.wanted[transfer], self.requests_max);
        let class = wanted.class;
        let chunk = wanted.advert.chunk_size().min(wanted.advert.length as usize) as u64;
        let all = chunk * u64::from(wanted.unasked);
        let own = self.holder(peer).expected(chunk);
        self.some_offer(transfer, |transfers, other| {
            let Offer { peer: of, place, have, .. } = transfers.offers[other];
            let timeout = transfers.timeout;
            let holder = transfers.holder(of);
            let is_ready = of != peer && have.is_none() && matches!(place, Place::Queued { .. });
            let has_room = holder.has_room() && holder.free_request(class, requests_max).is_some();
            let is_able = is_ready && has_room && !holder.is_silent(now, timeout);
            is_able && holder.expected(all) < own
        })
    }

    /// Whether something holds for one of a few offers of an artifact: others each time.
    pub(super) fn some_offer(
        &mut self,
        at: u32,
        mut holds: impl FnMut(&mut Self, u32) -> bool,
    ) -> bool {
        for _ in 0..OFFERS_LOOKED_AT {
            let offers = &mut self.wanted[at].offers;
            let Some(offer) = offers.front() else { return false };
            offers.remove(&mut self.offers, offer);
            offers.push_back(&mut self.offers, offer);
            if holds(self, offer) {
                return true;
            }
        }
        false
    }

    /// Chunks that nobody was asked for and that a member has: those first that fewest other members tell
    /// of. Of n members that may tell each other of chunks, the k-th begins at the k-th part of them, so
    /// that members that fetch the same at the same time have different ones to tell of.
    fn choose(&mut self, offer: u32, limit: u32) -> Ranges {
        let others = self.told_by_others(offer);
        let Offer { transfer, peer, have, .. } = self.offers[offer];
        let wanted = &self.wanted[transfer];
        let chunks = wanted.advert.chunks();
        let random = self.random.below(chunks.into()) as usize;
        let length = words(chunks);
        let holder = self.holders[peer.at()].as_ref().expect("a member");
        let candidates = |at: usize| {
            let held = have.map_or(full_word(chunks, at), |have| have.word(at));
            held & !wanted.asked.word(at) & !holder.asked_word(transfer, at)
        };
        let told = |at: usize| others.map_or(0, |others| others.word(at));
        let untold = |at: usize| candidates(at) & !told(at);
        let is_relaying = self.rooms[wanted.channel as usize].is_relaying;
        let start = if is_relaying && chunks <= CHUNKS_PREFERRED_MAX {
            let count: u32 = (0..length).map(|at| untold(at).count_ones()).sum();
            let first = u64::from(count) * u64::from(self.rank) / u64::from(self.members);
            let mut all = (0..length).flat_map(|at| ones(untold(at)).map(move |bit| at * 64 + bit));
            all.nth(first as usize).unwrap_or(random)
        } else if wanted.live == 0 && !is_relaying {
            // Who was asked before sends from the first chunk on.
            0
        } else {
            random
        };
        let mut ranges = Ranges::new();
        let mut left = limit;
        let waves: [&dyn Fn(usize) -> u64; 2] = [&untold, &|at| candidates(at) & told(at)];
        for wave in waves {
            for step in 0..=length {
                let at = (start / 64 + step) % length;
                let from_start = u64::MAX << (start % 64);
                let part = match step {
                    0 => from_start,
                    _ if step == length => !from_start,
                    _ => u64::MAX,
                };
                for bit in ones(wave(at) & part) {
                    if left == 0 || !put(&mut ranges, (at * 64 + bit) as u32) {
                        return ranges;
                    }
                    left -= 1;
                }
            }
        }
        ranges
    }

    /// The chunks that a few other members tell of that have only a part.
    fn told_by_others(&mut self, offer: u32) -> Option<ChunksTold> {
        let mut told = None;
        self.some_offer(self.offers[offer].transfer, |transfers, other| {
            if let Some(have) = transfers.offers[other].have.filter(|_| other != offer) {
                told.get_or_insert(ChunksTold::default()).unite(&have);
            }
            false
        });
        told
    }

    // What is under way.

    /// Takes a request to a member that is to be put on the wire.
    pub(crate) fn take_unsent(&mut self, now: Time, peer: PeerIndex) -> Option<Unsent> {
        let holder = self.holders[peer.at()].as_mut().expect("a member");
        let is_due = |request: &Request| matches!(request.phase, Phase::Unsent | Phase::Cancelled);
        let at = holder.requests.iter().position(is_due)?;
        let request = &mut holder.requests[at];
        let id = RequestId::new(at, request.generation);
        if request.phase == Phase::Cancelled {
            holder.end(at);
            self.note_due(peer);
            return Some(Unsent::Cancel { request: id });
        }
        let (known, ranges) = (self.wanted[request.transfer].known, request.ranges.clone());
        holder.note_sent(at, now);
        let chunks = count_chunks(&ranges);
        self.notes.push(known, peer, Note::Asked { chunks });
        Some(Unsent::Fetch { request: id, known, ranges })
    }

    pub(crate) fn has_unsent(&self, peer: PeerIndex) -> bool {
        let requests = &self.holders[peer.at()].as_ref().expect("a member").requests;
        requests.iter().any(|request| matches!(request.phase, Phase::Unsent | Phase::Cancelled))
    }

    /// The request that an answer belongs to, if it is still under way.
    fn under_way(&self, peer: PeerIndex, id: RequestId) -> Option<usize> {
        let (at, generation) = id.parts();
        let request = self.holders[peer.at()].as_ref().expect("a member").requests.get(at)?;
        let answers = matches!(request.phase, Phase::Sent | Phase::Streamed | Phase::Open);
        (answers && u64::from(request.generation) == generation).then_some(at)
    }

    pub(crate) fn is_under_way(&self, peer: PeerIndex, id: RequestId) -> bool {
        self.under_way(peer, id).is_some()
    }

    /// Bytes in the longest chunk of an answer, if it is still needed.
    pub(crate) fn chunk_bytes_max(&self, peer: PeerIndex, id: RequestId) -> Option<usize> {
        let at = self.under_way(peer, id)?;
        let request = &self.holders[peer.at()].as_ref().expect("a member").requests[at];
        Some(self.wanted[request.transfer].advert.chunk_bytes(0))
    }

    /// The channel of a request whose answer is still needed.
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "for nodes"))]
    pub(crate) fn channel_of(&self, peer: PeerIndex, id: RequestId) -> Option<u16> {
        let at = self.under_way(peer, id)?;
        let request = &self.holders[peer.at()].as_ref().expect("a member").requests[at];
        Some(self.wanted[request.transfer].channel)
    }

    /// Makes a request of what a member sends unasked. `None` if there is no room for it now, or too much
    /// comes from the member already.
    pub(crate) fn take_stream(&mut self, now: Time, at: u32, peer: PeerIndex) -> Option<RequestId> {
        let Wanted { class, stage, unasked, .. } = self.wanted[at];
        let chunks = self.wanted[at].advert.chunks();
        if stage == Stage::Begun && unasked < chunks {
            // Some of it would come twice.
            return None;
        }
        let place = self.free_request(peer, class)?;
        let offer = *self.by_key.get(&key(at, peer))?;
        if stage != Stage::Begun && !self.begin_at_once(now, at, peer) {
            return None;
        }
        self.displace(offer);
        self.begin_request(now, offer, (place, Phase::Streamed), 0..chunks);
        Some(RequestId::new(place, self.holder(peer).requests[place].generation))
    }

    /// So many bytes of the next chunk of an answer are here.
    pub(crate) fn handle_partial(
        &mut self,
        now: Time,
        peer: PeerIndex,
        id: RequestId,
        bytes: usize,
    ) {
        if let Some(at) = self.under_way(peer, id) {
            let holder = self.holder(peer);
            let news = holder.note_partial(now, at, bytes as u64);
            let transfer = holder.requests[at].transfer;
            if self.wanted[transfer].note_partial(now, news) {
                self.note_progress(transfer);
            }
            self.note_due(peer);
        }
    }

    /// Checks a chunk and puts it in its place.
    pub(crate) fn handle_chunk(
        &mut self,
        now: Time,
        peer: PeerIndex,
        id: RequestId,
        chunk: &Chunk<'_>,
    ) -> Result<Option<Received>, Fault> {
        let Some(at) = self.under_way(peer, id) else { return Ok(None) };
        let holder = self.holders[peer.at()].as_mut().expect("a member");
        let request = &holder.requests[at];
        let transfer = request.transfer;
        if !request.expected.contains(chunk.index) {
            self.fail(now, peer, at);
            return Err(Fault::UnrequestedChunk);
        }
        let wanted = &mut self.wanted[transfer];
        let is_new = !wanted.have.contains(chunk.index);
        if is_new && !wanted.take(now, chunk.index, &chunk.proof, chunk.bytes) {
            self.fail(now, peer, at);
            return Err(Fault::WrongChunk);
        }
        holder.note_chunk(now, at, chunk.index, chunk.bytes.len() as u64, is_new);
        let request = &holder.requests[at];
        let (offer, is_of_stripe) = (request.offer, request.is_stripe);
        let is_part = request.phase == Phase::Open;
        let is_over = request.expected.is_empty();
        let is_useless = match is_part {
            true => request.repeated >= REPEATED_MAX,
            false => !is_new && request.expected.is_subset(&wanted.have),
        };
        let (known, is_complete) = (wanted.known, wanted.missing == 0);
        if is_new {
            self.note_progress(transfer);
        }
        if is_part {
            let stripe = match is_of_stripe {
                true => &mut self.wanted[transfer].stripe,
                false => &mut self.offers[offer].stripe,
            };
            stripe.get_or_insert(chunk.index);
        }
        if is_over {
            self.end_request(peer, at);
        } else if is_useless {
            self.cancel(peer, at);
        }
        self.note_due(peer);
        let is_answered = is_over || is_useless || is_complete;
        Ok(Some(Received { transfer, known, is_new, is_of_stripe, is_answered, is_complete }))
    }

    /// The answer to a request has ended early, or was refused.
    pub(crate) fn handle_end(&mut self, now: Time, peer: PeerIndex, id: RequestId) {
        let Some(at) = self.under_way(peer, id) else { return };
        let request = &self.holder(peer).requests[at];
        // Nothing was promised of what comes unasked without saying what it is.
        if request.phase == Phase::Open {
            let (transfer, is_stripe) = (request.transfer, request.is_stripe);
            let still_expected = request.expected.count();
            let come = self.wanted[transfer].advert.chunks() - still_expected;
            self.end_request(peer, at);
            if is_stripe && come > 0 {
                self.note_stripe_end(now, transfer, come);
            }
        } else {
            self.fail(now, peer, at);
        }
    }

    /// A holder has failed a request: it rests, and others are asked.
    fn fail(&mut self, now: Time, peer: PeerIndex, at: usize) {
        let Request { transfer, offer, .. } = self.holder(peer).requests[at];
        self.end_request(peer, at);
        self.holder(peer).note_failure();
        self.rest(now, offer);
        let Wanted { live, missing, ref advert, .. } = self.wanted[transfer];
        if live == 0 && missing == advert.chunks() {
            // It has room for nothing, and others may wait for that.
            self.lose(transfer);
        } else {
            self.queue_all(transfer);
        }
    }

    /// A request has ended: what has not come of it is to be asked for again.
    pub(super) fn end_request(&mut self, peer: PeerIndex, at: usize) {
        self.settle(peer, at);
        self.holder(peer).end(at);
        self.note_due(peer);
    }

    fn settle(&mut self, peer: PeerIndex, at: usize) {
        let holder = self.holders[peer.at()].as_ref().expect("a member");
        let request = &holder.requests[at];
        let wanted = &mut self.wanted[request.transfer];
        wanted.live -= 1;
        self.offers[request.offer].live -= 1;
        if request.is_stripe {
            self.stripe_ends.push(wanted.known);
        }
        if request.is_counted_on {
            wanted.note_unasked(&request.expected);
        }
    }

    /// Gives up a request.
    fn cancel(&mut self, peer: PeerIndex, at: usize) {
        let Request { phase, generation, .. } = self.holder(peer).requests[at];
        if phase == Phase::Unsent {
            return self.end_request(peer, at);
        }
        self.stops.push((peer, RequestId::new(at, generation)));
        if matches!(phase, Phase::Streamed | Phase::Open) {
            return self.end_request(peer, at);
        }
        self.settle(peer, at);
        self.holder(peer).give_up(at);
        self.asking.push(peer);
        self.note_due(peer);
    }

    /// Gives up all requests for what a member offers of an artifact.
    pub(super) fn cancel_all(&mut self, offer: u32) {
        let Offer { transfer, peer, .. } = self.offers[offer];
        while self.offers[offer].live > 0 {
            let mut requests = self.holder(peer).requests.iter();
            let at = requests.position(|request| request.is_live_for(transfer)).expect("counted");
            self.cancel(peer, at);
        }
    }

    // Reviews.

    /// Looks at the requests to a member that are to be reviewed, and when the next one is.
    pub(super) fn review_holder(&mut self, now: Time, peer: PeerIndex) {
        for at in 0..self.holder(peer).requests.len() {
            let request = &self.holder(peer).requests[at];
            if request.is_live() && request.is_counted_on && request.review_at <= now {
                self.review(now, peer, at);
            }
        }
        let requests = self.holder(peer).requests.iter();
        let awaited = requests.filter(|request| request.is_live() && request.is_counted_on);
        let next = awaited.map(|request| request.review_at).min().unwrap_or(Time::NEVER);
        self.reviews.set(peer.at(), next);
    }

    fn review(&mut self, now: Time, peer: PeerIndex, at: usize) {
        let holder = self.holder(peer);
        let pace = holder.pace(at, now);
        let Request { transfer, left, begun, .. } = holder.requests[at];
        // Of a holder that has not been measured nothing better is known than that it may be faster: where
        // all are slow for the same reason, asking one more only makes them slower.
        let may_try = now.since(begun) >= self.timeout;
        let is_better = |transfers: &mut Self, offer: u32| {
            let Offer { peer: of, place, live, .. } = transfers.offers[offer];
            let timeout = transfers.timeout;
            let other = transfers.holder(of);
            let is_able = of != peer && other.up && !matches!(place, Place::Resting(_));
            let is_silent = other.is_silent(now, timeout);
            is_able
                && match pace {
                    NEVER => live == 0 || !is_silent,
                    _ if !may_try && !other.is_measured() => false,
                    pace => !is_silent && other.expected(left) < pace / 2,
                }
        };
        let is_overdue = self.some_offer(transfer, is_better);
        let holder = self.holders[peer.at()].as_mut().expect("a member");
        let request = &mut holder.requests[at];
        if is_overdue {
            request.is_counted_on = false;
            self.notes.push(self.wanted[transfer].known, peer, Note::Overdue);
            self.wanted[transfer].note_unasked(&request.expected);
            self.queue_all(transfer);
        } else {
            let span = now.since(begun).clamp(PATIENCE_MIN.min(self.timeout), self.timeout);
            self.holder(peer).requests[at].review_at = now + span;
        }
    }
}

/// Adds a chunk to ranges; false if there is no place for it.
pub(super) fn put(ranges: &mut Ranges, chunk: u32) -> bool {
    match ranges.last_mut() {
        Some(last) if last.first + last.count == chunk => {
            last.count += 1;
            true
        }
        _ => ranges.push(ChunkRange { first: chunk, count: 1 }).is_ok(),
    }
}
