"""What concerns more than one key of a check: which keys its kind has a use for, which of them it
needs, and whether it suits the listeners of its pool.

Called by `pool_rules`. Pure.
"""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address

from mailweir.config.check_keys import Arrives, Check, FurtherCheck
from mailweir.config.finding import Finding, Path
from mailweir.config.listener import Listener
from mailweir.config.model import MAIN_CHECK, default_check_kind
from mailweir.config.pool import Pool
from mailweir.config.units import format_duration
from mailweir.config.words import (
    HTTP_KINDS,
    SMTP_KINDS,
    CheckKind,
    Decides,
    Protocol,
    Verify,
)

# What a check is like where nothing is written.
_USUAL = Check()
_LOGS_IN = frozenset((CheckKind.AUTH, CheckKind.RCPT, CheckKind.MESSAGE))
_MAILS = frozenset((CheckKind.RCPT, CheckKind.MESSAGE))
_TLS = frozenset((CheckKind.STARTTLS, CheckKind.HTTPS)) | _LOGS_IN
# The kinds that have a use for a key; others than these are of all kinds.
_OF_KINDS: Mapping[str, frozenset[CheckKind]] = {
    "helo": SMTP_KINDS - {CheckKind.GREETING},
    "proxy": SMTP_KINDS | {CheckKind.TCP},
    "requires": frozenset((CheckKind.EHLO,)),
    "verify": _TLS,
    "name": _TLS,
    "ca": _TLS,
    "days": frozenset((CheckKind.STARTTLS,)),
    "user": _LOGS_IN,
    "password_file": _LOGS_IN,
    "mail_from": _MAILS,
    "rcpt_to": _MAILS,
    "arrives": frozenset((CheckKind.MESSAGE,)),
    "path": HTTP_KINDS,
    "status": HTTP_KINDS,
    "match": HTTP_KINDS,
    "header": HTTP_KINDS,
    "client_certificate": frozenset((CheckKind.HTTPS,)),
}
# What a check of a kind can't be without.
_NEEDED: Mapping[CheckKind, tuple[str, ...]] = {
    CheckKind.AUTH: ("user", "password_file"),
    CheckKind.RCPT: ("rcpt_to",),
    CheckKind.MESSAGE: ("rcpt_to",),
    CheckKind.AGENT: ("port",),
}
# What is only told of where nothing uses it: it was right until a listener changed.
_HARMLESS = ("helo",)


def check_findings(
    path: Path,
    pool: Pool,
    users: Mapping[str, Listener],
    bound: Mapping[IPv4Address | IPv6Address, str],
) -> Iterator[Finding]:
    """What is wrong or odd in the checks of a pool, whose listeners are `users`; `bound` says which
    listener binds an address.
    """
    protocols = {listener.protocol for listener in users.values()}
    main = pool.check.kind or default_check_kind(protocols)
    yield from _pace((*path, "check"), pool.check)
    if main is CheckKind.AGENT:
        yield Finding(
            (*path, "check", "kind"),
            "an agent that doesn't answer says nothing of the server: have it under"
            " `more_checks`, beside a check that decides",
        )
    else:
        yield from _keys((*path, "check"), pool.check, main, in_use=bool(users))
    yield from _protocols((*path, "check"), main, users)
    yield from _source((*path, "check"), pool.check, pool, bound)
    for name, check in pool.more_checks.items():
        at = (*path, "more_checks", name)
        if name == MAIN_CHECK:
            yield Finding(at, f"`{MAIN_CHECK}` is what the pool's own check is called; rename it")
        yield from _pace(at, check)
        yield from _keys(at, check, check.kind, in_use=True)
        yield from _decides(at, check)
        yield from _source(at, check, pool, bound)
        yield from _protocols(at, check.kind, users)


