"""What the process is to do next: set by signals, checks and routes, acted on by `changes`."""

import asyncio

from mailweir.reload import ReloadOutcome, Requests
from mailweir.upgrade.successor import UpgradeOutcome


class Intents:
    """What is to be done; set anywhere in the event loop at any time, acted on in `changes`."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.reloads = Requests[ReloadOutcome]()
        self.upgrades = Requests[UpgradeOutcome]()
        self.states_changed = False
        self.terminations = 0
        self.restarts = False
        self.told_to_end = asyncio.Event()

    def reload(self) -> None:
        """Read the configuration again."""
        self.reloads.ask()
        self.wake.set()

    def upgrade(self) -> None:
        """Have the next process take over."""
        self.upgrades.ask()
        self.wake.set()

    def end(self, *, restarts: bool = False) -> None:
        """End, and the second time at once; where it is a restart, for the next process."""
        self.restarts = restarts
        self.terminations += 1
        self.told_to_end.set()
        self.wake.set()

    def change_states(self) -> None:
        """Tell the data plane what servers and listeners may be used for by now."""
        self.states_changed = True
        self.wake.set()
