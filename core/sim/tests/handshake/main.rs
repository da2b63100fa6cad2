//! Handshakes, of every kind that there is: two QUIC endpoints that do no more than connect.

mod pair;
mod stolen_keys;

use quinn_proto::{Connection, ConnectionError, Dir};
use slotcast::internals::Provider;
use slotcast_sim::Crypto;

use pair::{ACCESS_DENIED, Pair, Peer, assert_refused, key, members};

const ALL: &[Crypto] = &[Crypto::Tls, Crypto::HybridTls, Crypto::Null];

#[test]
fn each_side_learns_who_the_other_is() {
    let (client, server) = (key(1), key(2));
    for crypto in ALL {
        let pair = Pair::connected(*crypto, &client, &server);
        assert_eq!(pair.client.sees(), Some(server.id()), "{crypto:?}");
        assert_eq!(pair.server.sees(), Some(client.id()), "{crypto:?}");
    }
}

#[test]
fn the_client_refuses_a_server_it_did_not_dial() {
    let (client, server, expected) = (key(1), key(2), key(3));
    for crypto in ALL {
        let pair = Pair::dial(*crypto, &client, expected.id(), &server, members(&[&client]));
        assert_refused(&pair.client, &pair.server, ACCESS_DENIED);
        assert!(!pair.server.connected, "{crypto:?}");
    }
}

#[test]
fn the_server_refuses_a_stranger_until_it_is_a_member() {
    let (client, server) = (key(1), key(2));
    for crypto in ALL {
        let members = members(&[&key(3)]);
        let dial = || Pair::dial(*crypto, &client, server.id(), &server, members.clone());
        let pair = dial();
        assert_refused(&pair.server, &pair.client, ACCESS_DENIED);
        assert!(pair.client.connected, "invariant 3, {crypto:?}");

        members.set([client.id()]);
        assert!(members.contains(client.id()) && !members.contains(key(3).id()));
        assert_eq!(dial().server.sees(), Some(client.id()), "{crypto:?}");
    }
}

#[test]
fn a_restarted_server_resets_the_connections_it_forgot() {
    let (client, server) = (key(1), key(2));
    for crypto in ALL {
        let mut pair = Pair::connected(*crypto, &client, &server);
        let restarted = Provider::new(&server, crypto.of_node(&server, &[8; 32]));
        let config = restarted.server_config(members(&[&client]));
        pair.server = Peer::new(&restarted, 2, Some(config));
        pair.client.quic().ping();
        pair.run();
        assert_eq!(pair.client.lost, Some(ConnectionError::Reset), "{crypto:?}");
    }
}

#[test]
fn a_server_may_ask_for_a_proof_of_the_address_first() {
    let (client, server) = (key(1), key(2));
    for crypto in ALL {
        let pair = Pair::connected_after_retry(*crypto, &client, &server);
        let first_answer = pair.wire.iter().find(|(_, by, _)| by.is_server()).unwrap();
        assert!(first_answer.2.len() < 200, "a retry packet, {crypto:?}");
        assert_eq!(pair.server.sees(), Some(client.id()), "{crypto:?}");
    }
}

#[test]
fn keys_can_be_updated_by_both_sides() {
    for crypto in ALL {
        let mut pair = Pair::connected(*crypto, &key(1), &key(2));
        for round in 0..6 {
            let by = if round % 2 == 0 { &mut pair.client } else { &mut pair.server };
            by.quic().force_key_update();
            send(by.quic(), b"after an update");
            pair.run();
            pair.assert_connected();
            let to = if round % 2 == 0 { &mut pair.server } else { &mut pair.client };
            assert_eq!(receive(to.quic()).unwrap(), b"after an update", "{crypto:?}");
        }
    }
}

#[test]
fn a_datagram_with_a_flipped_bit_does_nothing() {
    for crypto in ALL {
        let mut pair = Pair::connected(*crypto, &key(1), &key(2));
        for length in [1, 40, 1000] {
            let text = vec![b'x'; length];
            send(pair.client.quic(), &text);
            let [datagram] = pair.intercept().try_into().unwrap();
            for bit in 0..8 * datagram.len() {
                let mut flipped = datagram.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                pair.inject(&flipped);
                assert_eq!(receive(pair.server.quic()), None, "{crypto:?}, {length}, {bit}");
            }
            pair.assert_connected();
            pair.inject(&datagram);
            assert_eq!(receive(pair.server.quic()).unwrap(), text, "{crypto:?}");
            pair.run();
            pair.assert_connected();
        }
    }
}

/// Sends a stream with `text`.
fn send(quic: &mut Connection, text: &[u8]) {
    let stream = quic.streams().open(Dir::Uni).unwrap();
    assert_eq!(quic.send_stream(stream).write(text), Ok(text.len()));
    quic.send_stream(stream).finish().unwrap();
}

/// What the next stream holds, if there is one.
fn receive(quic: &mut Connection) -> Option<Vec<u8>> {
    let stream = quic.streams().accept(Dir::Uni)?;
    let mut text = Vec::new();
    let mut stream = quic.recv_stream(stream);
    let mut chunks = stream.read(true).unwrap();
    while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
        text.extend_from_slice(&chunk.bytes);
    }
    let _ = chunks.finalize();
    Some(text)
}
