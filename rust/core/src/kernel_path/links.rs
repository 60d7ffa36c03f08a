//! Which of a machine's links carry what its sockets say and hear: those that the program is to
//! be at. Pure, but for the asking.
//!
//! Links stand on each other, and a segment passes the program at each that it is at. It has to be
//! seen once, where the system's routes lead to: at the topmost.

use std::collections::HashMap;
use std::io;

use mailweir_flow::Framing;

use super::netlink::{Netlink, attributes, number};

/// linux/rtnetlink.h.
const RTM_GETLINK: u16 = 18;
/// linux/if_link.h.
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_MACVLAN_MODE: u16 = 1;
const MACVLAN_MODE_PASSTHRU: u32 = 8;
/// ifinfomsg: family, kind of hardware, number, two words of flags.
const INFO: usize = 16;
/// linux/if_arp.h: Ethernet, also of virtual interfaces.
const ETHERNET: u16 = 1;
/// linux/if_arp.h: PPP; a modem's; a tunnel without a header of its own (TUN, WireGuard).
const BARE: [u16; 3] = [512, 519, 0xfffe];

/// A link, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    index: u32,
    name: String,
    /// None where the program doesn't know its frames.
    framing: Option<Framing>,
    /// The bridge, bond or the like that it is a port of.
    master: Option<u32>,
    stands: Stands,
}

/// How a link stands on another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// By itself; or on one that has its own segments beside: those of a VLAN have its tag, those of a
    /// macvlan its address, and the program at the lower link leaves both alone.
    Apart,
    /// On the link of this number, all of whose segments it takes.
    InPlaceOf(u32),
    /// On nothing: routes lead to it, and segments go by its ports (a VRF).
    Nowhere,
}

/// Every link that there is.
///
/// # Errors
/// What the kernel says.
pub(super) fn all() -> io::Result<Vec<Link>> {
    let found = Netlink::open(libc::NETLINK_ROUTE)?.ask_of_all(RTM_GETLINK, &[0; INFO])?;
    Ok(found.iter().filter_map(|body| Link::parse(body)).collect())
}

/// Where the program is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Carrier {
    pub(super) name: String,
    pub(super) framing: Framing,
}

/// Those that the program is to be at, by their numbers.
///
/// What comes to a port of a bridge or a bond is its master's, and what goes out there as well:
/// the master has the addresses. A VRF has no frames, and routes of its own for its ports: its
/// sessions take the relay.
pub(super) fn carriers(links: &[Link]) -> HashMap<u32, Carrier> {
    let is_taken = |index| {
        let mut others = links.iter();
        others.any(|other| other.stands == Stands::InPlaceOf(index))
    };
    let carriers = links.iter().filter(|link| {
        link.master.is_none() && link.stands != Stands::Nowhere && !is_taken(link.index)
    });
    carriers
        .filter_map(|link| {
            let name = link.name.clone();
            let framing = link.framing?;
            Some((link.index, Carrier { name, framing }))
        })
        .collect()
}

impl Link {
    /// From the body of a message about it.
    fn parse(body: &[u8]) -> Option<Self> {
        let hardware = u16::from_ne_bytes(*body.get(2..)?.first_chunk()?);
        let index = number(body.get(4..)?)?;
        let (mut name, mut master, mut lower) = (None, None, None);
        let (mut is_elsewhere, mut info) = (false, &[][..]);
        for (kind, value) in attributes(body.get(INFO..)?) {
            match kind {
                IFLA_IFNAME => name = value.split(|byte| *byte == 0).next(),
                IFLA_MASTER => master = number(value),
                IFLA_LINK => lower = number(value),
                // Its number means something in another network alone.
                IFLA_LINK_NETNSID => is_elsewhere = true,
                IFLA_LINKINFO => info = value,
                _ => {}
            }
        }
        let lower = lower.filter(|_| !is_elsewhere);
        Some(Self {
            index,
            name: String::from_utf8(name?.to_vec()).ok()?,
            framing: framing(hardware),
            master,
            stands: Stands::of(info, lower),
        })
    }
}

fn framing(hardware: u16) -> Option<Framing> {
    match hardware {
        ETHERNET => Some(Framing::Ethernet),
        hardware if BARE.contains(&hardware) => Some(Framing::Bare),
        _ => None,
    }
}

impl Stands {
    fn of(info: &[u8], lower: Option<u32>) -> Self {
        let find = |wanted| {
            let mut found = attributes(info).filter(move |(kind, _)| *kind == wanted);
            found.next().map(|(_, value)| value)
        };
        let kind = find(IFLA_INFO_KIND).unwrap_or_default();
        let mode = || {
            let data = find(IFLA_INFO_DATA).unwrap_or_default();
            let mut modes = attributes(data).filter(|(kind, _)| *kind == IFLA_MACVLAN_MODE);
            modes.next().and_then(|(_, mode)| number(mode))
        };
        let kind = kind.strip_suffix(b"\0").unwrap_or(kind);
        match (kind, lower) {
            (b"vrf", _) => Self::Nowhere,
            // It has the same address, or takes all.
            (b"ipvlan" | b"ipvtap", Some(lower)) => Self::InPlaceOf(lower),
            (b"macvlan" | b"macvtap", Some(lower)) if mode() == Some(MACVLAN_MODE_PASSTHRU) => {
                Self::InPlaceOf(lower)
            }
            _ => Self::Apart,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::netlink::attribute;
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            framing: Some(Framing::Ethernet),
            master: None,
            stands: Stands::Apart,
        }
    }

