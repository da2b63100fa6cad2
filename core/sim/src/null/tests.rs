//! Sessions without packets, packets without sessions, and what both are refused for.

use std::collections::VecDeque;

use bytes::BytesMut;
use quinn_proto::ConnectionIdGenerator;

use super::super::Crypto;
use super::protection::ROOT;
use super::*;
use slotcast::internals::SERVER_NAME;
use slotcast::node::NodeKey;

type Handshake = Arc<dyn HandshakeCrypto>;

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// A session of each side. The server's name is that of key 2.
type Sessions = [Box<dyn crypto::Session>; 2];

fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed([seed; 32])
}

fn members(ids: &[&NodeKey]) -> Arc<Members> {
    let members = Members::default();
    members.set(ids.iter().map(|key| key.id()));
    Arc::new(members)
}

/// That of a node with this key.
fn handshake(crypto: Crypto, key: &NodeKey) -> Handshake {
    crypto.of_node(key, &[7; 32])
}

fn sessions_of(client: &Handshake, server: &Handshake) -> Sessions {
    // An idle timeout, as an example.
    let parameters = TransportParameters::read(Side::Client, &mut &[1, 2, 0x67, 0x10][..]).unwrap();
    let client = client.client(&[key(2).id()]);
    let server = server.server(members(&[&key(1)]));
    [
        client.start_session(1, SERVER_NAME, &parameters).unwrap(),
        server.start_session(1, &parameters),
    ]
}

fn sessions(crypto: Crypto) -> Sessions {
    sessions_of(&handshake(crypto, &key(1)), &handshake(crypto, &key(2)))
}

/// What a session has to say, each message with the keys that come after it.
fn write(session: &mut dyn crypto::Session) -> Vec<(Vec<u8>, Option<Keys>)> {
    let mut written = Vec::new();
    loop {
        let mut message = Vec::new();
        let keys = session.write_handshake(&mut message);
        if message.is_empty() && keys.is_none() {
            return written;
        }
        written.push((message, keys));
    }
}

/// What can be seen of a side after it was given a message, or a piece of one.
#[derive(PartialEq, Debug)]
struct Step {
    side: usize,
    is_announced: bool,
    is_handshaking: bool,
    knows_peer: bool,
    knows_parameters: bool,
    early_data: (bool, Option<bool>),
    /// The lengths of its messages, and whether keys came with them.
    written: Vec<(usize, bool)>,
}

/// Completes a handshake. Each message arrives at its side in the pieces that `cut` makes of it.
/// Gives what happened, and the keys of each side.
fn talk(
    sessions: &mut Sessions,
    mut cut: impl FnMut(usize, Vec<u8>) -> Vec<Vec<u8>>,
) -> (Vec<Step>, [Vec<Keys>; 2]) {
    let mut steps = Vec::new();
    let mut keys = [Vec::new(), Vec::new()];
    let mut on_the_way = VecDeque::from([(CLIENT, Vec::new())]);
    while let Some((side, piece)) = on_the_way.pop_front() {
        let session = &mut *sessions[side];
        let is_announced = !piece.is_empty() && session.read_handshake(&piece).unwrap();
        let is_handshaking = session.is_handshaking();
        let knows_peer = session.peer_identity().is_some();
        let knows_parameters = session.transport_parameters().unwrap().is_some();
        let early_data = (session.early_crypto().is_some(), session.early_data_accepted());
        assert!(!is_announced || session.handshake_data().is_some());
        let mut written = Vec::new();
        for (message, level) in write(session) {
            written.push((message.len(), level.is_some()));
            keys[side].extend(level);
            let pieces = cut(1 - side, message).into_iter().filter(|piece| !piece.is_empty());
            on_the_way.extend(pieces.map(|piece| (1 - side, piece)));
        }
        steps.push(Step {
            side,
            is_announced,
            is_handshaking,
            knows_peer,
            knows_parameters,
            early_data,
            written,
        });
    }
    (steps, keys)
}

fn whole(_to: usize, message: Vec<u8>) -> Vec<Vec<u8>> {
    vec![message]
}

/// A packet as `keys` protect it: header, payload and tag.
fn seal(keys: &dyn PacketKey, number: u64, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut packet = [header, payload, &[0; 16]].concat();
    keys.encrypt(number, &mut packet, header.len());
    packet
}

