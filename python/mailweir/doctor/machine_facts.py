"""What the kernel says of this machine, read from /proc, and by calls where that doesn't have it.

Called by `examination`; `machine_verdict` decides. What can't be read is None.
"""

import array
import ctypes
import fcntl
import os
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path

from mailweir.doctor.machine_state import MachineFacts, Rights, Tracking
from mailweir.doctor.port_owners import owners
from mailweir.this_machine import given_ports

_PROC = Path("/proc")
_SYS = _PROC / "sys/net"
# Linux: timex.h, sockios.h, ethtool.h.
_TIMEX, _TIME_ERROR = 256, 5
_SIOCETHTOOL, _ETHTOOL_GFLAGS, _FLAG_LRO = 0x8946, 0x25, 1 << 15
# Of /proc/net/route: a network of the device itself has no gateway.
_DEVICE, _NETWORK, _GATEWAY, _MASK = 0, 1, 2, 7

_libc = ctypes.CDLL(None, use_errno=True)


def read(pid: int | None, admin_socket: Path) -> MachineFacts:
    """As it is now. `pid` is of the running mailweir, where there is one that can be asked."""
    devices = [name for _, name in socket.if_nameindex()]
    return MachineFacts(
        _rights(pid) if pid else None,
        resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        len(given_ports()),
        _tracking(),
        frozenset(name for name in devices if _is_strict(name)),
        tuple(_networks()),
        tuple(name for name in devices if _merges(name)),
        {name: _of_device(name, "promote_secondaries") != 0 for name in devices},
        _number(_PROC / "sys/net/core/somaxconn"),
        _number(_SYS / "ipv4/ip_unprivileged_port_start") or 1024,
        _has_bpf_files(pid),
        _is_synchronised(),
        owners(),
        pid is None and _somebody_is_at(admin_socket),
    )


def _somebody_is_at(admin_socket: Path) -> bool:
    """Whether a process listens there; or one may, where we aren't let in."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(str(admin_socket))
        except (PermissionError, BlockingIOError):
            return True
        except OSError:
            return False
    return True


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _of_device(name: str, setting: str) -> int:
    """The larger one of a device's and of all devices', which is what counts."""
    folder = _SYS / "ipv4/conf"
    return max(_number(folder / one / setting) or 0 for one in ("all", name))


def _is_strict(name: str) -> bool:
    return _of_device(name, "rp_filter") == 1


def _tracking() -> Tracking | None:
    count, most = (
        _number(_SYS / "netfilter" / name) for name in ("nf_conntrack_count", "nf_conntrack_max")
    )
    return None if count is None or most is None else Tracking(count, most)


def _networks() -> Iterator[tuple[str, IPv4Network]]:
    with suppress(OSError, ValueError):
        for line in (_PROC / "net/route").read_text().splitlines()[1:]:
            parts = line.split()
            gateway, network, mask = (int(parts[n], 16) for n in (_GATEWAY, _NETWORK, _MASK))
            if not gateway and mask:
                bits = mask.bit_count()
                yield parts[_DEVICE], IPv4Network((network.to_bytes(4, "little"), bits))


def _merges(name: str) -> bool:
    """Whether a device has large receive offload on (`ethtool -k`)."""
    value = array.array("I", [_ETHTOOL_GFLAGS, 0])
    request = struct.pack("16sP16x", name.encode(), value.buffer_info()[0])
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        fcntl.ioctl(asking, _SIOCETHTOOL, request)
    return bool(value[1] & _FLAG_LRO)


def _has_bpf_files(pid: int | None) -> bool:
    """As the running process sees it: its service may have a file system of its own."""
    for process in (str(pid), "self"):
        with suppress(OSError):
            mounts = (_PROC / process / "mounts").read_text().splitlines()
            return any(line.split()[1:3] == ["/sys/fs/bpf", "bpf"] for line in mounts)
    return False


def _rights(pid: int) -> Rights | None:
    try:
        limits = (_PROC / str(pid) / "limits").read_text().splitlines()
        status = (_PROC / str(pid) / "status").read_text().splitlines()
        [files] = [line.split() for line in limits if line.startswith("Max open files")]
        [mask] = [line.split()[1] for line in status if line.startswith("CapEff:")]
        # soft and hard are the last but one and two of: name, soft, hard, unit.
        return Rights(int(files[-2]), int(mask, 16))
    except (OSError, ValueError):
        return None


def _is_synchronised() -> bool | None:
    """Whether somebody sets this machine's clock (adjtimex(2))."""
    if os.uname().sysname != "Linux":
        return None
    told = _libc.adjtimex(ctypes.create_string_buffer(_TIMEX))
    return None if told < 0 else told != _TIME_ERROR
