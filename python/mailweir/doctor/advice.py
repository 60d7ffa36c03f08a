"""What to change, in the words of the mail server that has to be changed, and in ours. Pure.

Of a server that didn't say who it is, Postfix's and Exim's words are given: most are those.
"""

from collections.abc import Mapping

from mailweir.config.words import Proxy
from mailweir.doctor.mta import Mta, Recognised
from mailweir.doctor.sessions_heard import literal
from mailweir.doctor.subject import Subject

_LIKELY = (Mta.POSTFIX, Mta.EXIM)
_POSTSCREEN = "Postfix, main.cf: postscreen_upstream_proxy_protocol = haproxy"


def expect_header(who: Recognised, own: str, subject: Subject) -> str:
    """The server is to expect a PROXY header, or we to send none."""
    theirs = _POSTSCREEN if who.postscreen else _words(who.mta, {
        Mta.POSTFIX: "main.cf: smtpd_upstream_proxy_protocol = haproxy (where postscreen is in"
        " front: postscreen_upstream_proxy_protocol), or in master.cf, for this port alone:"
        " -o smtpd_upstream_proxy_protocol=haproxy",
        Mta.EXIM: f"hosts_proxy = {_exim_list(own)} (Debian: exim4-daemon-heavy has it)",
        Mta.OPENSMTPD: "listen on ... proxy-v2",
    })  # fmt: skip
    return f"{theirs}; or here {subject.key('proxy')}: off"


def send_header(who: Recognised, kind: Proxy, subject: Subject) -> str:
    """We are to send a PROXY header, or the server to expect none."""
    theirs = _words(who.mta, {
        Mta.POSTFIX: "main.cf: smtpd_upstream_proxy_protocol = (empty), and the same of"
        " postscreen_upstream_proxy_protocol",
        Mta.EXIM: "hosts_proxy = (empty)",
        Mta.OPENSMTPD: "listen on ... without proxy-v2",
    })  # fmt: skip
    return f"here {subject.key('proxy')}: {kind}; or {theirs}"


def other_version(kind: Proxy, subject: Subject) -> str:
    """We are to send the other version."""
    return f"here {subject.key('proxy')}: {kind}; Postfix takes v2 from 3.5 on, v1 from 2.10 on"


def take_local(subject: Subject) -> str:
    """Checks say LOCAL, and the server doesn't know that."""
    return (
        "a newer version of the server, that takes the command LOCAL (proxy-protocol.txt, 2.2);"
        f" or here {subject.key('proxy')}: v1, whose checks name their own connection"
    )


def take_ipv6(who: Recognised) -> str:
    """The server refuses headers that name IPv6 clients."""
    return _words(who.mta, {
        Mta.POSTFIX: "main.cf: inet_protocols = all",
        Mta.EXIM: "disable_ipv6 = false",
    })  # fmt: skip


def let_in(who: Recognised, own: str) -> str:
    """The server refuses us at its greeting."""
    return _words(who.mta, {
        Mta.POSTFIX: f"main.cf: smtpd_client_restrictions = check_client_access inline:{{{own}=OK}}"
        f", ...; for postscreen: postscreen_access_list = inline:{{{own}=permit}}, ...",
        Mta.EXIM: f"in the ACL of acl_smtp_connect, first: accept hosts = {_exim_list(own)}; and"
        f" host_reject_connection without {own}",
        Mta.OPENSMTPD: f"smtpd.conf: no filter of phase connect that rejects {own}",
    })  # fmt: skip


def serve(subject: Subject, own: str) -> str:
    """The server says nothing that is SMTP, or leaves without a word."""
    return (
        f"see what the server's log says of {own}, and start it again where it hangs; or correct"
        f" here {subject.key('address')}: it may be another program's port"
    )


def relay_not(who: Recognised, own: str, subject: Subject) -> str:
    """The server takes mail for anywhere from us, where every client seems to be us."""
    theirs = _words(who.mta, {
        Mta.POSTFIX: f"main.cf: mynetworks without {_in_list(own)} (`postconf mynetworks`"
        " shows it; mynetworks_style = host has this machine of its own alone)",
        Mta.EXIM: f"hostlist relay_from_hosts without {own} (Debian: dc_relay_nets), and no"
        " `accept` in acl_smtp_rcpt before `require domains = +local_domains : +relay_to_domains`",
        Mta.OPENSMTPD: f"no `match from src {own} for any action`",
    })  # fmt: skip
    return f"{theirs}; then have it see the clients' addresses: {subject.key('proxy')}: v2"


