"""The books of the mails: nothing that happens to one goes uncounted."""

from mailweir.demo.ledger import Ledger


def figures(ledger: Ledger) -> tuple[int, ...]:
    return ledger.sent, ledger.delivered, ledger.failed, ledger.lost, ledger.duplicates


def test_a_mail_that_goes_well() -> None:
    ledger = Ledger()
    assert [ledger.send(), ledger.send()] == [0, 1]
    assert ledger.unanswered == 2
    ledger.arrive(1)
    ledger.confirm(1)
    assert figures(ledger) == (2, 1, 0, 0, 0)
    assert ledger.unanswered == 1


def test_lost_failed_and_twice() -> None:
    ledger = Ledger()
    lost, failed, twice = ledger.send(), ledger.send(), ledger.send()
    ledger.confirm(lost)
    ledger.fail(f"mail {failed}: 421 no")
    for _ in range(3):
        ledger.arrive(twice)
    ledger.confirm(twice)
    assert figures(ledger) == (3, 2, 1, 1, 2)
    assert ledger.last_failure == "mail 1: 421 no"


def test_a_strangers_number_counts_nothing() -> None:
    ledger = Ledger()
    ledger.arrive(7)
    assert figures(ledger) == (0, 0, 0, 0, 0)
