//! The stack: smoltcp at an interface, with habits between.

use std::io;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration as Wait, Instant as Moment};

use mailweir_testkit::frames::{Frames, Heard, MOST};
use serde_json::json;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpCidr};

use super::args::{Habits, Place};
use super::habits::Wire;

const SEND_BUFFER: usize = 1 << 20;
/// Hundreds of peers may each send all that a large window takes before any of it is read.
const ROOM: usize = 512 << 20;
/// Its interface is looked at so often.
const LOOK: Wait = Wait::from_millis(5);

pub(crate) struct Stack {
    line: Line,
    interface: Interface,
    pub(crate) sockets: SocketSet<'static>,
    habits: Habits,
}

impl Stack {
    /// # Errors
    /// What the kernel says of the interface.
    pub(crate) fn new(place: &Place) -> io::Result<Self> {
        let mut line = Line {
            frames: Frames::open(&place.interface, Heard::All, ROOM)?,
            wire: Wire::new(&place.habits),
            failed: None,
        };
        let [.., last] = place.address.octets();
        let own = EthernetAddress([0x02, 0, 0, 0, 0x25, last]);
        let mut config = Config::new(own.into());
        config.random_seed = u64::from(last) + u64::from(std::process::id());
        let mut interface = Interface::new(config, &mut line, Instant::now());
        interface.update_ip_addrs(|addresses| {
            // There is room for one.
            let _ = addresses.push(IpCidr::new(place.address.into(), 24));
        });
        if let Some(router) = place.router {
            // As is for this.
            let _ = interface.routes_mut().add_default_ipv4_route(router);
        }
        CLOCK_BEGINS.store(place.habits.clock, Relaxed);
        Ok(Self {
            line,
            interface,
            sockets: SocketSet::new(vec![]),
            habits: place.habits.clone(),
        })
    }

    pub(crate) fn socket(&self) -> Socket<'static> {
        socket(&self.habits)
    }

    pub(crate) fn context(&mut self) -> (&mut Interface, &mut SocketSet<'static>) {
        (&mut self.interface, &mut self.sockets)
    }

    /// Reads and writes what there is, and waits for a moment.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn turn(&mut self) -> io::Result<()> {
        self.interface
            .poll(Instant::now(), &mut self.line, &mut self.sockets);
        self.line.result()?;
        let wait = self.interface.poll_delay(Instant::now(), &self.sockets);
        let mut wait = wait.map_or(LOOK, |wait| LOOK.min(wait.into()));
        if let Some(next) = self.line.wire.next() {
            wait = wait.min(next.saturating_duration_since(Moment::now()));
        }
        self.line.frames.wait(wait)?;
        for frame in self.line.wire.rest(Moment::now()) {
            self.line.frames.send(&frame)?;
        }
        Ok(())
    }

    /// What became of its segments so far, and of those that came.
    pub(crate) fn wire_report(&self) -> serde_json::Value {
        let mut report = self.line.wire.report();
        report["frames"] = json!(self.line.frames.losses());
        json!({ "wire": report })
    }
}

/// A socket for one connection: it keeps what its peer lacked.
pub(crate) fn socket(habits: &Habits) -> Socket<'static> {
    let buffer = |size| SocketBuffer::new(vec![0; size]);
    let mut socket = Socket::new(buffer(habits.buffer), buffer(SEND_BUFFER));
    if habits.has_timestamps() {
        socket.set_tsval_generator(Some(clock));
    }
    socket.set_keep_alive(habits.keep_alive.map(Duration::from_millis));
    socket
}

static CLOCK_BEGINS: AtomicU32 = AtomicU32::new(0);
static START: LazyLock<Moment> = LazyLock::new(Moment::now);

fn clock() -> u32 {
    let passed = START.elapsed().as_millis() as u32;
    CLOCK_BEGINS.load(Relaxed).wrapping_add(passed)
}

/// The interface, behind the habits.
struct Line {
    frames: Frames,
    wire: Wire,
    /// What the stack can't be told.
    failed: Option<io::Error>,
}

impl Line {
    fn result(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

impl Device for Line {
    type RxToken<'a> = Come;
    type TxToken<'a> = Out<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Come, Out<'_>)> {
        match self.frames.receive() {
            Ok(frame) => {
                let frame = self.wire.come(frame?.to_vec());
                Some((Come(frame), Out(self)))
            }
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }

    fn transmit(&mut self, _: Instant) -> Option<Out<'_>> {
        Some(Out(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MOST;
        capabilities
    }
}

struct Come(Vec<u8>);

impl RxToken for Come {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct Out<'a>(&'a mut Line);

impl TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = vec![0; length];
        let result = write(&mut frame);
        for frame in self.0.wire.out(Moment::now(), frame) {
            if let Err(error) = self.0.frames.send(&frame) {
                self.0.failed = Some(error);
            }
        }
        result
    }
}
