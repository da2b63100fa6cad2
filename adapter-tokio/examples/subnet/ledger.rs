//! Who published, owes and has what. Nodes publish and receive on their own; this is the book from
//! which it is told whether the subnet kept its promises.
//!
//! A *life* is a node from its start to its shutdown. A node that restarts loses its state: what it
//! had published is gone, and it is to be given anew all that others keep active. So deliveries are
//! counted per life.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use slotcast::id::ArtifactId;
use tokio::sync::Notify;
use tokio::time::timeout_at;

use crate::load::{Fate, LANES, Name};

/// What one life has to do with one artifact of another.
#[derive(Clone, Copy, Default)]
pub(crate) struct Receipt {
    /// It had to be delivered here: it was active until it was, or to the end.
    pub(crate) owed: bool,
    pub(crate) delivered: Option<Instant>,
    pub(crate) expired: bool,
}

/// Why an artifact is not active any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Aborted,
    /// Its publisher was stopped.
    Stopped,
    /// Aborted when the run was over.
    Over,
}

/// One artifact.
pub(crate) struct Record {
    pub(crate) name: Name,
    fate: Fate,
    pub(crate) published: Instant,
    pub(crate) end: Option<End>,
    /// One for each life.
    pub(crate) receipts: Vec<Receipt>,
    /// Receipts owed and not yet delivered.
    open: usize,
}

/// One life of a node.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) is_up: bool,
    /// When all others were connected.
    pub(crate) connected: Option<Instant>,
    lanes: [Desk; LANES.len()],
}

/// What a publisher of one channel has to look at.
#[derive(Clone, Default)]
struct Desk {
    /// Delivered everywhere, and to be aborted then.
    ripe: Vec<ArtifactId>,
    /// Delivered everywhere, and to be kept while there is room.
    spare: VecDeque<ArtifactId>,
}

/// The book.
pub(crate) struct Book {
    pub(crate) records: HashMap<ArtifactId, Record>,
    pub(crate) lives: Vec<Life>,
    pub(crate) published: usize,
    pub(crate) delivered: usize,
    pub(crate) expired: usize,
    pub(crate) aborted: usize,
    /// Delivered a second time in one life.
    pub(crate) duplicates: usize,
    /// Other bytes, or another id, than the publisher made.
    pub(crate) corrupt: usize,
    /// Withdrawn or expired although not delivered, or still active, or not by its publisher.
    pub(crate) unexpected: usize,
    /// Deliveries owed and not yet made.
    owed: usize,
    /// Artifacts to be aborted when they are delivered.
    doomed: usize,
    /// Deliveries, in lives that go on, which have not expired.
    live: usize,
    is_over: bool,
}

/// The book, shared by everything that runs.
pub(crate) struct Ledger {
    book: Mutex<Book>,
    changed: Notify,
    /// For each life and channel: its publisher has to look.
    publishers: Vec<[Notify; LANES.len()]>,
}

impl Ledger {
    /// An empty book for so many lives; none has begun.
    pub(crate) fn new(lives: usize) -> Self {
        let life = |_| Life { is_up: false, connected: None, lanes: Default::default() };
        let lives: Vec<_> = (0..lives).map(life).collect();
        let publishers = lives.iter().map(|_| Default::default()).collect();
        let book = Book {
            records: HashMap::new(),
            lives,
            published: 0,
            delivered: 0,
            expired: 0,
            aborted: 0,
            duplicates: 0,
            corrupt: 0,
            unexpected: 0,
            owed: 0,
            doomed: 0,
            live: 0,
            is_over: false,
        };
        Self { book: Mutex::new(book), changed: Notify::new(), publishers }
    }

    /// Opens the book.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the book, and tells those who wait for what has changed.
    fn change<T>(&self, change: impl FnOnce(&mut Book, &mut dyn FnMut(Name)) -> T) -> T {
        let tell = &mut |name: Name| self.publishers[name.life][name.lane].notify_one();
        let result = change(&mut self.book(), tell);
        self.changed.notify_one();
        result
    }