def relay_for_nobody(who: Recognised) -> str:
    """The server takes mail for anywhere from a client that is nobody's."""
    return _words(who.mta, {
        Mta.POSTFIX: "main.cf: smtpd_relay_restrictions = permit_mynetworks,"
        " permit_sasl_authenticated, reject_unauth_destination; and mynetworks = your own alone",
        Mta.EXIM: "hostlist relay_from_hosts = your networks alone, and in acl_smtp_rcpt: require"
        " domains = +local_domains : +relay_to_domains",
        Mta.OPENSMTPD: "`match from any` for your domains alone",
    })  # fmt: skip


def raise_limit(who: Recognised, own: str, said: str) -> str:
    """The server takes no more sessions of one client, or of all, and `said` so."""
    exim = "smtp_accept_max_per_host" if "this IP address" in said else "smtp_accept_max"
    return _words(who.mta, {
        Mta.POSTFIX: f"main.cf: smtpd_client_event_limit_exceptions = $mynetworks, {_in_list(own)}"
        " (or smtpd_client_connection_count_limit = 0)",
        Mta.EXIM: f"{exim} = 0",
    })  # fmt: skip


def take_name(who: Recognised, own: str, subject: Subject) -> str:
    """The server refuses what we call ourselves."""
    key = f"pools.{subject.pool}.check.helo"
    ours = f"here {key}: auto (which is {literal(own)})"
    if subject.helo is None:
        ours = f"here {key}: a host name of this machine that is in DNS, with {own}"
    theirs = _words(who.mta, {
        Mta.POSTFIX: "main.cf: smtpd_helo_restrictions = check_client_access"
        f" inline:{{{own}=OK}}, ...",
        Mta.EXIM: f"helo_verify_hosts = {_exim_list(f'! {own}', '*')}, and in acl_smtp_helo first:"
        f" accept hosts = {_exim_list(own)}",
        Mta.OPENSMTPD: f"smtpd.conf: no filter of phase helo or ehlo that rejects {own}",
    })  # fmt: skip
    return f"{ours}; or {theirs}"


def name_itself(who: Recognised, name: str) -> str:
    """The server is to greet by another name."""
    return _words(who.mta, {
        Mta.POSTFIX: f"main.cf: smtpd_banner = {name} ESMTP $mail_name",
        Mta.EXIM: f"smtp_banner = {name} ESMTP Exim",
        Mta.OPENSMTPD: f"listen on ... hostname {name}",
    })  # fmt: skip


def renew(who: Recognised) -> str:
    """The server is to have another certificate."""
    return _words(who.mta, {
        Mta.POSTFIX: "main.cf: smtpd_tls_chain_files (or smtpd_tls_cert_file): the certificate for"
        " its name with its intermediates; then postfix reload",
        Mta.EXIM: "tls_certificate = FILE, with the certificate for its name and its intermediates",
        Mta.OPENSMTPD: "pki NAME cert FILE, with its intermediates",
    })  # fmt: skip


def wait_longer(subject: Subject, seconds: int, *, checks: bool) -> str:
    """We are to wait longer for the greeting."""
    if checks:
        return f"here pools.{subject.pool}.check.timeout: {seconds}s"
    return f"here listeners.{subject.listener}.timeouts.greeting: {seconds}s"


def postscreen_sees_clients(subject: Subject) -> str:
    """postscreen is to see the clients' addresses."""
    return f"{_POSTSCREEN}, and here {subject.key('proxy')}: v2"


def _words(mta: Mta, known: Mapping[Mta, str]) -> str:
    """Those of one server, or of the likely ones. Of a server that has none, none of others."""
    told = _LIKELY if mta is Mta.UNKNOWN else (mta,)
    return "; ".join(f"{one}: {known.get(one, 'its setting for that')}" for one in told)


def _exim_list(*entries: str) -> str:
    """Its colons stand between entries, so that with IPv6 addresses others have to."""
    six = any("::" in one or one.count(":") > 1 for one in entries)
    return f"<; {' ; '.join(entries)}" if six else " : ".join(entries)


def _in_list(own: str) -> str:
    """An address as Postfix has it in lists."""
    return f"[{own}]" if ":" in own else own
