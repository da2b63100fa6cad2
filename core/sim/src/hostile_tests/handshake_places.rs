//! Who gets the places for handshakes when there are few: addresses with fewer of them in progress.

use std::boxed::Box;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::vec::Vec;

use quinn_proto::TransportConfig as QuicTransport;

use super::{config, ms};
use crate::hostile::bare::BarePeer;
use crate::{Application, Context, Link, Process, Setup, Subnet, address};
use slotcast::broadcast::Event;
use slotcast::config::Config;
use slotcast::id::ChannelId;
use slotcast::node::Ecn;
use slotcast::time::Time;

struct Nothing;

impl Application for Nothing {
    fn handle_event(&mut self, _: &mut Context<'_>, _: ChannelId, _: Event) {}
}

/// Begins handshakes, proves its address if that is asked for, and goes no further.
struct Caller(BarePeer);

impl Process for Rc<RefCell<Caller>> {
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, ecn: Option<Ecn>, datagram: &[u8]) {
        self.borrow_mut().0.handle_datagram(now, from, ecn, datagram);
    }

    fn poll(&mut self, now: Time, send: &mut dyn FnMut(SocketAddr, &[u8])) -> Time {
        let peer = &mut self.borrow_mut().0;
        loop {
            peer.serve(now);
            while peer.next_event().is_some() {}
            if !peer.transmit(now, send) {
                return peer.wake_at();
            }
        }
    }
}

const VICTIM: usize = 3;

/// A node that three members dial.
struct Door {
    subnet: Subnet<Nothing>,
    callers: Vec<Rc<RefCell<Caller>>>,
}

impl Door {
    fn new(limit: u16, share: u16) -> Self {
        let mut config: Config = config();
        config.transport.handshakes_max = limit;
        config.transport.handshakes_per_address_max = share;
        let setup = Setup::new(&config, VICTIM + 1).link(Link::new(ms(1)));
        let mut subnet = Subnet::stopped(setup, Nothing);
        let topology = subnet.topology(0..=VICTIM);
        let (crypto, start) = (subnet.crypto(), subnet.start_instant());
        let callers = (0..VICTIM).map(|at| {
            let (key, settings) = (subnet.key(at).clone(), &config.transport);
            let (transport, seed) = (QuicTransport::default(), at as u64);
            let mut bare = BarePeer::new(key, &topology, settings, transport, crypto, seed, start);
            bare.stop_dialling();
            Rc::new(RefCell::new(Caller(bare)))
        });
        let callers: Vec<_> = callers.collect();
        for (at, caller) in callers.iter().enumerate() {
            subnet.install(at, Box::new(caller.clone()));
        }
        subnet.start(VICTIM);
        // So that the victim's own dials do not come in between.
        subnet.elapse(ms(10));
        Self { subnet, callers }
    }

    /// Begins handshakes, one after the other.
    fn ring(&mut self, callers: &[usize]) {
        for at in callers {
            let (now, victim) = (self.subnet.now(), self.subnet.id(VICTIM));
            let begun = self.callers[*at].borrow_mut().0.dial_hollow(now, victim);
            assert!(begun.is_some());
            self.subnet.wake(*at);
            self.subnet.elapse(ms(10));
        }
    }

    /// Handshakes in progress by caller, and how many of them have proven their address.
    fn in_progress(&self) -> ([usize; 3], usize) {
        let victim = self.subnet.node(VICTIM).expect("it runs");
        let open = || victim.open_connections().filter(|c| !c.is_dialled && !c.is_up);
        let of = |at: usize| open().filter(|c| c.address == address(at).ip()).count();
        ([0, 1, 2].map(of), open().filter(|c| c.is_proven).count())
    }

    /// When the handshakes in progress are given up.
    fn deadlines(&self) -> BTreeSet<Time> {
        let connections = self.subnet.node(VICTIM).expect("it runs").open_connections();
        connections.filter(|c| !c.is_dialled).map(|c| c.hello_deadline).collect()
    }

    fn refused(&self) -> u64 {
        self.subnet.node(VICTIM).expect("it runs").stats().refused
    }
}

#[test]
fn an_address_with_one_more_in_progress_makes_no_room() {
    let mut door = Door::new(5, 5);
    door.ring(&[0, 0, 0, 1, 1]);
    assert_eq!((door.in_progress().0, door.refused()), ([3, 2, 0], 0));
    // Else the two would take the place from each other for ever.
    door.ring(&[1]);
    assert_eq!((door.in_progress().0, door.refused()), ([3, 2, 0], 1));
    door.ring(&[2]);
    assert_eq!((door.in_progress().0, door.refused()), ([2, 2, 1], 2));
    door.ring(&[2]);
    assert_eq!((door.in_progress().0, door.refused()), ([2, 2, 1], 3));
}

#[test]
fn as_many_handshakes_are_in_progress_as_there_are_places() {
    let mut door = Door::new(4, 4);
    door.ring(&[0, 0, 0, 0]);
    assert_eq!((door.in_progress().0, door.refused()), ([4, 0, 0], 0));
    door.ring(&[0]);
    assert_eq!((door.in_progress().0, door.refused()), ([4, 0, 0], 1));
}

#[test]
fn an_address_has_its_share_of_the_places() {
    let mut door = Door::new(100, 3);
    door.ring(&[0, 0, 0, 1]);
    assert_eq!((door.in_progress(), door.refused()), (([3, 1, 0], 0), 0));
}

/// Who may only have written the address on its datagrams does not keep out who is there.
#[test]
fn at_the_share_of_an_address_who_proves_it_takes_the_place_of_who_has_not() {
    let mut door = Door::new(100, 3);
    door.ring(&[0, 0, 0]);
    assert_eq!((door.in_progress(), door.refused()), (([3, 0, 0], 0), 0));
    // Asked for proof, each takes the place of an older one, until all have proven it.
    for proven in 1..=3 {
        door.ring(&[0]);
        assert_eq!((door.in_progress(), door.refused()), (([3, 0, 0], proven), proven as u64));
    }
    // From then on the later one is refused.
    let before = door.deadlines();
    door.ring(&[0]);
    assert_eq!((door.in_progress(), door.refused()), (([3, 0, 0], 3), 4));
    assert_eq!(door.deadlines(), before);
}