    /// A life begins: it is owed all that is active.
    pub(crate) fn begin(&self, life: usize) {
        self.change(|book, _| {
            book.lives[life].is_up = true;
            for record in book.records.values_mut() {
                let is_due = record.end.is_none() && !record.fate.is_soon();
                book.owed += record.owe(life, is_due);
            }
        });
    }

    /// Everyone is connected with this life.
    pub(crate) fn connected(&self, life: usize) {
        self.change(|book, _| book.lives[life].connected = Some(Instant::now()));
    }

    /// A life ends: nothing is owed to it, and what it published is gone.
    pub(crate) fn stop(&self, life: usize) {
        self.change(|book, tell| {
            book.lives[life].is_up = false;
            for (id, record) in &mut book.records {
                let receipt = record.receipts[life];
                if receipt.delivered.is_some() && !receipt.expired {
                    book.live -= 1;
                }
                if record.name.life == life && record.end.is_none() {
                    book.owed -= record.close(End::Stopped);
                    book.doomed -= usize::from(record.fate == Fate::AbortedWhenDelivered);
                } else if receipt.owed && receipt.delivered.is_none() {
                    record.receipts[life].owed = false;
                    record.open -= 1;
                    book.owed -= 1;
                    record.look(*id, &mut book.lives, tell);
                }
            }
        });
    }

    /// An artifact is about to be published.
    pub(crate) fn published(&self, id: ArtifactId, name: Name, fate: Fate) {
        self.change(|book, tell| {
            let mut record = Record {
                name,
                fate,
                published: Instant::now(),
                end: None,
                receipts: vec![Receipt::default(); book.lives.len()],
                open: 0,
            };
            for (life, state) in book.lives.iter().enumerate() {
                book.owed += record.owe(life, state.is_up && !fate.is_soon());
            }
            book.doomed += usize::from(fate == Fate::AbortedWhenDelivered);
            book.published += 1;
            record.look(id, &mut book.lives, tell);
            book.records.insert(id, record);
        });
    }

    /// An artifact was not published after all, for want of room.
    pub(crate) fn unpublished(&self, id: &ArtifactId) {
        self.change(|book, _| {
            let Some(record) = book.records.remove(id) else { return };
            book.owed -= record.open;
            book.doomed -= usize::from(record.fate == Fate::AbortedWhenDelivered);
            book.published -= 1;
        });
    }

    /// Its publisher is about to abort an artifact.
    pub(crate) fn aborted(&self, id: &ArtifactId) {
        self.change(|book, _| {
            let record = book.records.get_mut(id).expect("published");
            book.owed -= record.close(End::Aborted);
            book.doomed -= usize::from(record.fate == Fate::AbortedWhenDelivered);
            book.aborted += 1;
        });
    }

    /// An artifact that a publisher is to abort now: delivered everywhere, and meant to be aborted
    /// then, or, `for_room`, the oldest that was kept.
    pub(crate) fn to_abort(&self, life: usize, lane: usize, for_room: bool) -> Option<ArtifactId> {
        let mut book = self.book();
        let Book { lives, records, .. } = &mut *book;
        let desk = &mut lives[life].lanes[lane];
        let spare = || if for_room { desk.spare.pop_front() } else { None };
        // Those that a node which came up got later are in there more than once.
        std::iter::from_fn(|| desk.ripe.pop())
            .chain(std::iter::from_fn(spare))
            .find(|id| records.get(id).is_some_and(|record| record.end.is_none()))
    }

    /// Changes the book for an event of a node, unless the run is over.
    fn event(&self, change: impl FnOnce(&mut Book, &mut dyn FnMut(Name))) {
        self.change(|book, tell| {
            if !book.is_over {
                change(book, tell);
            }
        });
    }

    /// A life has taken an artifact, whose bytes were right or not.
    pub(crate) fn delivered(&self, life: usize, id: &ArtifactId, at: Instant, is_genuine: bool) {
        self.event(|book, tell| {
            book.corrupt += usize::from(!is_genuine);
            let Some(record) = book.records.get_mut(id) else { return };
            let receipt = &mut record.receipts[life];
            if receipt.delivered.replace(at).is_some() {
                book.duplicates += 1;
                return;
            }
            book.delivered += 1;
            book.live += usize::from(book.lives[life].is_up);
            if receipt.owed {
                record.open -= 1;
                book.owed -= 1;
                record.look(*id, &mut book.lives, tell);
            }
        });
    }

