//! Futures that wait for the same thing, and what runs under the lock that they share.

#![allow(clippy::disallowed_methods, reason = "threads that hang are noticed from outside")]

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use slotcast::driver::{Channel, NodeHandle};

use crate::network::Network;
use crate::subnet::{Subnet, Waiting, config, ms};

fn count_woken<F: Future>(waiting: &[Waiting<F>]) -> usize {
    waiting.iter().filter(|waiting| waiting.is_woken()).count()
}

/// So many futures that wait for an event of the channel.
fn waiters(channel: &Channel, count: usize) -> Vec<Waiting<impl Future<Output = bool> + use<>>> {
    let waiter = |_| {
        let channel = channel.clone();
        let mut waiting = Waiting::new(async move { channel.next_event().await.is_some() });
        assert_eq!(waiting.poll(), None);
        waiting
    };
    (0..count).map(waiter).collect()
}

#[test]
fn one_event_wakes_one_waiter() {
    let mut subnet = Subnet::connected(2, &config());
    let mut waiting = waiters(&subnet.channel(1), 8);
    subnet.channel(0).publish("x", b"").expect("there is room");
    subnet.settle();
    assert_eq!(count_woken(&waiting), 1);
    assert_eq!(waiting.iter_mut().filter_map(Waiting::poll).count(), 1);
    assert_eq!(count_woken(&waiting), 0, "there is nothing left for another one");
}

/// However long it takes until that one is polled.
#[test]
fn one_request_wakes_one_server_and_one_event_about_peers_one_waiter() {
    let mut subnet = Subnet::connected(3, &config());
    let (server, node) = (subnet.serve(1), subnet.node(1).clone());
    while node.try_event().is_some() {}
    let mut servers: Vec<_> =
        (0..8).map(|_| Waiting::new(async { server.next_request().await.is_some() })).collect();
    let mut watchers: Vec<_> =
        (0..8).map(|_| Waiting::new(async { node.next_event().await.is_some() })).collect();
    assert!(servers.iter_mut().all(|server| server.poll().is_none()));
    assert!(watchers.iter_mut().all(|watcher| watcher.poll().is_none()));
    let _call = subnet.route(0).call(subnet.id(1), "x");
    drop(subnet.node(2).shutdown());
    subnet.until("an event", |_| count_woken(&watchers) > 0);
    for at in 0..20_u8 {
        subnet.channel(0).publish(vec![at], b"").expect("there is room");
        subnet.elapse(ms(10));
    }
    assert_eq!((count_woken(&servers), count_woken(&watchers)), (1, 1));
}

#[test]
fn events_wake_as_many_waiters_one_after_the_other() {
    let mut subnet = Subnet::connected(2, &config());
    let mut waiting = waiters(&subnet.channel(1), 8);
    for at in 0..5_u8 {
        subnet.channel(0).publish(vec![at], b"").expect("there is room");
    }
    subnet.settle();
    let mut taken = 0;
    while count_woken(&waiting) > 0 {
        taken += waiting.iter_mut().filter_map(Waiting::poll).count();
    }
    assert_eq!(taken, 5);
}

#[test]
fn a_waiter_that_is_dropped_after_it_was_woken_wakes_the_next() {
    let mut subnet = Subnet::connected(2, &config());
    let mut waiting = waiters(&subnet.channel(1), 3);
    subnet.channel(0).publish("x", b"").expect("there is room");
    subnet.settle();
    let woken = waiting.iter().position(Waiting::is_woken).expect("one of them");
    drop(waiting.remove(woken));
    assert_eq!(count_woken(&waiting), 1);
    assert!(waiting.iter_mut().filter_map(Waiting::poll).eq([true]));
}

