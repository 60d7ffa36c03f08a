"""How the demo went, in words, and whether that is what was promised. Pure."""

from dataclasses import dataclass

from mailweir.demo.farm import Farm
from mailweir.demo.ledger import Ledger
from mailweir.demo.watch import View


@dataclass(frozen=True, slots=True)
class Verdict:
    """The summary; `problems` is empty where all went well."""

    summary: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        if not self.problems:
            return f"{self.summary}\nNo mail was lost, none failed at a sender, none came twice."
        return "\n".join([self.summary, *(f"PROBLEM: {problem}" for problem in self.problems)])


def verdict(view: View, ledger: Ledger, farm: Farm, *, sessions: int, whole: bool) -> Verdict:
    """`whole`: it ran to its end, so that every server must have had mail by now."""
    got = ", ".join(f"{server.name} got {server.mails}" for server in farm.servers)
    summary = (
        f"In {view.seconds:.0f} s, {ledger.sent} mails in {sessions} sessions went through"
        f" mailweir to {len(farm.servers)} servers:\n{got}."
    )
    flaky = farm.flaky
    if flaky.outages:
        met = sum(row.failed_connects for row in view.rows if row.name == flaky.name)
        summary += (
            f"\n{flaky.name} went down {_times(flaky.outages)} and came back"
            f" {_times(flaky.returns)}."
        )
        if met:
            summary += f"\n{_sessions(met)} met its closed socket and went to another server."
    return Verdict(summary, tuple(_problems(ledger, farm, whole=whole)))


def _problems(ledger: Ledger, farm: Farm, *, whole: bool) -> list[str]:
    problems = []
    if ledger.lost:
        problems.append(f"{_mails(ledger.lost)} lost: confirmed to the sender, on no server")
    if ledger.failed:
        problems.append(f"{_mails(ledger.failed)} failed at the sender; {ledger.last_failure}")
    if ledger.unanswered:
        problems.append(f"{_mails(ledger.unanswered)} without an answer at the end")
    if ledger.duplicates:
        problems.append(f"{_mails(ledger.duplicates)} came twice")
    if whole:
        problems += [f"{server.name} got no mail" for server in farm.servers if not server.mails]
    return problems


def _mails(count: int) -> str:
    return "1 mail" if count == 1 else f"{count} mails"


def _sessions(count: int) -> str:
    return "1 session" if count == 1 else f"{count} sessions"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
