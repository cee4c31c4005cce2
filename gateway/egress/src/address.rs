//! Which addresses may be dialled: those of the public internet, and none that means this machine or its network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Why an address is not dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("it resolves to this machine itself")]
    Own,
    #[error("it resolves to a loopback address")]
    Loopback,
    #[error("it resolves to a private address")]
    Private,
    #[error("it resolves to a link-local address")]
    LinkLocal,
    #[error("it resolves to a metadata service of a cloud")]
    Metadata,
    #[error("it resolves to a carrier's shared address")]
    Shared,
    #[error("it resolves to a multicast or broadcast address")]
    Multicast,
    #[error("it resolves to an address that embeds another one")]
    Embedding,
    #[error("it resolves to an address for documentation and tests")]
    Test,
    #[error("it resolves to an address that is reserved")]
    Reserved,
}

impl AddressError {
    /// Whether the operator may make an exception: never for what only tricks resolve to.
    pub fn may_be_excepted(self) -> bool {
        matches!(
            self,
            Self::Own | Self::Loopback | Self::Private | Self::Shared | Self::Test
        )
    }
}

/// Addresses of metadata services that lie in no range refused anyway, or that should be called by their name.
const METADATA: &[Ipv4Addr] = &[
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];

/// Refuses what is not public. Says nothing about this machine's own public addresses: see [`is_own`].
pub fn check(address: IpAddr) -> Result<(), AddressError> {
    match address {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => v6(address),
    }
}

fn v4(address: Ipv4Addr) -> Result<(), AddressError> {
    if METADATA.contains(&address) {
        return Err(AddressError::Metadata);
    }
    Err(match address.octets() {
        [127, ..] => AddressError::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => AddressError::Private,
        [100, 64..=127, ..] => AddressError::Shared,
        [169, 254, ..] => AddressError::LinkLocal,
        [224..=239, ..] | [255, 255, 255, 255] => AddressError::Multicast,
        // A relay to 6to4.
        [192, 88, 99, _] => AddressError::Embedding,
        // Also used in networks that are cut off from the internet.
        [192, 0, 2, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => AddressError::Test,
        [0 | 240..=255, ..] | [192, 0, 0, _] => AddressError::Reserved,
        _ => return Ok(()),
    })
}

fn v6(address: Ipv6Addr) -> Result<(), AddressError> {
    if address == Ipv6Addr::LOCALHOST {
        return Err(AddressError::Loopback);
    }
    Err(match address.segments() {
        [0xfd00, 0x0ec2, .., 0x0254] | [0xfd20, 0x00ce, ..] => AddressError::Metadata,
        // Unique local addresses, and the site-local ones that came before them.
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => AddressError::Private,
        [0xfe80..=0xfebf, ..] => AddressError::LinkLocal,
        [0xff00..=0xffff, ..] => AddressError::Multicast,
        // Compatible, mapped, translated (SIIT, NAT64, also its local prefix), 6to4, Teredo.
        [0, 0, 0, 0, 0 | 0xffff, ..] | [0x0064, 0xff9b, ..] | [0x2002, ..] | [0x2001, 0, ..] => {
            AddressError::Embedding
        }
        [0x2001, 0x0db8, ..] | [0x3fff, 0x0000..=0x0fff, ..] => AddressError::Test,
        // Of the block for protocols nothing is a server.
        [0x2001, 0x0001..=0x01ff, ..] => AddressError::Reserved,
        [0x2000..=0x3fff, ..] => return Ok(()),
        _ => AddressError::Reserved,
    })
}

/// Whether the address is one of this machine: then the kernel would take it as the source too. Sends nothing.
pub fn is_own(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_public_internet() {
        use AddressError::{
            Embedding, LinkLocal, Loopback, Metadata, Multicast, Private, Reserved, Shared, Test,
        };
        for (text, wanted) in [
            ("1.1.1.1", Ok(())),
            ("93.184.216.34", Ok(())),
            ("172.15.0.1", Ok(())),
            ("172.32.0.1", Ok(())),
            ("100.63.255.255", Ok(())),
            ("2606:4700:4700::1111", Ok(())),
            ("2001:4860:4860::8888", Ok(())),
            ("127.0.0.1", Err(Loopback)),
            ("127.255.255.254", Err(Loopback)),
            ("0.0.0.0", Err(Reserved)),
            ("0.1.2.3", Err(Reserved)),
            ("10.0.0.1", Err(Private)),
            ("172.16.0.1", Err(Private)),
            ("172.31.255.255", Err(Private)),
            ("192.168.1.1", Err(Private)),
            ("100.64.0.1", Err(Shared)),
            ("100.127.255.255", Err(Shared)),
            ("100.100.100.200", Err(Metadata)),
            ("169.254.169.254", Err(Metadata)),
            ("169.254.170.2", Err(LinkLocal)),
            ("168.63.129.16", Err(Metadata)),
            ("192.0.0.192", Err(Metadata)),
            ("192.0.0.1", Err(Reserved)),
            ("192.0.2.1", Err(Test)),
            ("192.88.99.1", Err(Embedding)),
            ("198.18.0.1", Err(Test)),
            ("198.51.100.1", Err(Test)),
            ("203.0.113.1", Err(Test)),
            ("224.0.0.251", Err(Multicast)),
            ("239.1.1.1", Err(Multicast)),
            ("255.255.255.255", Err(Multicast)),
            ("240.0.0.1", Err(Reserved)),
            ("::", Err(Embedding)),
            ("::1", Err(Loopback)),
            ("::127.0.0.1", Err(Embedding)),
            ("::ffff:127.0.0.1", Err(Embedding)),
            ("::ffff:1.1.1.1", Err(Embedding)),
            ("::ffff:0:7f00:1", Err(Embedding)),
            ("64:ff9b::a9fe:a9fe", Err(Embedding)),
            ("64:ff9b::7f00:1", Err(Embedding)),
            ("64:ff9b:1::1", Err(Embedding)),
            ("2002:7f00:1::", Err(Embedding)),
            ("2001::1", Err(Embedding)),
            ("2001:db8::1", Err(Test)),
            ("2001:2::1", Err(Reserved)),
            ("3fff::1", Err(Test)),
            ("5f00::1", Err(Reserved)),
            ("100::1", Err(Reserved)),
            ("fc00::1", Err(Private)),
            ("fd12:3456::1", Err(Private)),
            ("fd00:ec2::254", Err(Metadata)),
            ("fd20:ce::254", Err(Metadata)),
            ("fe80::1", Err(LinkLocal)),
            ("fec0::1", Err(Private)),
            ("ff02::fb", Err(Multicast)),
        ] {
            assert_eq!(check(text.parse().unwrap()), wanted, "{text}");
        }
    }

    #[test]
    fn this_machine_knows_itself() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        assert!(!is_own("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn exceptions_are_for_local_services_only() {
        for (text, wanted) in [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("203.0.113.80", true),
            ("0.0.0.0", false),
            ("169.254.169.254", false),
            ("::ffff:10.1.2.3", false),
        ] {
            assert_eq!(
                check(text.parse().unwrap()).unwrap_err().may_be_excepted(),
                wanted,
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn nothing_that_embeds_a_local_address_is_public(address in any::<Ipv4Addr>()) {
            let mapped = IpAddr::from(address.to_ipv6_mapped());
            prop_assert!(check(mapped).is_err());
            let [a, b, c, d] = address.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            prop_assert!(check(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low).into()).is_err());
            prop_assert!(check(Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1).into()).is_err());
        }
    }
}
