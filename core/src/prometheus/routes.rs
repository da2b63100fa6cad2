//! Metrics of the routes.

use std::fmt;
use std::vec;

use super::family::{Families, Labels, Name, bytes, label, seconds, things};
use crate::snapshot::{Histogram, RouteSnapshot};

fn labels(route: &RouteSnapshot) -> Labels {
    vec![label("route", route.id.0), label("name", &route.name)]
}

/// A value of each route.
fn of_all<T>(
    routes: &[RouteSnapshot],
    value: impl Fn(&RouteSnapshot) -> T,
) -> impl Iterator<Item = (Labels, T)> {
    routes.iter().map(move |route| (labels(route), value(route)))
}

/// Some values of each route, by `sort`.
fn sorted<const N: usize>(
    routes: &[RouteSnapshot],
    sort: &'static str,
    values: impl Fn(&RouteSnapshot) -> [(&'static str, u64); N],
) -> impl Iterator<Item = (Labels, u64)> {
    routes.iter().flat_map(move |route| {
        values(route).map(|(name, value)| {
            let mut labels = labels(route);
            labels.push(label(sort, name));
            (labels, value)
        })
    })
}

pub(super) fn encode(routes: &[RouteSnapshot], families: &mut Families<'_>) -> fmt::Result {
    type OfRoute<T> = fn(&RouteSnapshot) -> T;
    let gauges: [(Name<'_>, OfRoute<u64>); 6] = [
        (things("slotcast_route_calls_in_flight", "Calls under way"), |r| r.calls.in_flight.into()),
        (
            things("slotcast_route_calls_credit", "Calls that all connected peers allow at once"),
            |r| r.calls.credit.into(),
        ),
        (things("slotcast_route_calls_waiting", "Calls that wait for credit"), |r| {
            r.calls.waiting.into()
        }),
        (
            things("slotcast_route_requests_in_flight", "Requests received, worked on, answered"),
            |r| r.requests.in_flight.into(),
        ),
        (things("slotcast_route_requests_waiting", "Requests that wait unread"), |r| {
            r.requests.waiting.into()
        }),
        (bytes("slotcast_route_bodies_max", "The bound of bodies of each sort"), |r| {
            r.body_bytes_max
        }),
    ];
    for (name, value) in gauges {
        families.gauges(name, of_all(routes, value))?;
    }
    let bodies = bytes("slotcast_route_bodies", "Bodies of calls and requests");
    families.gauges(
        bodies,
        sorted(routes, "sort", |r| {
            [
                ("call_request", r.calls.request_bytes),
                ("call_answer", r.calls.answer_bytes),
                ("request", r.requests.request_bytes),
                ("answer", r.requests.answer_bytes),
            ]
        }),
    )?;
    let begun = things("slotcast_route_calls_begun", "Calls that this node has begun");
    families.counters(begun, of_all(routes, |route| route.calls.counts.begun))?;
    let calls = things("slotcast_route_calls", "Calls of this node that have ended");
    families.counters(calls, sorted(routes, "outcome", |r| r.calls.counts.outcomes()))?;
    let taken = things("slotcast_route_requests_taken", "Requests that were handed out");
    families.counters(taken, of_all(routes, |route| route.requests.counts.taken))?;
    let requests = things("slotcast_route_requests", "Requests of peers that have ended");
    families.counters(
        requests,
        sorted(routes, "outcome", |r| {
            let counts = &r.requests.counts;
            [
                ("answered", counts.answered),
                ("refused", counts.refused),
                ("cancelled", counts.cancelled),
            ]
        }),
    )?;
    let histograms: [(Name<'_>, OfRoute<Histogram>); 2] = [
        (seconds("slotcast_route_call", "From a call to its answer"), |r| r.calls.latencies),
        (
            seconds("slotcast_route_request", "From when a request was handed out to its answer"),
            |r| r.requests.latencies,
        ),
    ];
    for (name, value) in histograms {
        families.histograms(name, of_all(routes, value))?;
    }
    Ok(())
}
