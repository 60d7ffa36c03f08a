"""What follows from what a node knows: may it be active, should it, is the peer the better one.
Every answer that is a no is said in words, for the log and `mailweir ha explain`. Pure.

Called by `states`, `heard` and `commands`. An empty text means that nothing is against it.
"""

from collections.abc import Iterator, Mapping

from mailweir.ha.machine.known import Known, wants
from mailweir.ha.machine.peer import Peer
from mailweir.ha.machine.wire import Flag, Message, State, Trouble

_ABLE = Flag.DATAPLANE_OK | Flag.CARRIER_OK
# States of a peer that could become active in a moment.
_READY = (State.INIT, State.BACKUP, State.CANDIDATE)
# What a node does that is in a state, in words.
DOES = {
    State.INIT: "has just started",
    State.BACKUP: "stands by",
    State.CANDIDATE: "is about to take over",
    State.ACTIVE: "is active",
    State.RELEASING: "gives the addresses up",
    State.FAULT: "is in fault",
    State.MAINT: "is in maintenance",
}
# A gateway that doesn't answer for so long is lost: one check in a row may fail.
_GATEWAY_LOST = 3.0
# Why a node whose process is stopped has let go.
ENDS = "the process ends"
# Keys that differ, in one message.
_AND = " and "
_MOST_NAMED = 3


def obstacle(known: Known) -> str:
    """What keeps this node from having the addresses, whatever the peer is."""
    if known.carrier_lost:
        return known.carrier_lost
    # Who is taken for another one can't find out by asking either what that one has.
    if found := known.double or known.has_no_link():
        return found
    return "" if known.serves() or known.forced else known.health.why


def sees_others(known: Known, now: float) -> bool:
    """Whether this node isn't the one that is cut off, as far as can be known."""
    s = known.settings
    if not (s.gateways or s.witness):
        return True
    return known.sees_witness(now) or (s.gateways and known.sees_gateway())


def sees_nobody(known: Known) -> str:
    """What this node would need to take over from a peer that is silent."""
    s = known.settings
    if s.strict:
        return "no witness answers"
    return f"{' and '.join(['no gateway'] * s.gateways + ['no witness'] * s.witness)} answers"


def cut_off(known: Known) -> str:
    """Why this node takes nothing over from a peer that is silent, where it sees nobody else."""
    s = known.settings
    others = ["no gateway"] * s.gateways + ["no witness"] * s.witness
    return (
        f"nothing is heard of {s.peer}, and {' and '.join(others)} answers, so it may be {s.node}"
        " that is cut off"
    )


def released(known: Known) -> str:
    """The peer has let go, and what is wrong with it."""
    name, told = known.settings.peer, known.peer.message
    if told is not None and Flag.CARRIER_OK not in told.flags:
        return f"{name} released the addresses (it has no carrier)"
    if told is not None and Flag.DATAPLANE_OK not in told.flags:
        return f"{name} released the addresses (its balancer doesn't serve)"
    return f"{name} released the addresses"


def has_leave(known: Known, now: float) -> bool:
    """Strict mode: whether the witness, or the peer, wants this candidate to be active, and our own
    word to the peer is over.
    """
    return known.promised_until <= now < known.quorum_until


def is_leave(known: Known, told: Message, by: Peer) -> bool:
    """Strict mode: whether it answers what this node asks now, not what it asked before."""
    asks = known.state in (State.CANDIDATE, State.ACTIVE)
    return Flag.GRANTED in told.flags and asks and by.echoed_at >= known.asked_since


def gives_leave(known: Known, now: float) -> bool:
    """Strict mode: whether the peer is to be active as far as this node is concerned.

    It is a promise: this node isn't active until that word is over, or the peer needs it no more.
    """
    told = known.peer.message
    if not known.settings.strict or told is None or not wants(told) or known.is_silent(now):
        return False
    if known.state not in (State.INIT, State.BACKUP):
        return known.state in (State.FAULT, State.MAINT)
    goes_itself = is_better(known, now) and not obstacle(known)
    return told.state is State.ACTIVE or not goes_itself


def peer_goes_first(known: Known, now: float) -> str:
    """Of a candidate: why it is to leave it to the peer."""
    told = known.peer.message
    if told is None or known.is_silent(now):
        return ""
    name = known.settings.peer
    if told.state is State.ACTIVE:
        return f"{name} is active"
    if told.state is State.CANDIDATE and not is_better(known, now):
        return f"{name} is the better one"
    return ""


def leave_is_over(known: Known, now: float) -> str:
    """Strict mode: why a node that has the addresses can't keep them."""
    if known.settings.strict and now >= known.quorum_until:
        return "neither the peer nor the witness confirms that it may be active"
    return ""


