"""What stands on a terminal and in a pipe."""

import io

import pytest
from rich.console import Console

from mailweir.demo.screen import Lines, Terminal, for_stdout
from unit.demo.situations import server, view


def terminal() -> tuple[Terminal, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=30, color_system=None)
    return Terminal(console), out


def test_a_pipe_gets_a_line_a_second_and_every_event(capsys: pytest.CaptureFixture[str]) -> None:
    lines = for_stdout()
    assert isinstance(lines, Lines)
    lines.write("hello")
    for seconds in (0.2, 1.1, 1.6, 2.0):
        lines.show(view(server(), server("slow", state="down"), seconds=seconds))
    lines.event(2.4, "flaky goes down")
    lines.close()
    shown = "30 mails sent, 28 delivered, 1 failed, 0 lost, 0 twice; 10 sessions/s"
    assert capsys.readouterr().out.splitlines() == [
        "hello",
        f"   1s  {shown}; flaky 7, slow (down) -",
        f"   2s  {shown}; flaky 7, slow (down) -",
        "   2s  * flaky goes down",
    ]


def test_a_terminal_gets_the_table_and_the_last_events() -> None:
    screen, out = terminal()
    for number in range(9):
        screen.event(number, f"event {number}")
    assert out.getvalue() == "", "nothing to draw before the first view"
    screen.show(view(server(failed=2), server("slow", state="down")))
    screen.close()
    drawn = out.getvalue()
    lines = [line.split() for line in drawn.splitlines()]
    for line in (
        "SERVER STATE SESSIONS ACTIVE MAILS FAILED LAST CHECK",
        "flaky up 5 1 7 2 ehlo ok in 12 ms",
        "slow down 5 1 - 0 connect: Connection refused",
        "30 mails sent, 28 delivered, 1 failed, 0 lost, 0 twice; 10 sessions/s",
        "8s event 8",
    ):
        assert line.split() in lines
    assert "event 2" not in drawn


def test_a_terminal_keeps_commands_whole() -> None:
    screen, out = terminal()
    command = f"mailweir status --socket /tmp/[x]/{'long/' * 30}admin.sock"
    screen.write(command)
    assert out.getvalue() == f"{command}\n"
