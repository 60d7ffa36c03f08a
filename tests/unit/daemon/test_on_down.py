"""What becomes of the sessions of a server that checks call down."""

from pathlib import Path

from mailweir.spec import ServerKey, ServerState
from unit.daemon.running import serving

B = ServerKey("farm", "b")


async def test_they_end_once_where_that_is_asked(tmp_path: Path, servers: dict[str, str]) -> None:
    # Nobody listens at port 1.
    async with serving(tmp_path, {**servers, "b": "127.0.0.1:1"}) as running:
        assert running.plane.states[B] is ServerState.DOWN
        assert running.plane.ended == []
        text = running.file.read_text()
        running.file.write_text(text.replace("    servers:", "    on_down: end\n    servers:"))
        outcome = await running.balancer.reload()
        assert outcome.message == "pool farm: on_down leave -> end"
        assert running.plane.ended == [B]
        said = running.logged("sessions ended: their server is down")
        assert [(one["server"], one["sessions"]) for one in said] == [("farm/b", 1)]
        assert (await running.balancer.reload()).ok
        assert running.plane.ended == [B]


async def test_whose_server_was_down_from_the_beginning(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    """Sessions in the kernel may be there that an earlier process began."""
    async with serving(tmp_path, {**servers, "b": "127.0.0.1:1"}, pool="on_down: end") as running:
        assert running.plane.ended == [B]