/// The payload of a packet, if it fits the keys.
fn open(keys: &dyn PacketKey, number: u64, header_bytes: usize, packet: &[u8]) -> Option<Vec<u8>> {
    let (header, payload) = packet.split_at(header_bytes);
    let mut payload = BytesMut::from(payload);
    keys.decrypt(number, header, &mut payload).ok()?;
    Some(payload.to_vec())
}

fn fits(local: &dyn PacketKey, remote: &dyn PacketKey) -> bool {
    open(remote, 7, 3, &seal(local, 7, b"abc", b"text")).is_some()
}

/// Both sides are through, know each other, and can read each other at both levels.
fn assert_complete(sessions: &Sessions, keys: &[Vec<Keys>; 2]) {
    for (side, peer) in [(CLIENT, key(2)), (SERVER, key(1))] {
        assert!(!sessions[side].is_handshaking());
        let identity = sessions[side].peer_identity().unwrap();
        let identity = identity.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>();
        assert_eq!(*identity.unwrap(), [spki(peer.id())]);
        assert_eq!(keys[side].len(), 2);
    }
    for (a, b) in keys[CLIENT].iter().zip(&keys[SERVER]) {
        assert!(fits(&*a.packet.local, &*b.packet.remote));
        assert!(fits(&*b.packet.local, &*a.packet.remote));
    }
}

#[track_caller]
fn assert_alert(read: Result<bool, TransportError>, alert: u8) {
    assert_eq!(read.map_err(|error| error.code), Err(TransportErrorCode::crypto(alert)));
}

/// The messages of a handshake, each with the side that has to read it.
fn messages() -> Vec<(usize, Vec<u8>)> {
    let mut messages = Vec::new();
    talk(&mut sessions(Crypto::Null), |to, message| {
        messages.push((to, message.clone()));
        vec![message]
    });
    // A client has nothing to say at the end of the Initial level.
    messages.retain(|(_, message)| !message.is_empty());
    messages
}

/// The session to which this message goes, having read what came before.
fn reader_of(messages: &[(usize, Vec<u8>)], number: usize) -> Box<dyn crypto::Session> {
    let (side, _) = messages[number];
    let [client, server] = sessions(Crypto::Null);
    let mut session = if side == CLIENT { client } else { server };
    write(&mut *session);
    for (_, message) in messages[..number].iter().filter(|(to, _)| *to == side) {
        session.read_handshake(message).unwrap();
        write(&mut *session);
    }
    session
}

#[test]
fn the_handshake_has_the_shape_of_tls() {
    let [tls, null] = [Crypto::Tls, Crypto::Null].map(|crypto| {
        let mut sessions = sessions(crypto);
        let (steps, keys) = talk(&mut sessions, whole);
        assert_complete(&sessions, &keys);
        steps
    });
    assert_eq!(tls, null);
}

#[test]
fn messages_may_arrive_in_any_pieces() {
    for at in 0..250 {
        let mut sessions = sessions(Crypto::Null);
        let (_, keys) = talk(&mut sessions, |_, mut message| {
            let rest = message.split_off(at.min(message.len()));
            vec![message, rest]
        });
        assert_complete(&sessions, &keys);
    }
    let mut sessions = sessions(Crypto::Null);
    let (_, keys) = talk(&mut sessions, |_, message| message.chunks(1).map(Vec::from).collect());
    assert_complete(&sessions, &keys);
}

/// The alert for a message with one bit flipped at a place; none if it may be taken, or wait for
/// more.
fn alert_for(kind: Kind, parameters: usize, at: usize, flipped: &[u8]) -> Option<u8> {
    let claimed = usize::from(u16::from_be_bytes([flipped[7], flipped[8]]));
    match at {
        0..6 => Some(NO_APPLICATION_PROTOCOL),
        6 => Some(UNEXPECTED_MESSAGE),
        7 | 8 if claimed > kind.parameters_bytes_max() => Some(DECODE_ERROR),
        7 | 8 if claimed < parameters => Some(UNEXPECTED_MESSAGE),
        7 | 8 => None,
        9..41 if matches!(kind, Kind::ServerIdentity | Kind::ClientIdentity) => Some(ACCESS_DENIED),
        // A wrong random makes wrong keys, and parameters are for QUIC to judge.
        9..41 => None,
        at if at < 41 + parameters => None,
        _ => Some(DECODE_ERROR),
    }
}

