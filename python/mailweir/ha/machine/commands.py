"""What an operator, or the service manager, wants of a node. Pure. Called by `inputs`."""

from mailweir.ha.machine import judging
from mailweir.ha.machine.facts import Command
from mailweir.ha.machine.states import TIMES, States
from mailweir.ha.machine.wire import Kind, State


def obey(states: States, command: Command, now: float, *, force: bool) -> str:
    """Do it; why it isn't done, or nothing."""
    known = states.known
    if command is Command.READY:
        _end_maintenance(states, now)
        return ""
    if command is Command.SWITCH and known.state is not State.ACTIVE:
        return _claim(states, now, force=force)
    if known.state is State.ACTIVE and command is not Command.STOP:
        switch = command is Command.SWITCH
        why_not = (
            judging.why_not_switch(known, now, force=force)
            if switch
            else judging.why_not_rest(known, now)
        )
        if why_not:
            return why_not
    after = State.BACKUP if command is Command.SWITCH else State.MAINT
    why = judging.ENDS if command is Command.STOP else "an operator wants it so"
    if known.holding:
        states.let_go(after, why, now, force=force)
    elif known.state is State.RELEASING:
        states.after = (after, why)
    else:
        states.enter(after, why, now)
    return ""


def _end_maintenance(states: States, now: float) -> None:
    why = "an operator ended the maintenance"
    if states.known.state is State.MAINT:
        states.enter(State.INIT, why, now)
    elif states.known.state is State.RELEASING and states.after[0] is State.MAINT:
        states.after = (State.INIT, why)


def _claim(states: States, now: float, *, force: bool) -> str:
    refusal = judging.why_not_claim(states.known, now, force=force)
    if not refusal:
        states.known.forces = force
        states.asks.send(Kind.CLAIM, now, times=TIMES)
    return refusal