    /// A life was told that a node does not advertise an artifact any more, and others do: but each has one
    /// publisher.
    pub(crate) fn withdrawn(&self) {
        self.event(|book, _| book.unexpected += 1);
    }

    /// A life was told that nobody advertises an artifact any more.
    pub(crate) fn expired(&self, life: usize, id: &ArtifactId) {
        self.event(|book, _| {
            let Some(record) = book.records.get_mut(id) else { return book.unexpected += 1 };
            let receipt = &mut record.receipts[life];
            let is_first = !std::mem::replace(&mut receipt.expired, true);
            let is_right = record.end.is_some() && receipt.delivered.is_some() && is_first;
            book.unexpected += usize::from(!is_right);
            if receipt.delivered.is_some() && is_first {
                book.expired += 1;
                book.live -= usize::from(book.lives[life].is_up);
            }
        });
    }

    /// The run is over: names all artifacts that are still active, for their publishers to abort.
    pub(crate) fn abort_all(&self) -> Vec<(Name, ArtifactId)> {
        self.change(|book, _| {
            let active = book.records.iter_mut().filter(|(_, record)| record.end.is_none());
            active
                .map(|(id, record)| {
                    // Without closing it: what is owed now stays so, and is missing.
                    record.end = Some(End::Over);
                    (record.name, *id)
                })
                .collect()
        })
    }

    /// Waits until a publisher may have something to abort.
    pub(crate) async fn publisher(&self, life: usize, lane: usize) {
        self.publishers[life][lane].notified().await;
    }

    /// Waits until the book `is_so`, or nothing has changed for `patience`, counted from `after` at
    /// the earliest. Whether it is so.
    pub(crate) async fn wait(
        &self,
        patience: Duration,
        after: Instant,
        is_so: impl Fn(&mut Book) -> bool,
    ) -> bool {
        loop {
            if is_so(&mut self.book()) {
                return true;
            }
            let deadline = Instant::now().max(after) + patience;
            if timeout_at(deadline.into(), self.changed.notified()).await.is_err() {
                return false;
            }
        }
    }
}

impl Book {
    /// So many were published; all have arrived, and those are aborted that were to be then.
    pub(crate) fn is_delivered(&self, published: usize) -> bool {
        self.published == published && self.owed == 0 && self.doomed == 0
    }

    /// Everything that was delivered has expired. What comes later is then not looked at.
    pub(crate) fn is_expired(&mut self) -> bool {
        self.is_over = self.live == 0;
        self.is_over
    }
}

impl Record {
    /// Notes whether a life is owed the artifact; how much more is owed now.
    fn owe(&mut self, life: usize, is_due: bool) -> usize {
        let owed = is_due && life != self.name.life;
        self.receipts[life].owed = owed;
        self.open += usize::from(owed);
        usize::from(owed)
    }

    /// The artifact is not active any more; how much less is owed now.
    fn close(&mut self, end: End) -> usize {
        self.end = Some(end);
        for receipt in &mut self.receipts {
            receipt.owed &= receipt.delivered.is_some();
        }
        std::mem::take(&mut self.open)
    }

    /// Tells the publisher when all have got the artifact.
    fn look(&self, id: ArtifactId, lives: &mut [Life], tell: &mut dyn FnMut(Name)) {
        if self.open > 0 || self.end.is_some() {
            return;
        }
        let desk = &mut lives[self.name.life].lanes[self.name.lane];
        match self.fate {
            Fate::Kept => desk.spare.push_back(id),
            Fate::AbortedWhenDelivered => desk.ripe.push(id),
            Fate::AbortedSoon(_) => return,
        }
        tell(self.name);
    }
}

impl Fate {
    fn is_soon(self) -> bool {
        matches!(self, Self::AbortedSoon(_))
    }
}
