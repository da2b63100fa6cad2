//! Places among the calls to a member: who waits for one gets it in turn, before there is a request.

use slotcast::driver::Member;
use slotcast::error::CallError;

use crate::network::Network;
use crate::subnet::{Subnet, Waiting, config, ms};

/// A member that takes one call at a time.
fn narrow() -> Subnet {
    let mut config = config();
    (config.routes[0].in_flight_max, config.routes[0].waiting_max) = (1, 1);
    Subnet::connected(2, &config)
}

/// A future of a member's place, which keeps it.
async fn ready(mut member: Member) -> Result<Member, CallError> {
    member.ready().await.map(|()| member)
}

#[test]
fn who_waits_for_a_place_gets_it_when_a_call_has_ended_first_come_first_served() {
    let mut subnet = narrow();
    let server = subnet.serve(1);
    let (route, to) = (subnet.route(0), subnet.id(1));
    let call = route.call(to, "x");
    let [mut first, mut second] = [(); 2].map(|()| Waiting::new(ready(route.to(to))));
    assert!(first.poll().is_none() && second.poll().is_none());
    subnet.run(server.next_request()).expect("a request").answer("y").expect("it waits");
    assert_eq!(subnet.run(call), Ok("y".into()));
    subnet.settle();
    assert!(first.is_woken() && !second.is_woken());
    let mut member = first.poll().expect("there is a place").expect("connected");
    assert_eq!(route.try_call(to, "x").err(), Some(CallError::Pushback), "the place is taken");
    subnet.settle();
    assert!(!second.is_woken());
    // The call takes the place; it is free when that has ended.
    let call = member.call("z");
    subnet.run(server.next_request()).expect("a request").answer("y").expect("it waits");
    assert_eq!(subnet.run(call), Ok("y".into()));
    subnet.settle();
    let member = second.poll().expect("there is a place").expect("connected");
    // A place that is not used is free again.
    let mut third = Waiting::new(ready(route.to(to)));
    assert!(third.poll().is_none());
    drop(member);
    subnet.settle();
    assert!(third.poll().is_some_and(|member| member.is_ok()));
}

#[test]
fn who_waits_for_a_place_is_told_when_there_will_be_none() {
    let mut subnet = narrow();
    let (route, to) = (subnet.route(0), subnet.id(1));
    let _call = route.call(to, "x");
    let mut waiting = Waiting::new(ready(route.to(to)));
    assert!(waiting.poll().is_none());
    drop(subnet.node(1).shutdown());
    subnet.until("it has gone", |subnet| subnet.node(0).peers_up().is_empty());
    subnet.settle();
    assert_eq!(waiting.poll().map(Result::err), Some(Some(CallError::NotConnected)));
    subnet.drop_driver(0);
    let ended = subnet.run(ready(route.to(to)));
    assert_eq!(ended.err(), Some(CallError::Closed));
}

#[test]
fn a_place_that_is_kept_outlives_its_connection() {
    let mut subnet = Subnet::new(&Network::new(2), &config());
    let (route, to) = (subnet.route(0), subnet.id(1));
    assert_eq!(subnet.run(ready(route.to(to))).err(), Some(CallError::NotConnected));
    subnet.until("connected", |subnet| subnet.node(0).peers_up().len() == 1);
    let mut member = subnet.run(ready(route.to(to))).expect("connected");
    drop(subnet.node(1).shutdown());
    subnet.until("it has gone", |subnet| subnet.node(0).peers_up().is_empty());
    subnet.elapse(ms(100));
    assert_eq!(subnet.run(member.call("x")), Err(CallError::NotConnected));
    assert_eq!(subnet.run(member.ready()), Err(CallError::NotConnected));
}

/// The second begins to wait on a new connection, before the first has been polled since the last one has ended.
#[test]
fn who_waits_since_an_earlier_connection_takes_nobodys_turn() {
    let mut subnet = narrow();
    let (route, to) = (subnet.route(0), subnet.id(1));
    let place = subnet.run(ready(route.to(to))).expect("connected");
    let [mut first, mut second] = [(); 2].map(|()| Waiting::new(ready(route.to(to))));
    assert!(first.poll().is_none());
    drop(place);
    assert!(subnet.node(0).disconnect(&to));
    subnet.until("it has gone", |subnet| subnet.node(0).peers_up().is_empty());
    subnet.until("it is back", |subnet| subnet.node(0).peers_up().len() == 1);
    let place = subnet.run(ready(route.to(to))).expect("connected");
    assert!(second.poll().is_none() && first.poll().is_none());
    // Each gives it to the next, the first first.
    drop(place);
    subnet.settle();
    assert!(first.is_woken() && !second.is_woken());
    drop(first.poll().expect("there is a place"));
    subnet.settle();
    assert!(second.poll().is_some_and(|member| member.is_ok()));
}

/// [`Member`]: a clone has no place of its own yet.
#[test]
fn a_clone_waits_for_a_place_of_its_own() {
    let mut subnet = narrow();
    let (route, to) = (subnet.route(0), subnet.id(1));
    let member = subnet.run(ready(route.to(to))).expect("connected");
    let mut clone = Waiting::new(ready(member.clone()));
    assert!(clone.poll().is_none());
    drop(member);
    subnet.settle();
    assert!(clone.poll().is_some_and(|clone| clone.is_ok()));
}
