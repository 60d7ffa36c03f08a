"""How each balancer is configured and started: the best settings we know for the purpose.

A launcher writes its configuration into a directory and returns the command. All spread
sessions over the same servers in turn and write no log of sessions, but for those that
are called so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NGINX_STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"

DIRECT = "direct"


@dataclass(frozen=True)
class Site:
    """What a launcher needs to know."""

    directory: Path
    host: str
    port: int
    admin_port: int
    servers: tuple[str, str]
    workers: int
    mailweir: str


def _haproxy(site: Site, *options: str) -> list[str]:
    file = site.directory / "haproxy.cfg"
    more = "".join(f"    {option}\n" for option in options)
    first, second = site.servers
    file.write_text(
        f"""\
global
    nbthread {site.workers}
    maxconn 4096
defaults
    mode tcp
    maxconn 4096
    timeout connect 5s
    timeout client 11m
    timeout server 11m
    option tcp-smart-accept
    option tcp-smart-connect
{more}frontend mx
    bind {site.host}:{site.port}
    default_backend farm
backend farm
    balance roundrobin
    server a {first}
    server b {second}
"""
    )
    return ["haproxy", "-db", "-f", str(file)]


def haproxy(site: Site) -> list[str]:
    """HAProxy in `mode tcp`, copying through its buffers."""
    return _haproxy(site)


def haproxy_log(site: Site) -> list[str]:
    """HAProxy with a line for each session, on its standard output: a file here."""
    return _haproxy(site, "log stdout format raw local0", "option tcplog")


def haproxy_splice(site: Site) -> list[str]:
    """The same, free to splice where it expects a gain."""
    return _haproxy(site, "option splice-auto")


def nginx(site: Site) -> list[str]:
    """The stream module of nginx."""
    file = site.directory / "nginx.conf"
    first, second = site.servers
    file.write_text(
        f"""\
load_module {NGINX_STREAM_MODULE};
daemon off;
pid {site.directory}/nginx.pid;
error_log stderr crit;
worker_processes {site.workers};
events {{ worker_connections 8192; }}
stream {{
    access_log off;
    upstream farm {{
        server {first};
        server {second};
    }}
    server {{
        listen {site.host}:{site.port} reuseport backlog=4096;
        proxy_pass farm;
        proxy_connect_timeout 5s;
        proxy_timeout 11m;
    }}
}}
"""
    )
    return ["nginx", "-e", "stderr", "-p", str(site.directory), "-c", str(file)]


def mailweir(site: Site) -> list[str]:
    """Ours, with everything else at its default."""
    return _mailweir(site, "off")


def mailweir_kernel(site: Site) -> list[str]:
    """The same on the kernel path; not on loopback, where there is none."""
    return _mailweir(site, "off", "kernel")


def mailweir_log(site: Site) -> list[str]:
    """The same with its session log in a file."""
    return _mailweir(site, str(site.directory / "sessions.log"))


def _mailweir(site: Site, log: str, forwarding: str = "relay") -> list[str]:
    file = site.directory / "mailweir.yaml"
    first, second = site.servers
    file.write_text(
        f"""\
workers: {site.workers}
forwarding: {forwarding}
admin: {{socket: {site.directory}/admin.sock, http: "127.0.0.1:{site.admin_port}"}}
state_dir: {site.directory}/state
log: {{sessions: "{log}"}}
listeners: {{mx: {{bind: ["{site.host}:{site.port}"], pool: farm}}}}
pools: {{farm: {{balance: round_robin, servers: {{a: "{first}", b: "{second}"}}}}}}
"""
    )
    return [site.mailweir, "run", "-c", str(file)]


# For `routed.py`, in networks of its own.
ROUTED = {
    "nginx": nginx,
    "haproxy": haproxy,
    "haproxy-splice": haproxy_splice,
    "mailweir": mailweir,
    "mailweir-kernel": mailweir_kernel,
}

LAUNCHERS: dict[str, Callable[[Site], list[str]]] = {
    "haproxy": haproxy,
    "haproxy-splice": haproxy_splice,
    "nginx": nginx,
    "mailweir": mailweir,
    "haproxy-log": haproxy_log,
    "mailweir-log": mailweir_log,
}