#[test]
fn a_place_ends_with_its_future() {
    let mut subnet = Subnet::connected(2, &config());
    let channel = subnet.channel(1);
    let gone: Vec<Arc<Counts>> = (0..3).map(|_| Arc::default()).collect();
    for counts in &gone {
        let mut next = Box::pin(channel.next_event());
        let waker = Waker::from(counts.clone());
        assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert!(gone.iter().all(|counts| Arc::strong_count(counts) == 1), "no waker is left");
    let mut waiting = waiters(&channel, 1);
    subnet.channel(0).publish("x", b"").expect("there is room");
    subnet.settle();
    assert_eq!(waiting[0].poll(), Some(true));
}

/// A waker that only counts its owners.
#[derive(Default)]
struct Counts;

impl Wake for Counts {
    fn wake(self: Arc<Self>) {}
}

/// A waker, or the owner of bytes, that uses the node when it is woken and when it is dropped.
struct Uses(NodeHandle);

impl Wake for Uses {
    fn wake(self: Arc<Self>) {
        self.0.stats();
    }
}

impl AsRef<[u8]> for Uses {
    fn as_ref(&self) -> &[u8] {
        &[7; 2_000]
    }
}

impl Drop for Uses {
    fn drop(&mut self) {
        self.0.stats();
    }
}

/// F7. A node that takes its lock twice hangs, or panics.
fn assert_ends(what: &str, case: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let thread = thread::spawn(move || {
        case();
        done.send(()).expect("somebody waits");
    });
    let ended = is_done.recv_timeout(Duration::from_secs(20));
    assert!(ended.is_ok(), "{what}: {ended:?}");
    thread.join().expect("it has ended");
}

fn poll_once<F: Future>(future: &mut std::pin::Pin<Box<F>>, node: &NodeHandle) -> Poll<F::Output> {
    let waker = Waker::from(Arc::new(Uses(node.clone())));
    future.as_mut().poll(&mut Context::from_waker(&waker))
}

#[test]
fn f7_wakers_run_outside_the_lock() {
    assert_ends("wakers", || {
        let mut subnet = Subnet::connected(2, &config());
        let (node, channel, route) = (subnet.node(1).clone(), subnet.channel(1), subnet.route(1));
        let server = subnet.serve(1);
        let to = subnet.id(0);
        while node.try_event().is_some() {}
        // Polled twice with different wakers, and dropped while it waits.
        let mut call = Box::pin(route.call(to, "x"));
        let mut event = Box::pin(channel.next_event());
        let mut node_event = Box::pin(node.next_event());
        let mut request = Box::pin(server.next_request());
        let mut end = Box::pin(node.closed());
        for _ in 0..2 {
            assert!(poll_once(&mut call, &node).is_pending());
            assert!(poll_once(&mut event, &node).is_pending());
            assert!(poll_once(&mut node_event, &node).is_pending());
            assert!(poll_once(&mut request, &node).is_pending());
            assert!(poll_once(&mut end, &node).is_pending());
        }
        drop((call, event, node_event, request, end));
        // Woken by the end.
        let mut call = Box::pin(route.call(to, "x"));
        let mut event = Box::pin(channel.next_event());
        assert!(
            poll_once(&mut call, &node).is_pending() && poll_once(&mut event, &node).is_pending()
        );
        subnet.drop_driver(1);
        assert!(poll_once(&mut call, &node).is_ready() && poll_once(&mut event, &node).is_ready());
    });
}

#[test]
fn f7_bytes_are_dropped_outside_the_lock() {
    assert_ends("bytes", || {
        let mut subnet = Subnet::connected(2, &config());
        let (node, channel, route) = (subnet.node(1).clone(), subnet.channel(1), subnet.route(1));
        let server = subnet.serve(1);
        let bytes = || Bytes::from_owner(Uses(node.clone()));
        let caller = subnet.route(0).call(subnet.id(1), "x");
        let request = subnet.run(server.next_request()).expect("a request");
        // An answer that is too late, a call that cannot be made, one that is given up.
        drop(caller);
        subnet.elapse(ms(100));
        request.answer(bytes()).expect_err("nobody waits");
        let nobody = subnet.id(1);
        subnet.run(route.call(nobody, bytes())).expect_err("it is no peer of itself");
        drop(route.call(subnet.id(0), bytes()));
        subnet.elapse(ms(100));
        // What is published is dropped when it is aborted, and what waits for the driver at its end.
        let id = channel.publish(bytes(), b"").expect("there is room");
        subnet.settle();
        channel.abort(&id);
        subnet.settle();
        channel.publish(bytes(), b"").expect("there is room");
        subnet.drop_driver(1);
        channel.publish(bytes(), b"").expect_err("it has ended");
    });
}

/// What is staged for a server that is dropped.
#[test]
fn f7_requests_are_dropped_outside_the_lock() {
    assert_ends("requests", || {
        let network = Network::new(2);
        let mut subnet = Subnet::new(&network, &config());
        subnet.until("connected", |subnet| subnet.node(0).peers_up().len() == 1);
        let server = subnet.serve(1);
        let calls: Vec<_> = (0..4).map(|_| subnet.route(0).call(subnet.id(1), "x")).collect();
        subnet.elapse(ms(100));
        drop(server);
        drop(calls);
        subnet.elapse(ms(100));
    });
}

/// Two threads take events of one channel, and none gets lost between them.
#[test]
fn all_events_come_though_two_threads_take_them() {
    let mut subnet = Subnet::connected(2, &config());
    let channel = subnet.channel(1);
    let taken = Arc::new(Mutex::new(0_usize));
    let takers: Vec<_> = (0..2)
        .map(|_| {
            let (channel, taken) = (channel.clone(), taken.clone());
            thread::spawn(move || {
                let thread = thread::current();
                struct Unpark(thread::Thread);
                impl Wake for Unpark {
                    fn wake(self: Arc<Self>) {
                        self.0.unpark();
                    }
                }
                let waker = Waker::from(Arc::new(Unpark(thread)));
                loop {
                    let mut next = Box::pin(channel.next_event());
                    let event = loop {
                        match next.as_mut().poll(&mut Context::from_waker(&waker)) {
                            Poll::Ready(event) => break event,
                            Poll::Pending => thread::park(),
                        }
                    };
                    match event {
                        Some(_) => *taken.lock().expect("no panic") += 1,
                        None => return,
                    }
                }
            })
        })
        .collect();
    let publisher = subnet.channel(0);
    for at in 0..500_u32 {
        publisher.publish(at.to_be_bytes().to_vec(), b"").expect("there is room");
        subnet.elapse(ms(1));
    }
    drop(subnet.node(1).shutdown());
    subnet.until("it has ended", |subnet| subnet.has_ended(1));
    takers.into_iter().for_each(|taker| taker.join().expect("no panic"));
    assert_eq!(*taken.lock().expect("no panic"), 500);
}
