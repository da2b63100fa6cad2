//! What a replica shows over HTTP, and what it takes from whom.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{Replica, Scratch, free_addresses, topology_of, wait_until};

fn lone_replica(scratch: &Scratch) -> Replica {
    let [address] = free_addresses();
    let mut replica = Replica::new(scratch, 0, address);
    scratch.write("topology.toml", topology_of(1, &[(&replica.id, address)]));
    replica.start();
    wait_until("it serves", || replica.log().contains("status at "), || replica.log());
    replica
}

#[test]
fn paths_show_health_metrics_status_and_a_page_without_anything_from_elsewhere() {
    let scratch = Scratch::new("http");
    let replica = lone_replica(&scratch);
    let healthy = replica.get("/healthz");
    assert!(healthy.starts_with("HTTP/1.1 200 ") && healthy.ends_with("\r\n\r\nok\n"), "{healthy}");
    assert!(replica.get("/metrics").ends_with("# EOF\n"));
    let status = replica.get("/status.json");
    assert!(status.contains(&format!("\"id\":\"{}\"", replica.id)), "{status}");
    assert!(status.contains("\"active_max\":1024"), "{status}");
    let page = replica.get("/");
    assert!(page.contains("default-src 'none'") && page.contains("<!doctype html>"), "{page}");
    let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!elsewhere.contains("http:") && !elsewhere.contains("https:"), "{page}");
    assert!(replica.get("/nothing").starts_with("HTTP/1.1 404 "));
}

#[test]
fn whoever_connects_and_says_nothing_or_too_much_holds_up_others_only_for_a_while() {
    /// More than there are places.
    const SILENT: usize = 40;
    let scratch = Scratch::new("http-bounds");
    let replica = lone_replica(&scratch);
    let ask = |request: &[u8]| {
        let mut stream = TcpStream::connect(replica.http_address()).unwrap();
        // It may be closed before all is said.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    };
    let post = ask(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    let answer = ask(long.as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");

    let silent: Vec<TcpStream> =
        (0..SILENT).map(|_| TcpStream::connect(replica.http_address()).unwrap()).collect();
    // All places are taken, until they have had their time.
    assert!(replica.get("/healthz").starts_with("HTTP/1.1 200 "));
    for mut stream in silent.into_iter().take(8) {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "it was closed");
    }
}