#[test]
fn a_message_with_a_flipped_bit_gets_the_alert_it_deserves() {
    let kinds = [Kind::ClientHello, Kind::ServerHello, Kind::ServerIdentity, Kind::ClientIdentity];
    let messages = messages();
    for ((number, (_, message)), kind) in messages.iter().enumerate().zip(kinds) {
        assert_eq!(message[6..8], [kind as u8, 0]);
        let parameters = usize::from(message[8]);
        for bit in 0..8 * message.len() {
            let mut flipped = message.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut session = reader_of(&messages, number);
            let found = session.read_handshake(&flipped).err().map(|error| error.code);
            let alert = alert_for(kind, parameters, bit / 8, &flipped);
            assert_eq!(found, alert.map(TransportErrorCode::crypto), "{kind:?}, {bit}");
            let _ = session.transport_parameters();
            if alert.is_some() {
                assert_alert(session.read_handshake(message), UNEXPECTED_MESSAGE);
                assert!(session.is_handshaking() && write(&mut *session).is_empty());
            }
        }
    }
}

#[test]
fn nothing_is_taken_but_the_message_that_is_due() {
    let messages = messages();
    assert_eq!(messages.len(), 4);
    for (number, (_, message)) in messages.iter().enumerate() {
        let reader = || reader_of(&messages, number);
        let longer = [message, &[0][..]].concat();
        assert_alert(reader().read_handshake(&longer), UNEXPECTED_MESSAGE);
        for (other, (_, wrong)) in messages.iter().enumerate() {
            if other != number {
                assert_alert(reader().read_handshake(wrong), UNEXPECTED_MESSAGE);
            }
            // Behind the last message, or before there were keys for the next one.
            let mut session = reader();
            session.read_handshake(message).unwrap();
            assert_alert(session.read_handshake(wrong), UNEXPECTED_MESSAGE);
        }
    }
}

#[test]
fn no_more_is_held_than_a_message_can_be_long() {
    let mut assembly = Assembly::default();
    let message = Kind::ClientHello.encode([1; 32], &[2; PARAMETERS_BYTES_MAX]);
    assert!(assembly.take(Kind::ClientHello, &message[..500]).unwrap().is_none());
    assert!(assembly.take(Kind::ClientHello, &vec![0; 1 << 20]).is_err());
    assert!(assembly.0.capacity() <= 2 * message.len());
    let message = assembly.take(Kind::ClientHello, &message[500..]).unwrap().unwrap();
    assert_eq!((message.value, message.parameters.len()), ([1; 32], PARAMETERS_BYTES_MAX));
}

#[test]
fn other_protocols_are_told_so() {
    let [mut tls, _] = sessions(Crypto::Tls);
    let [_, mut null] = sessions(Crypto::Null);
    let hello = write(&mut *tls).remove(0).0;
    assert_alert(null.read_handshake(&hello), NO_APPLICATION_PROTOCOL);
}

#[test]
fn what_only_the_end_of_the_handshake_makes_good_is_not_there_before() {
    let [mut client, mut server] = sessions(Crypto::Null);
    server.read_handshake(&write(&mut *client)[0].0).unwrap();
    assert!(server.next_1rtt_keys().is_none(), "those after the first");
    write(&mut *server);
    assert!(server.next_1rtt_keys().is_some());
    assert!(server.peer_identity().is_none());
    assert!(server.export_keying_material(&mut [0; 32], b"", b"").is_err());
}

#[test]
fn both_sides_export_the_same() {
    let mut sessions = sessions(Crypto::Null);
    let export = |session: &dyn crypto::Session, context: &[u8], length: usize| {
        let mut out = vec![0; length];
        session.export_keying_material(&mut out, b"label", context).map(|()| out)
    };
    talk(&mut sessions, whole);
    let [client, server] =
        sessions.each_ref().map(|session| export(&**session, b"a", 100).unwrap());
    assert_eq!(client, server);
    assert_ne!(client, export(&*sessions[CLIENT], b"b", 100).unwrap());
    assert!(export(&*sessions[CLIENT], b"", 1 << 20).is_err());
}

// Packets, without sessions.

#[test]
fn no_packet_with_a_flipped_bit_fits() {
    let keys = ROOT.derive("some", &[]);
    for length in (0..300).chain([1200]) {
        let header = b"a header";
        let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
        let packet = seal(&keys, 5, header, &payload);
        assert_eq!(open(&keys, 5, header.len(), &packet).unwrap(), payload);
        assert_eq!(packet[..packet.len() - 16], *[header, &payload[..]].concat(), "plain text");
        for bit in 0..8 * packet.len() {
            let mut flipped = packet.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&keys, 5, header.len(), &flipped), None, "{length}, {bit}");
        }
        assert_eq!(open(&keys, 6, header.len(), &packet), None, "another number");
        assert_eq!(open(&keys, 5, header.len() - 1, &packet), None, "another header");
        assert_eq!(open(&keys, 5, header.len(), &packet[..packet.len() - 1]), None);
        assert_eq!(open(&keys, 5, header.len(), &[&packet, &[0][..]].concat()), None);
    }
    for length in 0..16 {
        assert_eq!(open(&keys, 5, 0, &vec![0; length]), None, "less than a tag");
    }
}

