"""Asks the kernel about addresses, links and routes, and hears what changes. For `mailweir.ha`.

The only importer of pyroute2, which speaks rtnetlink for us; what it says leaves this file as
plain values. Everything here waits for the kernel (others may hold its lock for long), so it
belongs in a thread. Sockets alone are used of pyroute2: its event loops don't get on with uvloop,
and without one a caller can read all that was said before it goes on.
"""

import errno
import itertools
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from typing import Any

from pyroute2 import IPRSocket
from pyroute2.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    rtnl,
)
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from mailweir.ha.kernel.frames import IP, MAC

# What `ip -d address` shows as the origin of an address. Kernels before 5.18 keep none.
OURS = 77
_PERMANENT = 0x80
_NODAD, _NO_PREFIX_ROUTE = 0x02, 0x200
_REACHABLE = 0x02
# linux/rtnetlink.h: of routes.
_MAIN, _LINK, _UNICAST = 254, 253, 1
_UP, _LOWER_UP = 0x1, 0x10000
_GROUPS = rtnl.RTMGRP_LINK | rtnl.RTMGRP_IPV4_IFADDR | rtnl.RTMGRP_IPV6_IFADDR
# Seconds. The kernel answers within the call, unless another process holds its lock.
_ANSWER_LIMIT = 5.0
_DUMPS = 5


@dataclass(frozen=True, slots=True)
class AddressSaid:
    """An address that a device has, or had."""

    index: int
    ip: IP
    prefixlen: int
    permanent: bool  # has no lease
    ours: bool
    gone: bool


@dataclass(frozen=True, slots=True)
class LinkSaid:
    """A device that is there, or was."""

    index: int
    name: str
    carrier: bool
    gone: bool


Said = AddressSaid | LinkSaid


@dataclass(frozen=True, slots=True)
class Route:
    """Where a packet to an address leaves, and with which source (None: the kernel has none)."""

    dev: str
    source: IP | None


