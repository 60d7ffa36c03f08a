//! Routers that say that a segment was too big: who said it is told, in its own numbers.

use std::net::Ipv4Addr;

use mailweir_flow::{Counter, State};

use crate::rig::{
    C, CLIENT, LISTENER, REDIRECT, Rig, S, SERVER, SHOT, SOURCE, UNSPEC, flow, from_server, gate,
};
use crate::segment::{Segment, checksum};

const ETHERNET: usize = 14;
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const MTU: u16 = 1280;
/// What the server has said, and nobody has acknowledged.
const SAID: usize = 1000;

#[test]
fn who_said_it_is_told() {
    let Some(mut rig) = said_much() else {
        return;
    };
    let (verdict, told) = rig.ingress_of(&too_big(C[1].wrapping_add(500)));
    assert_eq!(verdict, REDIRECT);
    assert_eq!(rig.counted(Counter::TooBig), 1);
    let ip = &told[ETHERNET..];
    assert_eq!(checksum(&[&ip[..20]]), 0, "the checksum of the IP header");
    assert_eq!((address(ip, 12), address(ip, 16)), (ROUTER, *SERVER.ip()));
    let icmp = &ip[20..20 + 8 + 28];
    assert_eq!(checksum(&[icmp]), 0, "the checksum of the message");
    assert_eq!(
        (&icmp[..2], &icmp[6..8]),
        (&[3, 4][..], &MTU.to_be_bytes()[..])
    );
    let about = &icmp[8..];
    assert_eq!(
        checksum(&[&about[..20]]),
        0,
        "the checksum of the header in it"
    );
    assert_eq!(
        (address(about, 12), address(about, 16)),
        (*SERVER.ip(), *SOURCE.ip())
    );
    let ports = [SERVER.port().to_be_bytes(), SOURCE.port().to_be_bytes()];
    assert_eq!(about[20..24], ports.concat());
    assert_eq!(about[24..28], (S[0] + 500).to_be_bytes());
}

#[test]
fn what_was_never_said_is_told_nobody() {
    let Some(mut rig) = said_much() else {
        return;
    };
    for distance in [SAID as u32, 0x4000_0000, u32::MAX] {
        let (verdict, _) = rig.ingress_of(&too_big(C[1].wrapping_add(distance)));
        assert_eq!(verdict, SHOT);
    }
    assert_eq!(rig.counted(Counter::DroppedTooBig), 3);
}

#[test]
fn what_is_about_no_flow_goes_its_way() {
    let Some(mut rig) = said_much() else {
        return;
    };
    let mut other = too_big(C[1]);
    // The port of the client in it.
    other[ETHERNET + 20 + 8 + 23] ^= 1;
    assert_eq!(rig.ingress_of(&other).0, UNSPEC);
    let mut unreachable = too_big(C[1]);
    unreachable[ETHERNET + 20 + 1] = 3;
    assert_eq!(rig.ingress_of(&unreachable).0, UNSPEC);
}

fn said_much() -> Option<Rig> {
    let mut rig = Rig::new(State::Live)?;
    say_much(&mut rig);
    Some(rig)
}

fn say_much(rig: &mut Rig) {
    let said = Segment {
        payload: vec![b'x'; SAID],
        ..from_server()
    };
    rig.rewritten(&said);
}

/// Who is told less sends less to everybody behind us: so little is told nobody, and nothing where
/// the segments of the flow are as small anyway.
#[test]
fn a_client_lowers_nothing_for_others() {
    for (takes, mtu, told) in [
        (1460, 552, Some(1280)),
        (1460, 0, Some(1280)),
        (1460, 1279, Some(1280)),
        (1460, 1499, Some(1499)),
        (1460, 1500, None),
        (1460, 9000, None),
        (8960, 1500, Some(1500)),
        (1241, 552, Some(1280)),
        (1240, 552, None),
        (536, 552, None),
    ] {
        let mut flow = flow();
        flow.sides[0].mss = takes;
        let Some(mut rig) = Rig::with(&gate(State::Live), &flow) else {
            return;
        };
        say_much(&mut rig);
        let (verdict, out) = rig.ingress_of(&too_big_for(C[1], mtu));
        match told {
            Some(told) => {
                assert_eq!(verdict, REDIRECT);
                let icmp = &out[ETHERNET + 20..][..8 + 28];
                assert_eq!(checksum(&[icmp]), 0, "the checksum of the message");
                assert_eq!(icmp[6..8], u16::to_be_bytes(told), "{takes} {mtu}");
            }
            None => assert_eq!(verdict, SHOT, "{takes} {mtu}"),
        }
    }
}

/// A router's word about a segment from us to the client.
fn too_big(seq: u32) -> Vec<u8> {
    too_big_for(seq, MTU)
}

fn too_big_for(seq: u32, mtu: u16) -> Vec<u8> {
    let about = Segment {
        seq,
        ..Segment::new(LISTENER, CLIENT)
    };
    let about = about.frame();
    let mut icmp = vec![3, 4, 0, 0, 0, 0];
    icmp.extend(mtu.to_be_bytes());
    icmp.extend(&about[ETHERNET..][..28]);
    let sum = checksum(&[&icmp]);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut ip = vec![0x45, 0];
    ip.extend(((20 + icmp.len()) as u16).to_be_bytes());
    ip.extend([0, 0, 0, 0, 63, 1, 0, 0]);
    ip.extend(ROUTER.octets());
    ip.extend(LISTENER.ip().octets());
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [&about[..ETHERNET], &ip, &icmp].concat()
}

fn address(header: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3])
}
