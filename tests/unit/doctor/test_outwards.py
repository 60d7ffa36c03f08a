"""The way out: what is said of a host that can't be one."""

import pytest

from mailweir.doctor.examination import examine
from mailweir.doctor.findings import Ailment
from unit.doctor.test_machine_verdict import config


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "mx..test", "\udcff.test"])
def test_no_host_name_is_no_traceback(host: str) -> None:
    found = examine(config(), "no pool", None, host).findings
    [outwards] = [one for one in found if one.ailment is Ailment.OUTWARDS]
    assert "has no address" in outwards.wrong
