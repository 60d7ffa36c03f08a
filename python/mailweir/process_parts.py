"""What the running process is made of, as one value. Made by the daemon."""

from dataclasses import dataclass
from pathlib import Path

from mailweir.admin.digests import Digests
from mailweir.admin.metrics import Metrics
from mailweir.admin.server import AdminServer
from mailweir.faults import Faults
from mailweir.health.monitor import Monitor
from mailweir.health.outliers import Outliers
from mailweir.lanes import Lane
from mailweir.operator import Operator
from mailweir.plane import Plane
from mailweir.room import Room
from mailweir.state.keeping import Keeping
from mailweir.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class ProcessParts:
    """What changes are made of, and what they are made to."""

    file: Path
    hostname: str
    room: Room
    plane: Plane
    lane: Lane  # for what waits in the data plane
    monitor: Monitor
    outliers: Outliers
    operator: Operator
    keeping: Keeping
    digests: Digests
    admin: AdminServer
    metrics: Metrics
    supervisor: Supervisor
    faults: Faults