def is_better(known: Known, now: float) -> bool:
    """Whether this node is to be active rather than the peer; both say the same of it, unless one
    has just given the addresses to the other.
    """
    told = known.peer.message
    if told is None or not _is_able(told):
        return True
    if now < known.yielded_until:
        return False
    mine = (known.sees_gateway(), known.priority(), -known.settings.number)
    return mine > (Flag.GATEWAY_OK in told.flags, told.priority, -told.sender)


def why_peer_wins(known: Known, told: Message, now: float) -> str:
    """Both are active: why this node is the one to let go, if it is."""
    mine_ok, theirs_ok = known.health.ok, Flag.DATAPLANE_OK in told.flags
    mine_sees = known.sees_gateway() or known.sees_witness(now)
    theirs_sees = bool(told.flags & (Flag.GATEWAY_OK | Flag.WITNESS_OK))
    name = known.settings.peer
    reasons = (
        (mine_ok, theirs_ok, f"only the balancer of {name} serves"),
        (mine_sees, theirs_sees, f"only {name} reaches a gateway or the witness"),
        (known.term, told.term, f"{name} took over later"),
        (known.priority(), told.priority, f"{name} has the higher priority"),
        (-known.settings.number, -told.sender, f"{name} comes first by name"),
    )
    why = next((why if mine < theirs else "" for mine, theirs, why in reasons if mine != theirs))
    since = known.conflict_since
    lasts = since is not None and now - since >= known.settings.dead
    if (
        not why
        and lasts
        and Flag.DEAF in told.flags
        and (mine_ok, mine_sees)
        <= (
            theirs_ok,
            theirs_sees,
        )
    ):
        return f"{name} hears nothing, so it can't be the one to let go"
    return why


def reason_to_let_go(known: Known, now: float) -> tuple[str, State | None]:
    """Of the active node: why it is to give the addresses up, and what it is then."""
    s, told, name = known.settings, known.peer.message, known.settings.peer
    if known.carrier_lost:
        return known.carrier_lost, State.FAULT
    if why := leave_is_over(known, now):
        return why, State.BACKUP
    if told is None or why_peer_can_not(known, now):
        return "", None
    if known.forced:
        return "", None
    if not known.health.ok:
        return known.health.why, State.BACKUP
    lost_at = known.gateway_lost_at
    if lost_at is not None and now - lost_at >= _GATEWAY_LOST and Flag.GATEWAY_OK in told.flags:
        return f"no gateway answers here, and {name} reaches one", State.BACKUP
    if now - known.since < s.fault_hold:
        return "", None
    mine, theirs = _losses(known, told)
    if mine > theirs and not why_peer_sees_less(known):
        return f"{known.health.why}, and {name} is better off", State.BACKUP
    outranked = known.outranked_since
    if outranked is not None and now - outranked >= s.preempt_delay:
        return f"{name} has the higher priority (preempt)", State.BACKUP
    return "", None


def outranks(known: Known, now: float) -> bool:
    """With `preempt`: whether the peer stands ready and has the higher priority."""
    told = known.peer.message
    if told is None or not known.settings.preempt:
        return False
    mine, theirs = _losses(known, told)
    return not why_not_switch(known, now) and told.priority > known.priority() and theirs <= mine


def _losses(known: Known, told: Message) -> tuple[int, int]:
    """What is taken off the priority of this node, and of the peer, for what is wrong there.

    A priority falls to 1 at most, so of a small one less can be taken. Neither counts for more
    than can be taken of both.
    """
    most = min(known.settings.priority, told.configured) - 1
    mine = known.settings.priority - known.priority()
    return min(mine, most), min(told.configured - told.priority, most)


def why_not_switch(known: Known, now: float, *, force: bool = False) -> str:
    """Of the active node: why it doesn't give the addresses up where it is asked to.

    Whatever would make the peer give them back at once is among it, unless an operator forces it.
    """
    if force:
        return why_peer_would_never(known, now)
    return why_peer_can_not(known, now) or difference(known) or why_peer_is_worse(known)


def why_peer_is_worse(known: Known) -> str:
    """Why clients would be worse off at the peer, whatever its state."""
    s, told, name = known.settings, known.peer.message, known.settings.peer
    if told is None:
        return ""
    if Trouble.PAUSED in told.trouble and not known.health.paused:
        return f"the balancer of {name} is paused"
    if Trouble.NO_SERVER in told.trouble and not known.health.penalty:
        return f"{name} sees no server of a pool, and {s.node} does"
    return why_peer_sees_less(known)


