"""How the servers of a pool are checked: a part of `pool`.

The keys of all kinds stand together; `check_rules` refuses those that a kind has no use for.
"""

from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    StrictInt,
    StringConstraints,
    WithJsonSchema,
)

from mailweir.config.address import Address, parse_server
from mailweir.config.kinds import (
    TEXT,
    AbsolutePath,
    Count,
    Duration,
    Host,
    Interval,
    InWords,
    Part,
    Source,
    between,
    none_from,
    none_is,
)
from mailweir.config.words import CheckKind, Decides, Initial, Proxy, Verify

_KINDS = WithJsonSchema({"enum": ["auto", *CheckKind]})
# RFC 5321, 4.1.1.1: a word of the reply to EHLO.
_EXTENSION = r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$"
# RFC 9110, 5.6.2: a token.
_HEADER = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$"
_LONGEST = 256
# RFC 5321, 4.5.3.1.3.
_LONGEST_MAILBOX = 254


def _check_mailbox(address: str) -> str:
    """What stands between < and > of MAIL and RCPT: ASCII, and nothing that ends it."""
    plain = address.isascii() and address.isprintable() and not set(address) & set("<> ")
    if not plain or address.count("@") != 1 or not 3 <= len(address) <= _LONGEST_MAILBOX:
        raise ValueError(f"must be an address such as check@example.com, not {address!r:.60}")
    return address


def _check_sender(address: str) -> str:
    return address and _check_mailbox(address)


def _check_plain(text: str) -> str:
    """Nothing that ends a line."""
    if not text or len(text) > _LONGEST or not text.isprintable():
        raise ValueError(f"must be from 1 to {_LONGEST} characters that can be seen")
    return text


def _check_path(path: str) -> str:
    if not path.startswith("/") or not path.isascii() or " " in path:
        raise ValueError(f"must begin with / and be in ASCII, without spaces, not {path!r:.60}")
    return _check_plain(path)


def _check_sink(value: object) -> Address | None:
    return None if value == "none" else parse_server(value)


Port = Annotated[StrictInt, Field(ge=1, le=65535)]
Mailbox = Annotated[str, AfterValidator(_check_mailbox), InWords("a mail address")]
Plain = Annotated[
    str, AfterValidator(_check_plain), InWords(f"text of {_LONGEST} characters at most")
]
Sink = Annotated[
    Address | None, PlainValidator(_check_sink), TEXT, InWords("an IP address and a port")
]


class Arrives(Part):
    """Where mails of checks arrive: one of the three."""

    maildir: Annotated[AbsolutePath | None, none_from("none")] = Field(
        None,
        json_schema_extra=none_is("none"),
        description="A folder on this machine with `new` in it, out of which mailweir takes its own"
        " mails.",
    )
    smtp: Sink = Field(
        None,
        json_schema_extra=none_is("none"),
        description="An address and port at which mailweir listens for them, by SMTP.",
    )
    lmtp: Sink = Field(None, json_schema_extra=none_is("none"), description="The same, by LMTP.")


