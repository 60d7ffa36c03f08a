//! The command line.

use std::net::{Ipv4Addr, SocketAddrV4};

use clap::{Args as Group, Parser, Subcommand};
use smoltcp::wire::EthernetAddress;

/// SMTP clients and servers that are packets alone.
///
/// The interface that frames come from on the other side must leave checksums and the cutting of
/// segments to nobody else (ethtool: tx off, gso off, tso off).
#[derive(Parser)]
#[command(version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) mode: Mode,
}

#[derive(Subcommand)]
pub(crate) enum Mode {
    /// Answers by what comes in alone, until TERM; then it says what it heard, as JSON
    Serve(ServeArgs),
    /// Begins sessions, and says how they ended, as JSON
    Clients(ClientsArgs),
}

#[derive(Group)]
pub(crate) struct ServeArgs {
    /// The interface whose frames it reads and writes
    #[arg(long)]
    pub(crate) interface: String,
    /// Its addresses there; the kernel must not have them
    #[arg(long, required = true, num_args = 1..)]
    pub(crate) address: Vec<Ipv4Addr>,
    /// Its port
    #[arg(long)]
    pub(crate) port: u16,
}

#[derive(Group)]
pub(crate) struct ClientsArgs {
    /// The interface whose frames they read and write
    #[arg(long)]
    pub(crate) interface: String,
    /// The Ethernet address that leads to everybody
    #[arg(long, value_parser = ethernet)]
    pub(crate) router: EthernetAddress,
    /// Where to
    #[arg(long)]
    pub(crate) to: SocketAddrV4,
    /// The first of their addresses, a slash, and how many there are
    #[arg(long)]
    pub(crate) addresses: Addresses,
    /// The first port that each address has; later sessions have later ones
    #[arg(long, default_value_t = 1024)]
    pub(crate) first_port: u16,
    /// So many in all
    #[arg(long)]
    pub(crate) sessions: u32,
    /// So many begin in a second; where they rested, so many go on in a second as well
    #[arg(long)]
    pub(crate) rate: u32,
    /// So many in each
    #[arg(long, default_value_t = 1)]
    pub(crate) messages: u16,
    /// Each says nothing behind EHLO until TERM
    #[arg(long)]
    pub(crate) rest: bool,
    /// But NOOP each time that it has rested for so many milliseconds
    #[arg(long, requires = "rest")]
    pub(crate) every: Option<u64>,
}

fn ethernet(text: &str) -> Result<EthernetAddress, &'static str> {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes: Result<Vec<u8>, _> = bytes.collect();
    let bytes = bytes.ok().and_then(|bytes| bytes.try_into().ok());
    bytes
        .map(EthernetAddress)
        .ok_or("an Ethernet address, as 02:00:00:00:00:01")
}

/// A row of addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) first: Ipv4Addr,
    /// At least 1.
    pub(crate) count: u32,
}

impl std::str::FromStr for Addresses {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let whole = "an address, a slash and a number, as 10.9.0.1/1000";
        let (first, count) = text.split_once('/').ok_or(whole)?;
        let first: Ipv4Addr = first.parse().map_err(|_| whole)?;
        let count: u32 = count.parse().map_err(|_| whole)?;
        let last = u32::from(first).checked_add(count);
        if count == 0 || last.is_none() {
            return Err("there are no such addresses");
        }
        Ok(Self { first, count })
    }
}

impl Addresses {
    /// None where there are fewer.
    pub(crate) fn nth(self, number: u32) -> Option<Ipv4Addr> {
        (number < self.count).then(|| Ipv4Addr::from(u32::from(self.first) + number))
    }

    /// Where in the row an address is, if it is there.
    pub(crate) fn place(self, address: Ipv4Addr) -> Option<u32> {
        let number = u32::from(address).checked_sub(u32::from(self.first))?;
        (number < self.count).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_place() {
        let row: Addresses = "10.9.0.255/3".parse().unwrap();
        let all: Vec<_> = (0..4).map(|number| row.nth(number)).collect();
        let known = [[10, 9, 0, 255], [10, 9, 1, 0], [10, 9, 1, 1]].map(Ipv4Addr::from);
        assert_eq!(all, [Some(known[0]), Some(known[1]), Some(known[2]), None]);
        for (number, address) in (0..).zip(known) {
            assert_eq!(row.place(address), Some(number));
        }
        for other in [[10, 9, 0, 254], [10, 9, 1, 2]] {
            assert_eq!(row.place(other.into()), None);
        }
        for wrong in ["10.9.0.0", "10.9.0.0/0", "255.255.255.255/2", "10.9/3"] {
            assert!(wrong.parse::<Addresses>().is_err(), "{wrong}");
        }
    }
}