def _pace(path: Path, check: Check) -> Iterator[Finding]:
    """Checks that come less often than it seems."""
    written = check.model_fields_set
    if "fast" in written and check.fast > check.every:
        yield Finding(
            (*path, "fast"),
            f"is longer than `every` ({format_duration(check.every)}): a change would be confirmed"
            " later than it was found",
        )
    by_default = check.timeout <= _USUAL.timeout and check.every >= _USUAL.every
    if "timeout" in written and check.timeout > check.every and not by_default:
        slowest = check.fall * check.timeout + (check.fall - 1) * check.soon
        yield Finding(
            (*path, "timeout"),
            f"is longer than `every` ({format_duration(check.every)}): a server that accepts and"
            f" says nothing is down only after {format_duration(slowest)}",
            warning=True,
        )


def _keys(path: Path, check: Check, kind: CheckKind, *, in_use: bool) -> Iterator[Finding]:
    """Keys that the kind has no use for, and those that it lacks."""
    # Not what is written: `config show` writes every key.
    given = {key for key in _OF_KINDS if getattr(check, key) != getattr(_USUAL, key)}
    for key, kinds in _OF_KINDS.items():
        if key not in given or kind in kinds or not in_use:
            continue
        are = f"checks by {', '.join(sorted(kinds))} have it"
        yield Finding(
            (*path, key), f"a check by `{kind}` has no use for it: {are}", warning=key in _HARMLESS
        )
    for key in _NEEDED.get(kind, ()):
        if getattr(check, key) is None:
            yield Finding(path, f"a check by `{kind}` needs `{key}`")
    if (check.user is None) != (check.password_file is None) and kind is not CheckKind.AUTH:
        yield Finding(path, "`user` and `password_file` go together: give both or neither")
    if kind in _TLS and check.verify is Verify.NAME and check.name is None:
        yield Finding((*path, "verify"), "`name` has to say which name the certificate is for")
    if kind in _MAILS and check.user is None and given & {"verify", "name", "ca"}:
        yield Finding(path, "TLS is for a login alone: give `user` and `password_file` as well")
    if check.arrives and kind is CheckKind.MESSAGE:
        yield from _arrives((*path, "arrives"), check.arrives)


def _arrives(path: Path, arrives: Arrives) -> Iterator[Finding]:
    given = [one for one in (arrives.maildir, arrives.smtp, arrives.lmtp) if one is not None]
    if len(given) != 1:
        yield Finding(path, "must have one of `maildir`, `smtp` and `lmtp`")


def _source(
    path: Path, check: Check, pool: Pool, bound: Mapping[IPv4Address | IPv6Address, str]
) -> Iterator[Finding]:
    """An address from which a check can't come."""
    if (source := check.source) is None:
        return
    at = (*path, "source")
    for server in pool.servers.values():
        if server.address.ip.version != source.version:
            yield Finding(at, f"{source} can't reach {server.address}: not the same IP version")
            return
    if source in bound:
        yield Finding(
            at,
            f"listener `{bound[source]}` binds {source}: a virtual address isn't there on the node"
            " that stands by, whose checks could not be made; take one of the node's own",
        )


def _decides(path: Path, check: FurtherCheck) -> Iterator[Finding]:
    if check.decides is Decides.WEIGHT and check.kind is not CheckKind.AGENT:
        yield Finding(
            (*path, "decides"),
            f"a check by `{check.kind}` says nothing of weights, only an `agent` does: write"
            " `state` or `alarm`",
        )


def _protocols(path: Path, kind: CheckKind, users: Mapping[str, Listener]) -> Iterator[Finding]:
    """Checks by SMTP of servers that don't speak it, or not always the same way."""
    if kind not in SMTP_KINDS:
        return
    protocols = {listener.protocol for listener in users.values()}
    for name, listener in users.items():
        if listener.protocol is Protocol.SMTPS and protocols != {Protocol.SMTPS}:
            yield Finding(
                (*path, "kind"),
                f"`{kind}` can't check this pool: listener `{name}` is smtps, where TLS comes"
                " first, and others of its listeners aren't; use `tcp`, or a pool for each",
            )
            return
        if listener.protocol is Protocol.TCP:
            yield Finding(
                (*path, "kind"),
                f"listener `{name}` is tcp: servers that don't speak SMTP in plain text are never"
                f" up by `{kind}`; use `tcp` for them",
                warning=True,
            )
            return