class Check(Part):
    """How the servers of a pool are checked: what says whether one is up."""

    kind: Annotated[CheckKind | None, none_from("auto"), _KINDS] = Field(
        None,
        json_schema_extra=none_is("auto"),
        description="What a check asks. `auto` is `ehlo` where only smtp listeners use the pool,"
        " since a server that accepts but doesn't greet is no use, and else `tcp`. `agent` is for"
        " `more_checks` alone.",
    )
    helo: Annotated[Host | None, none_from("auto")] = Field(
        None,
        json_schema_extra=none_is("auto"),
        description="What a check calls itself in EHLO: a host name that servers find in DNS, where"
        " they ask for that. `auto` is the address that the check comes from, as [192.0.2.1]:"
        " Postfix and Exim take it whatever they ask of names.",
    )
    source: Annotated[Source | None, none_from("auto")] = Field(
        None,
        json_schema_extra=none_is("auto"),
        description="The address that checks come from. `auto` is the server's first `source`, but"
        " none of `ha.source`, which may be at the other node; else the one that the route gives.",
    )
    port: Annotated[Port | None, none_from("auto")] = Field(
        None,
        json_schema_extra=none_is("auto"),
        description="The port at the server's address that checks go to. `auto` is the one that"
        " sessions go to, which no check sees where it is another one; of `http` and `https` 80 and"
        " 443. An agent's has to be given.",
    )
    proxy: Annotated[Proxy | None, none_from("auto")] = Field(
        None,
        json_schema_extra=none_is("auto"),
        description="The PROXY header that checks by SMTP and `tcp` begin with. `auto` is the"
        " server's `proxy`; another port may expect another one.",
    )
    every: Interval = Field(
        10.0,
        description="The time between checks when nothing changes. Each check is a session on the"
        " server.",
    )
    fast: Interval = Field(
        2.0, description="The time between checks while a change isn't confirmed yet."
    )
    rise: Count = Field(
        2, description="How many successes in a row it takes until a server is up again."
    )
    fall: Count = Field(
        3,
        description="How many failures in a row it takes until a server is down, or out of new"
        " sessions. Clients don't suffer from it: a session whose server doesn't accept goes to"
        " the next one.",
    )
    timeout: Interval = Field(
        15.0,
        description="How long a whole check may take. Greetings are delayed on purpose by"
        " postscreen (6s) and by DNS lookups. Accepting isn't: that may take as long as sessions"
        " wait for it (`timeouts.connect`).",
    )
    initial: Initial = Field(
        Initial.DOWN,
        description="What a server is before its first check is over. `down`, since a session sent"
        " to it might wait in vain.",
    )
    requires: list[
        Annotated[str, StringConstraints(pattern=_EXTENSION), InWords("an extension of SMTP")]
    ] = Field(
        [],
        description="Of `ehlo`: extensions that the server has to offer, as [STARTTLS, SIZE].",
    )
    verify: Annotated[Verify | None, none_from("auto")] = Field(
        None,
        json_schema_extra=none_is("auto"),
        description="Of `starttls`, `auth` and `https`: what of the certificate has to be right."
        " `chain`: an authority that is trusted issued it. `name`: it is for `name` as well."
        " `none`: only its time counts. `auto` is `name` where `name` is given, else `chain`.",
    )
    name: Annotated[Host | None, none_from("none")] = Field(
        None,
        json_schema_extra=none_is("none"),
        description="The host name that the certificate has to be for, and that TLS asks for.",
    )
    ca: Annotated[AbsolutePath | None, none_from("system")] = Field(
        None,
        json_schema_extra=none_is("system"),
        description="A PEM file with the certificates that are trusted, instead of the system's.",
    )
    days: Annotated[StrictInt, Field(ge=0, le=398)] = Field(
        14,
        description="Of `starttls`: a certificate that ends sooner than in so many days"
        " is an alarm; one that has ended is a failure. ACME renews 30 days before.",
    )
    user: Annotated[Plain | None, none_from("none")] = Field(
        None,
        json_schema_extra=none_is("none"),
        description="Of `auth`, and of `rcpt` and `message` where the server wants it: who logs"
        " in, behind TLS alone.",
    )
    password_file: Annotated[AbsolutePath | None, none_from("none")] = Field(
        None,
        json_schema_extra=none_is("none"),
        description="The file with the password, its first line. Others mustn't be able to read"
        " it (chmod 400); it is read at each check, so that a new one needs no reload.",
    )
    mail_from: Annotated[
        str, AfterValidator(_check_sender), InWords("a mail address, or nothing")
    ] = Field(
        "",
        description="Of `rcpt` and `message`: the sender. Empty is <>, to which nobody answers.",
    )
    rcpt_to: Annotated[Mailbox | None, none_from("none")] = Field(
        None,
        json_schema_extra=none_is("none"),
        description="Of `rcpt` and `message`: the recipient. `rcpt` only asks for it and takes it"
        " back (RSET); `message` sends it a small mail each time.",
    )
    arrives: Annotated[Arrives | None, none_from("none")] = Field(
        None,
        json_schema_extra=none_is("none"),
        description="Of `message`: where the mail has to arrive within `timeout`, or the check"
        " fails. Without, it is enough that the server takes it.",
    )
    path: Annotated[
        str, AfterValidator(_check_path), InWords("the path of a URL, which begins with /")
    ] = Field("/", description="Of `http` and `https`: what is asked for.")
    status: list[Annotated[StrictInt, Field(ge=100, le=599)]] = Field(
        [], description="Of `http` and `https`: answers that are good; without any, 200 to 299."
    )
    match: Annotated[Plain | None, none_from("none")] = Field(
        None,
        json_schema_extra=none_is("none"),
        description="Of `http` and `https`: words that the first 64 KiB of the answer must have.",
    )
    header: dict[
        Annotated[str, StringConstraints(pattern=_HEADER), InWords("a header's name")], Plain
    ] = Field(
        {}, description="Of `http` and `https`: headers to send, as {Host: mail.example.com}."
    )
    client_certificate: Annotated[AbsolutePath | None, none_from("none")] = Field(
        None,
        json_schema_extra=none_is("none"),
        description="Of `https`: a PEM file with a certificate and its key, to be shown to the"
        " server.",
    )

    @property
    def verify_in_effect(self) -> Verify:
        """What of a certificate has to be right."""
        return self.verify or (Verify.NAME if self.name else Verify.CHAIN)

    @property
    def soon(self) -> float:
        """Seconds between checks while a change isn't confirmed: never longer than else."""
        return min(self.fast, self.every)


class FurtherCheck(Check):
    """One more check of the servers of a pool."""

    kind: CheckKind = Field(description="What is asked, as in `check`; never `auto`.")
    decides: Decides = Field(
        Decides.STATE,
        description="`state`: a server is up only where this check passes too; `weight`: what an"
        " agent says of weight and sessions counts, and not what it says of the state; `alarm`:"
        " nothing but an alarm comes of it.",
    )
    every: Annotated[Duration, between(0.1, 86400.0)] = Field(
        60.0,
        description="The time between checks when nothing changes. Each check is a session on the"
        " server.",
    )
    initial: Initial = Field(
        Initial.UP,
        description="What this check says before it is over for the first time. It is `up`, so"
        " that a check that is added takes no server out.",
    )