class Netlink:
    """Requests; each is answered before it returns. OSError with the kernel's number."""

    def __init__(self) -> None:
        self._socket = _opened(0)
        self._socket.socket.settimeout(_ANSWER_LIMIT)
        self._numbers = itertools.count(1)

    def may_change(self) -> bool:
        """This process may change addresses: the kernel looks at that first of all."""
        message = ifaddrmsg()
        message["family"] = socket.AF_INET
        try:
            self._ask(message, rtnl.RTM_DELADDR, NLM_F_ACK)
        except PermissionError:
            return False
        except OSError:
            pass  # there is no device 0
        return True

    def lease(
        self, index: int, address: IPv4Interface | IPv6Interface, seconds: int, *, route: bool
    ) -> None:
        """Give a device an address for so long, or for so long again; OSError with the reason.

        As one that isn't preferred any more: IPv6 chooses it as a source only where it has nothing
        else. An IPv4 one by itself, in no network: with the first address of a network Linux takes
        the others away, and the routes that they have made
        (net.ipv4.conf.*.promote_secondaries, which is 0 by default).
        `route`: with a route to its network. It goes with the address (IPv4), or with the lease.
        """
        if address.version == 4:
            self._lease(index, address.ip, prefixlen_of(address), seconds, 0)
            if route and address.network.num_addresses > 1:
                self._route(index, address)
        else:
            flags = _NODAD if route else _NODAD | _NO_PREFIX_ROUTE
            self._lease(index, address.ip, prefixlen_of(address), seconds, flags)

    def remove(self, index: int, ip: IP, prefixlen: int) -> None:
        """Take an address from a device."""
        self._ask(_address(index, ip, prefixlen), rtnl.RTM_DELADDR, NLM_F_ACK)

    def addresses(self) -> list[Said]:
        """All addresses of this machine."""
        return list(_said(self._dump(ifaddrmsg(), rtnl.RTM_GETADDR)))

    def links(self) -> list[Said]:
        """All devices of this machine."""
        return list(_said(self._dump(ifinfmsg(), rtnl.RTM_GETLINK)))

    def neighbour(self, index: int, ip: IP, mac: MAC) -> None:
        """An address is at this hardware address, whatever was known of it; as just learnt."""
        message = ndmsg()
        message["family"] = socket.AF_INET if ip.version == 4 else socket.AF_INET6
        message["ifindex"] = index
        message["state"] = _REACHABLE
        message["attrs"] = [("NDA_DST", str(ip)), ("NDA_LLADDR", mac)]
        self._ask(message, rtnl.RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)

    def route(self, ip: IP) -> Route:
        """The way to an address."""
        message = rtmsg()
        message["family"] = socket.AF_INET if ip.version == 4 else socket.AF_INET6
        message["dst_len"] = ip.max_prefixlen
        message["attrs"] = [("RTA_DST", str(ip))]
        [found] = self._ask(message, rtnl.RTM_GETROUTE, 0)
        source = found.get_attr("RTA_PREFSRC")
        dev = socket.if_indextoname(found.get_attr("RTA_OIF"))
        return Route(dev, ip_address(source) if source else None)

    def close(self) -> None:
        """No more requests."""
        self._socket.close()

    def _lease(self, index: int, ip: IP, prefixlen: int, seconds: int, flags: int) -> None:
        message = _address(index, ip, prefixlen)
        message["attrs"] += [
            ("IFA_FLAGS", flags),
            ("IFA_PROTO", OURS),
            ("IFA_CACHEINFO", {"ifa_preferred": 0, "ifa_valid": seconds, "cstamp": 0, "tstamp": 0}),
        ]
        self._ask(message, rtnl.RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)

    def _route(self, index: int, address: IPv4Interface | IPv6Interface) -> None:
        message = rtmsg()
        message |= {
            "family": socket.AF_INET,
            "dst_len": address.network.prefixlen,
            "table": _MAIN,
            "proto": OURS,
            "scope": _LINK,
            "type": _UNICAST,
        }
        message["attrs"] = [
            ("RTA_DST", str(address.network.network_address)),
            ("RTA_OIF", index),
            ("RTA_PREFSRC", str(address.ip)),
        ]
        try:
            self._ask(message, rtnl.RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
        except FileExistsError:
            return  # ours, or one of the machine's own

    def _dump(self, message: Any, kind: int) -> list[Any]:
        for _ in range(_DUMPS):
            found = self._ask(message, kind, NLM_F_DUMP)
            if not any(one["header"]["flags"] & NLM_F_DUMP_INTR for one in found):
                break
        return found

    def _ask(self, message: Any, kind: int, flags: int) -> list[Any]:
        number = next(self._numbers)
        self._socket.put(message, msg_type=kind, msg_flags=NLM_F_REQUEST | flags, msg_seq=number)
        found: list[Any] = []
        while True:
            for answer in self._socket.get():
                header = answer["header"]
                if header["sequence_number"] != number:
                    continue  # of a request that was given up
                if header["error"] is not None:
                    code = header["error"].code
                    raise OSError(code, os.strerror(code))
                if answer["event"] in ("NLMSG_ERROR", "NLMSG_DONE"):
                    return found
                found.append(answer)
                if not flags:
                    return found


class KernelMonitor:
    """What the kernel says of addresses and links, unasked."""

    def __init__(self) -> None:
        self._socket = _opened(_GROUPS)
        self._socket.socket.setblocking(False)

    def fileno(self) -> int:
        """For a selector: can be read when something was said."""
        return int(self._socket.fileno())

    def heard(self) -> tuple[list[Said], bool]:
        """All that was said until now, in its order; and whether some of it was lost."""
        found: list[Said] = []
        lost = False
        while True:
            try:
                found += _said(self._socket.get())
            except BlockingIOError:
                return found, lost
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True

    def close(self) -> None:
        """Hear nothing more."""
        self._socket.close()


def prefixlen_of(leased: IPv4Interface | IPv6Interface) -> int:
    """With which length an address is leased, whatever network it is written with."""
    return leased.max_prefixlen if leased.version == 4 else leased.network.prefixlen


def _opened(groups: int) -> Any:
    made = IPRSocket()
    made.bind(groups=groups)
    return made


def _address(index: int, ip: IP, prefixlen: int) -> Any:
    message = ifaddrmsg()
    message["family"] = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    message["prefixlen"] = prefixlen
    message["index"] = index
    message["attrs"] = [("IFA_LOCAL", str(ip)), ("IFA_ADDRESS", str(ip))]
    return message


def _said(messages: list[Any]) -> Iterator[Said]:
    for message in messages:
        event = message["event"]
        if event in ("RTM_NEWADDR", "RTM_DELADDR"):
            text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            if text:
                yield AddressSaid(
                    message["index"],
                    ip_address(text),
                    message["prefixlen"],
                    permanent=bool(message["flags"] & _PERMANENT),
                    ours=message.get_attr("IFA_PROTO") == OURS,
                    gone=event == "RTM_DELADDR",
                )
        elif event in ("RTM_NEWLINK", "RTM_DELLINK") and message["family"] == socket.AF_UNSPEC:
            # A bridge speaks of its ports by these messages too, as another family.
            both = _UP | _LOWER_UP
            yield LinkSaid(
                message["index"],
                message.get_attr("IFLA_IFNAME") or "",
                carrier=message["flags"] & both == both,
                gone=event == "RTM_DELLINK",
            )