def why_not_rest(known: Known, now: float) -> str:
    """Of the active node: why it can't go into maintenance."""
    return why_peer_can_not(known, now) or difference(known)


def why_not_claim(known: Known, now: float, *, force: bool = False) -> str:
    """Of another node: why it can't ask the active one for the addresses."""
    told, name = known.peer.message, known.settings.peer
    if known.state is State.MAINT:
        return "this node is in maintenance: `mailweir ha ready` first"
    if told is None or known.is_silent(now):
        return f"nothing is heard of {name}, so there is nobody to ask"
    if told.state is not State.ACTIVE:
        return f"{name} isn't active: it {DOES[told.state]}"
    if force:
        return known.carrier_lost or known.double
    blind = not known.sees_gateway() and Flag.GATEWAY_OK in told.flags
    no_gateway = f"no gateway answers here, and {name} reaches one" if blind else ""
    return obstacle(known) or difference(known) or no_gateway or _why_worse_here(known, told)


def _why_worse_here(known: Known, told: Message) -> str:
    health = known.health
    if health.paused and Trouble.PAUSED not in told.trouble:
        return f"`mailweir run` is paused {health.paused} on this node: `mailweir resume` first"
    return health.why if health.penalty and Trouble.NO_SERVER not in told.trouble else ""


def why_peer_can_not(known: Known, now: float) -> str:
    """Why the peer wouldn't take the addresses if they were released now."""
    return why_peer_would_never(known, now) or why_peer_does_not_serve(known)


def why_peer_would_never(known: Known, now: float) -> str:
    """The same, also where an operator forces it."""
    told, name = known.peer.message, known.settings.peer
    if told is None or known.is_silent(now):
        return f"nothing is heard of {name}"
    if known.peer.is_deaf():
        return f"{name} doesn't hear this node"
    if not known.peer.hears_us(now):
        return f"nothing is heard of {name} for a moment"
    if told.state is not State.BACKUP:
        return f"{name} {DOES[told.state]}"
    return f"{name} has no carrier" if Flag.CARRIER_OK not in told.flags else ""


def why_peer_does_not_serve(known: Known) -> str:
    """What is wrong with its balancer."""
    told, name = known.peer.message, known.settings.peer
    if told is None or Flag.DATAPLANE_OK in told.flags:
        return ""
    if Trouble.AWAY in told.trouble:
        return f"the balancer of {name} drains, or begins anew"
    return f"the balancer of {name} doesn't serve"


def why_peer_sees_less(known: Known) -> str:
    """What the peer would give the addresses back for, once it has them."""
    told = known.peer.message
    blind = told is not None and known.sees_gateway() and Flag.GATEWAY_OK not in told.flags
    return f"no gateway answers {known.settings.peer}" if blind else ""


def difference(known: Known) -> str:
    """What differs between the nodes' configurations, in words."""
    told, s, health = known.peer.message, known.settings, known.health
    if told is None:
        return ""
    if told.pair_digest != s.pair_digest:
        named = _named(known, s.parts, "ha")
        return (
            f"{named} in the file of {s.peer} {_not(named)} the same: make both files alike, then"
            " send HUP to `mailweir ha run` on both"
        )
    theirs, mine = told.config_digest, health.config_digest
    if any(theirs) and any(mine) and theirs != mine:
        named = _named(known, health.parts, "")
        which = f": {named} {_not(named)} the same" if named else ""
        return (
            f"the balancer of {s.peer} runs with another configuration{which}: make both files"
            " alike, then reload both"
        )
    return ""


def _named(known: Known, own: Mapping[str, bytes], otherwise: str) -> str:
    """The keys that differ, as far as the peer has said its own by now."""
    found = known.parts.differing(own)
    if not found and known.parts.has_more(known.settings.parts, known.health.parts):
        return f"a key that {known.settings.node} doesn't have"
    names = [f"`{name}`" for name in found[:_MOST_NAMED]]
    if len(found) > _MOST_NAMED:
        names.append(f"{len(found) - _MOST_NAMED} more")
    return _AND.join(names) or (otherwise and f"`{otherwise}`")


def _not(named: str) -> str:
    return "aren't" if _AND in named else "isn't"


