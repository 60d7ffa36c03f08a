"""How the demo went, in words, and what makes it fail."""

from collections.abc import Iterator

import pytest

from mailweir.demo.farm import Farm
from mailweir.demo.ledger import Ledger
from mailweir.demo.verdict import Verdict, verdict
from unit.demo.situations import server, view


@pytest.fixture
def farm() -> Iterator[Farm]:
    farm = Farm(Ledger())
    for member in farm.servers:
        member.mails = 2
    yield farm
    farm.end()


def books(*, sent: int) -> Ledger:
    ledger = Ledger()
    for number in range(sent):
        ledger.send()
        ledger.arrive(number)
        ledger.confirm(number)
    return ledger


def judged(farm: Farm, ledger: Ledger, *, whole: bool = True) -> Verdict:
    return verdict(view(server(failed=4)), ledger, farm, sessions=5, whole=whole)


def test_all_well(farm: Farm) -> None:
    farm.flaky.outages, farm.flaky.returns = 2, 1
    result = judged(farm, books(sent=6))
    assert result.problems == ()
    assert (
        str(result)
        == """\
In 3 s, 6 mails in 5 sessions went through mailweir to 3 servers:
swift got 2, slow got 2, flaky got 2.
flaky went down 2 times and came back once.
4 sessions met its closed socket and went to another server.
No mail was lost, none failed at a sender, none came twice."""
    )


def test_ended_before_anything_happened(farm: Farm) -> None:
    farm.slow.mails = 0
    result = judged(farm, books(sent=4), whole=False)
    assert result.problems == ()
    assert "went down" not in str(result)


def test_every_problem_is_named(farm: Farm) -> None:
    farm.slow.mails = 0
    ledger = books(sent=1)
    ledger.arrive(0)
    ledger.confirm(ledger.send())
    ledger.send()
    ledger.fail("mail 2: 421 no server")
    ledger.send()
    result = judged(farm, ledger)
    assert result.problems == (
        "1 mail lost: confirmed to the sender, on no server",
        "1 mail failed at the sender; mail 2: 421 no server",
        "1 mail without an answer at the end",
        "1 mail came twice",
        "slow got no mail",
    )
    assert str(result).splitlines()[2] == f"PROBLEM: {result.problems[0]}"