    fn port(index: u32, name: &str, master: u32) -> Link {
        Link {
            master: Some(master),
            ..link(index, name)
        }
    }

    fn at(links: &[Link]) -> Vec<String> {
        let mut names: Vec<_> = carriers(links).into_values().map(|one| one.name).collect();
        names.sort();
        names
    }

    #[test]
    fn of_ports_and_their_master_it_is_the_master() {
        let bridge = [port(2, "eth0", 4), port(3, "eth1", 4), link(4, "br0")];
        assert_eq!(at(&bridge), ["br0"]);
        // A VLAN on a bond, which is a port of a bridge.
        let deep = [
            port(2, "eth0", 3),
            link(3, "bond0"),
            port(4, "bond0.7", 5),
            link(5, "br7"),
        ];
        assert_eq!(at(&deep), ["bond0", "br7"]);
    }

    #[test]
    fn what_is_told_apart_is_at_both() {
        let vlan = [link(2, "eth0"), link(3, "eth0.7")];
        assert_eq!(at(&vlan), ["eth0", "eth0.7"]);
    }

    #[test]
    fn one_that_is_taken_whole_is_left_out() {
        let above = Link {
            stands: Stands::InPlaceOf(2),
            ..link(3, "ipvl0")
        };
        assert_eq!(at(&[link(2, "eth0"), above]), ["ipvl0"]);
    }

    #[test]
    fn neither_a_vrf_nor_its_ports_are_taken() {
        let vrf = Link {
            stands: Stands::Nowhere,
            ..link(3, "blue")
        };
        assert_eq!(at(&[port(2, "eth0", 3), vrf, link(4, "eth1")]), ["eth1"]);
    }

    #[test]
    fn what_has_other_frames_is_left_out() {
        let loopback = Link {
            framing: None,
            ..link(1, "lo")
        };
        let tunnel = Link {
            framing: Some(Framing::Bare),
            ..link(2, "wg0")
        };
        assert_eq!(at(&[loopback, tunnel.clone()]), ["wg0"]);
        assert_eq!(carriers(&[tunnel])[&2].framing, Framing::Bare);
    }

    /// As the kernel says it of a link of this kind.
    fn body(hardware: u16, more: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![0, 0];
        body.extend(hardware.to_ne_bytes());
        body.extend(7_u32.to_ne_bytes());
        body.extend([0; 8]);
        body.extend(attribute(IFLA_IFNAME, b"some\0"));
        body.extend(more.concat());
        body
    }

    fn info(kind: &[u8], mode: Option<u32>) -> Vec<u8> {
        let mode = mode.map(|mode| attribute(IFLA_MACVLAN_MODE, &mode.to_ne_bytes()));
        let parts = [
            attribute(IFLA_INFO_KIND, kind),
            attribute(IFLA_INFO_DATA, &mode.unwrap_or_default()),
        ];
        attribute(IFLA_LINKINFO, &parts.concat())
    }

    #[test]
    fn messages_say_how_links_stand() {
        let lower = attribute(IFLA_LINK, &2_u32.to_ne_bytes());
        let elsewhere = attribute(IFLA_LINK_NETNSID, &0_u32.to_ne_bytes());
        let master = attribute(IFLA_MASTER, &3_u32.to_ne_bytes());
        let some = link(7, "some");
        let whole = Link {
            stands: Stands::InPlaceOf(2),
            ..some.clone()
        };
        for (more, expected) in [
            (vec![], some.clone()),
            (vec![master], port(7, "some", 3)),
            (vec![lower.clone(), info(b"vlan", None)], some.clone()),
            // Bridge mode, then passthru.
            (vec![lower.clone(), info(b"macvlan", Some(4))], some.clone()),
            (
                vec![lower.clone(), info(b"macvlan", Some(8))],
                whole.clone(),
            ),
            (
                vec![lower.clone(), info(b"macvtap", Some(8))],
                whole.clone(),
            ),
            (vec![lower.clone(), info(b"ipvlan\0", None)], whole),
            (
                vec![lower.clone(), elsewhere, info(b"ipvlan", None)],
                some.clone(),
            ),
            // A pair of veth says its other end here.
            (vec![lower, info(b"veth", None)], some.clone()),
            (
                vec![info(b"vrf", None)],
                Link {
                    stands: Stands::Nowhere,
                    ..some.clone()
                },
            ),
        ] {
            assert_eq!(Link::parse(&body(ETHERNET, &more)), Some(expected));
        }
        // TUN and WireGuard, PPP; the loopback, GRE.
        for (hardware, framing) in [
            (65534, Some(Framing::Bare)),
            (512, Some(Framing::Bare)),
            (772, None),
            (778, None),
        ] {
            let link = Link {
                framing,
                ..some.clone()
            };
            assert_eq!(Link::parse(&body(hardware, &[])), Some(link));
        }
        assert_eq!(Link::parse(&[0; 9]), None);
    }

    #[test]
    fn this_machine_has_links() {
        let links = all().unwrap();
        assert!(links.iter().any(|link| link.name == "lo"));
    }
}