#[test]
fn packets_fit_their_own_connection_side_level_and_generation_only() {
    let mut pairs = Vec::new();
    for version in [1, 2] {
        for cid in [&[1; 8][..], &[2; 8], &[1; 9]] {
            let cid = ConnectionId::new(cid);
            let sides = [Side::Client, Side::Server];
            pairs.push(sides.map(|side| initial_keys(version, &cid, side).packet));
        }
    }
    let (client, server) = (handshake(Crypto::Null, &key(1)), handshake(Crypto::Null, &key(2)));
    let restarted = Crypto::Null.of_node(&key(2), &[8; 32]);
    for server in [&server, &server, &restarted] {
        let mut sessions = sessions_of(&client, server);
        let (_, keys) = talk(&mut sessions, whole);
        let levels = keys[CLIENT].len();
        let mut keys = keys.map(Vec::into_iter);
        for _ in 0..levels {
            pairs.push(keys.each_mut().map(|keys| keys.next().unwrap().packet));
        }
        for _ in 0..3 {
            pairs.push(sessions.each_mut().map(|session| session.next_1rtt_keys().unwrap()));
        }
    }
    for randoms in [[1, 2], [1, 3], [3, 2], [2, 1]] {
        let secret = Secret::of_connection(&[randoms[0]; 32], &[randoms[1]; 32]);
        pairs.push([Side::Client, Side::Server].map(|side| secret.packet_keys(side)));
    }
    let mut fitting = 0;
    for (at, a) in pairs.iter().enumerate() {
        for (other, b) in pairs.iter().enumerate() {
            for (from, to) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let fits = fits(&*a[from].local, &*b[to].remote);
                assert_eq!(fits, at == other && from != to, "{at}, {other}, {from}, {to}");
                fitting += usize::from(fits);
            }
        }
    }
    assert_eq!(fitting, 2 * (6 + 3 * 5 + 4));
}

#[test]
fn a_retry_packet_with_a_flipped_bit_is_not_valid() {
    let server = handshake(Crypto::Null, &key(2)).server(members(&[]));
    let [client, _] = sessions(Crypto::Null);
    let (cid, header, token) = ([1; 20], *b"header", *b"and token");
    let tag = server.retry_tag(1, &ConnectionId::new(&cid), b"headerand token");
    let packet = [&cid[..], &header, &token, &tag].concat();
    let is_valid = |packet: &[u8]| {
        let (cid, packet) = packet.split_at(cid.len());
        let (header, payload) = packet.split_at(header.len());
        client.is_valid_retry(&ConnectionId::new(cid), header, payload)
    };
    assert!(is_valid(&packet));
    for bit in 0..8 * packet.len() {
        let mut flipped = packet.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!is_valid(&flipped), "{bit}");
    }
    assert!(!is_valid(&packet[..cid.len() + header.len() + 15]), "less than a tag");
}

#[test]
fn connection_ids_are_recognised_after_a_restart() {
    let generator = |cid_key: u64, seed: u8| {
        let source = Arc::new(Source::new(key(1).id(), &[seed; 32]));
        Box::new(Cids::new(cid_key, source)) as Box<_>
    };
    let draw = |mut cids: Box<dyn ConnectionIdGenerator>| -> Vec<_> {
        (0..50).map(|_| cids.generate_cid()).collect()
    };
    let before = draw(generator(1, 1));
    assert_eq!(before, draw(generator(1, 1)));
    let after = draw(generator(1, 2));
    for cid in &before {
        assert_eq!(before.iter().filter(|other| *other == cid).count(), 1);
        assert!(!after.contains(cid));
        assert!(generator(1, 2).validate(cid).is_ok());
        assert!(generator(2, 1).validate(cid).is_err());
        for bit in 0..64 {
            let mut flipped = [0; 8];
            flipped.copy_from_slice(cid);
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(generator(1, 1).validate(&ConnectionId::new(&flipped)).is_err());
        }
        assert!(generator(1, 1).validate(&ConnectionId::new(&cid[..7])).is_err());
    }
}