def problems(known: Known, now: float) -> Iterator[tuple[str, str]]:
    """What an operator should know of, by a word for each; an empty text where it isn't so."""
    yield "double", known.double
    yield "balancer", _own_trouble(known)
    silent = known.is_silent(now)
    yield "silent", f"nothing is heard of {known.settings.peer} on any link" if silent else ""
    for key, problem in _of_peer(known, now):
        # Of a peer that is silent nothing is known to be over.
        yield key, known.alarms.get(key, "") if silent else problem
    # By the peer's last words also while it is silent: who repeats them here ends it.
    yield "words", known.words.difference(known.settings.node, known.settings.peer, now)
    for number, link in enumerate(known.settings.links, start=1):
        yield f"link {link}", _of_link(known, number, now)
    lost_at = known.gateway_lost_at
    lost = lost_at is not None and now - lost_at >= _GATEWAY_LOST
    yield "gateway", "no gateway answers" if lost else ""
    dead = known.settings.dead
    mute = now - max(known.witness.heard_at, known.waited_from) >= 2 * dead
    yield "witness", "nothing is heard of the witness" if known.settings.witness and mute else ""


def _own_trouble(known: Known) -> str:
    """What keeps this node from serving, or would if the peer were gone."""
    health, name = known.health, known.settings.node
    if known.state is State.INIT or known.why == ENDS:
        return ""
    if known.state is State.MAINT:
        return f"{name} couldn't take over: it is in maintenance"
    if known.state is State.FAULT:
        return f"{name} couldn't take over: {known.why}"
    if not (health.why or health.paused):
        return ""
    why = health.why or f"`mailweir run` is paused {health.paused}: it refuses new sessions"
    if known.holding:
        return f"{why}; `mailweir ha switch` moves the addresses" if health.paused else why
    return f"{name} couldn't take over: {why}"


def _of_peer(known: Known, now: float) -> Iterator[tuple[str, str]]:
    s, told = known.settings, known.peer.message
    deaf = told is not None and known.peer.is_deaf()
    yield "deaf", f"{s.peer} is heard but doesn't hear this node" if deaf else ""
    yield "differs", difference(known)
    both = known.state is State.ACTIVE and told is not None and told.state is State.ACTIVE
    yield "conflict", f"{s.peer} is active as well" if both else ""
    since, why = known.unready_since, "" if both or deaf else why_not_redundant(known, now)
    lasts = since is not None and now - since >= s.dead
    words = f"{s.peer} couldn't take over: {why}" if why and lasts else ""
    # Who is about to be silent isn't another matter.
    quiet = not deaf and not known.peer.hears_us(now)
    yield "standby", known.alarms.get("standby", "") if quiet else words


def why_not_redundant(known: Known, now: float) -> str:
    """Of the active node: why clients would have nobody, or less, without it."""
    told = known.peer.message
    if known.state is not State.ACTIVE or told is None:
        return ""
    if why := why_peer_can_not(known, now) or would_be_cut_off(known, told):
        return why
    if Trouble.PAUSED in told.trouble:
        return f"the balancer of {known.settings.peer} is paused"
    down = Trouble.NO_SERVER in told.trouble
    return f"{known.settings.peer} sees no server of a pool" if down else ""


def is_redundant(known: Known, now: float) -> bool:
    """Whether one of the two is active and the other one could be, as well."""
    told, health = known.peer.message, known.health
    if told is None or known.is_silent(now):
        return False
    if known.state is State.ACTIVE:
        return not why_not_redundant(known, now)
    able = not (obstacle(known) or health.paused or health.penalty) and sees_others(known, now)
    return told.state is State.ACTIVE and known.state is State.BACKUP and able


def would_be_cut_off(known: Known, told: Message) -> str:
    """Why the peer, once it heard nothing of this node, would take itself for the one cut off."""
    s = known.settings
    sees = Flag.WITNESS_OK in told.flags, s.gateways and Flag.GATEWAY_OK in told.flags
    if s.strict and not sees[0]:
        return f"{s.peer} doesn't hear the witness, and may not be active without its word"
    if (s.gateways or s.witness) and not any(sees):
        others = ["no gateway"] * s.gateways + ["no witness"] * s.witness
        return f"{' and '.join(others)} answers {s.peer}"
    return ""


def _of_link(known: Known, number: int, now: float) -> str:
    s, told = known.settings, known.peer.message
    link = s.links[number - 1]
    if why := known.absent_links.get(number, ""):
        return f"link {link} can't be used: {why}"
    lost = now - max(known.peer.link_heard_at.get(number, 0.0), known.waited_from) >= s.dead
    words = f"nothing is heard of {s.peer} on link {link}"
    if known.is_silent(now):
        # What is worse is said already, and this isn't over.
        return words if known.alarms.get(f"link {link}") == words else ""
    return words if lost and told is not None else ""


def _is_able(told: Message) -> bool:
    return told.flags & _ABLE == _ABLE and told.state in _READY
