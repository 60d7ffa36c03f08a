"""Debian's keepalived and HAProxy, set up as their documents do it.

VRRP by multicast, an advertisement each second, equal priorities, no preemption, and a script that
sees whether HAProxy is there.
"""

from pathlib import Path

from benches.failover.contender import FARM, PORT
from benches.failover.programs import Programs

from harness.needs import program
from harness.networks.pair import DEVICES, VIRTUAL, Node, Pair
from harness.programs.haproxy import HAProxy, haproxy_configuration

_KEEPALIVED = """\
global_defs {{
    router_id {node}
    enable_script_security
    script_user root
}}
vrrp_script balancer {{
    script "{script}"
    interval 2
    fall 2
    rise 1
}}
vrrp_instance mx {{
    state BACKUP
    nopreempt
    interface {device}
    virtual_router_id 51
    priority 100
    advert_int 1
    virtual_ipaddress {{
        {virtual}/24
    }}
    track_script {{
        balancer
    }}
}}
"""
_HERE = ("", PORT)  # every address
_SETTINGS = ("timeout connect 5s", "timeout server 11m")


class Keepalived:
    """Both nodes. To switch, the active one's keepalived is stopped, as for maintenance."""

    def __init__(self, pair: Pair, directory: Path) -> None:
        self.programs = Programs(pair, directory)

    def start(self, node: Node) -> None:
        """HAProxy first, which keepalived looks for."""
        self._write(node)
        self._run(node, "haproxy", "-db", "-f", "haproxy.cfg")
        self._script(node)
        # In the foreground, VRRP alone, a detailed log to standard error.
        files = ["-f", "keepalived.conf", "-p", "keepalived.pid", "-r", "vrrp.pid"]
        self._run(node, "keepalived", "-n", "-P", "-l", "-D", *files)

    def is_ready(self, node: Node) -> bool:
        """Whether keepalived is active or waits, and found its HAProxy, which has its server."""
        said = self.programs.find(node, "keepalived").err
        decided = "Entering BACKUP STATE" in said or "Entering MASTER STATE" in said
        return decided and "VRRP_Script(balancer) succeeded" in said and self._serves(node)

    def switch(self, node: Node) -> None:
        """Have it say with its last advertisement that it goes."""
        self.programs.end(node, "keepalived")

    def _serves(self, node: Node) -> bool:
        process = self.programs.find(node, "haproxy")
        balancer = HAProxy(process, _HERE, self.programs.folder(node) / "haproxy.sock")
        return balancer.is_listening() and balancer.is_up("mx")

    def _run(self, node: Node, name: str, *arguments: str) -> None:
        """With files of the node's folder."""
        folder = self.programs.folder(node)
        given = [one if one.startswith("-") else str(folder / one) for one in arguments]
        self.programs.run(node, name, [program(name), *given])

    def _script(self, node: Node) -> None:
        """`killall -0 haproxy` in most setups; here both nodes' HAProxies are on one machine."""
        script = self.programs.folder(node) / "haproxy-runs"
        script.write_text(f"#!/bin/sh\nkill -0 {self.programs.find(node, 'haproxy').pid}\n")
        script.chmod(0o755)

    def _write(self, node: Node) -> None:
        folder = self.programs.folder(node)
        device = DEVICES["lan"]
        (folder / "keepalived.conf").write_text(
            _KEEPALIVED.format(
                node=node, script=folder / "haproxy-runs", device=device, virtual=VIRTUAL
            )
        )
        servers = {"mx": "{}:{} check inter 2s".format(*FARM)}
        (folder / "haproxy.cfg").write_text(
            haproxy_configuration(folder / "haproxy.sock", _HERE, servers, _SETTINGS)
        )
