"""What the admin routes ask of the running process. `running` is one of these."""

from collections.abc import Callable
from typing import Protocol

from mailweir.admin.digests import Digests
from mailweir.admin.ha_role import NodeRole
from mailweir.admin.node_health import NodeHealth
from mailweir.config.model import Config
from mailweir.operator import Operator, Speaker
from mailweir.plane import Plane
from mailweir.reload import Difference, ReloadOutcome
from mailweir.situation import Situation
from mailweir.upgrade.successor import UpgradeOutcome

# Changes what operators said, where the configuration has what it is about.
Change = Callable[[Operator, Config], None]


class Balancer(Protocol):
    """The running process."""

    def situation(self, *, with_times: bool = False) -> Situation:
        """The process at this moment; `with_times` is for scrapes, which alone show how long
        servers took.
        """

    @property
    def plane(self) -> Plane:
        """Its data plane: live sessions are asked for and ended there."""

    @property
    def role(self) -> NodeRole:
        """Its role in a pair, as it was told."""

    @property
    def digests(self) -> Digests:
        """By which the nodes of a pair see whether they agree."""

    def health(self) -> NodeHealth:
        """How the process is, in short; for who asks several times a second."""

    async def reload(self) -> ReloadOutcome:
        """Read the configuration again; returns when that is over, well or not."""

    async def upgrade(self) -> UpgradeOutcome:
        """Have the next process take over; returns when that is over, well or not."""

    async def difference(self) -> Difference:
        """What a reload would change."""

    async def addresses_move(self) -> int:
        """The pair's addresses are about to be the other node's: how many sessions of a process
        that ends that costs.
        """

    async def operate(self, change: Change, *, what: str, speaker: Speaker) -> str:
        """Let an operator change something; returns once it counts, with what is wrong: empty
        where nothing is. Raises what `change` raises.
        """
