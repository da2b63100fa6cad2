//! Addresses as they are compared.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// The form in which an address is compared, whether a topology gives it or a socket has received from
/// it. An IPv4 address is one, also where a socket for both families names it as an IPv6 address. The
/// scope is a part of link-local IPv6 addresses, and of no others (RFC 4007, section 6): sockets tell it
/// for those only. The flow label is no part of an address.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            let SocketAddr::V6(given) = address else { unreachable!("it has an IPv6 address") };
            SocketAddrV6::new(ip, address.port(), 0, given.scope_id()).into()
        }
        ip => SocketAddr::new(ip, address.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn f6_link_local_addresses_keep_their_scope() {
        let scoped = address("[fe80::1%7]:4000");
        assert_eq!(canonical(scoped), scoped);
        assert_ne!(canonical(scoped), canonical(address("[fe80::1%8]:4000")));
        let SocketAddr::V6(mut labelled) = scoped else { unreachable!() };
        labelled.set_flowinfo(5);
        assert_eq!(canonical(labelled.into()), scoped, "the flow label is none of it");
    }

    #[test]
    fn f6_other_addresses_have_no_scope() {
        let global = address("[2001:db8::1]:4000");
        assert_eq!(canonical(address("[2001:db8::1%7]:4000")), global);
        assert_eq!(canonical(address("[::ffff:10.0.0.1]:4000")), address("10.0.0.1:4000"));
    }
}
