"""Calls that may wait for a disk, a name service or a lock. Each kind has a lane: its own threads.

So a call that waits holds up neither the event loop nor calls of another kind. The threads are
daemons: one that hangs doesn't hold up the end of the process either. Used by whoever calls what
may wait; `asyncio.to_thread` has one set of threads for all, and joins them at the end.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from mailweir.errors import StalledError

_T = TypeVar("_T")


class Lane:
    """At most `width` calls at a time, in the order in which they were asked for.

    A call that took longer than its limit is left behind with its thread, and another thread takes
    its place. Where `most_lost` are left behind so, the next calls that would wait are refused.
    """

    def __init__(self, name: str, *, width: int = 1, most_lost: int = 4) -> None:
        self._name = name
        self._width = width
        self._most_lost = most_lost
        self._jobs: SimpleQueue[_Job[Any]] = SimpleQueue()
        # Of what follows, threads change something too.
        self._lock = threading.Lock()
        self._threads = 0
        self._busy = 0  # jobs that wait or are under way, without those left behind
        self._lost = 0

    async def call(
        self,
        work: Callable[[], _T],
        *,
        limit: float | None = None,
        what: str = "",
        moved: Callable[[], float] | None = None,
    ) -> _T:
        """What `work` returns, called in a thread. Raises what it raises.

        Raises StalledError where that takes longer than `limit` seconds, with the time for calls
        before it; `what` begins its message. Where `moved` tells when the work got on last, on
        time.monotonic's clock, they begin anew then. A call that nobody waits for any more isn't
        begun.
        """
        what = what or self._name
        job = _Job(work, asyncio.get_running_loop())
        if not self._put(job):
            raise StalledError(f"{what}: {self._lost} earlier calls hang, and no more are begun")
        try:
            done, _ = await asyncio.wait({job.outcome}, timeout=limit)
            while not done and limit and moved and (left := moved() + limit - time.monotonic()) > 0:
                done, _ = await asyncio.wait({job.outcome}, timeout=left)
        except asyncio.CancelledError:
            job.outcome.cancel()
            raise
        if not done:
            self._leave_behind(job)
            raise StalledError(f"{what} takes longer than {limit:g} s")
        try:
            return job.outcome.result()
        finally:
            # An error leads to this frame, and would be led back to: it and all that was read when
            # it came up would wait for the collector.
            del job, done

    @asynccontextmanager
    async def entered(
        self, manager: AbstractContextManager[_T], *, limit: float, what: str
    ) -> AsyncIterator[_T]:
        """As `with manager`, whose ends may wait. Raises as `call` does."""
        entered = await self.call(manager.__enter__, limit=limit, what=what)
        try:
            yield entered
        finally:
            await self.call(partial(manager.__exit__, None, None, None))

    def _put(self, job: "_Job[_T]") -> bool:
        with self._lock:
            if self._threads == 0 and self._lost >= self._most_lost:
                return False
            self._busy += 1
            self._jobs.put(job)
            self._start()
            return True

    def _start(self) -> None:
        """One more thread where one is wanted and may be. With the lock."""
        wanted = self._threads < min(self._width, self._busy)
        if not wanted or self._lost >= self._most_lost:
            return
        self._threads += 1
        threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            with self._lock:
                job.is_under_way = not job.outcome.cancelled()
            if job.is_under_way:
                job.run()
            with self._lock:
                if job.is_left_behind:
                    self._lost -= 1
                    return
                job.is_under_way = False
                self._busy -= 1
            del job  # and what came of it, until the next one

    def _leave_behind(self, job: "_Job[_T]") -> None:
        with self._lock:
            job.outcome.cancel()
            if not job.is_under_way:
                return
            job.is_left_behind = True
            self._threads -= 1
            self._lost += 1
            self._busy -= 1
            self._start()


class _Job(Generic[_T]):
    def __init__(self, work: Callable[[], _T], loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        self._loop = loop
        self.outcome: asyncio.Future[_T] = loop.create_future()
        # Both are changed with the lane's lock.
        self.is_under_way = False
        self.is_left_behind = False

    def run(self) -> None:
        """In a thread."""
        try:
            found = self._work()
        except BaseException as error:  # it is for whoever waits, whatever it is
            self._tell(self._fail, error)
            del self  # for the same reason as in `call`
        else:
            self._tell(self._succeed, found)

    def _tell(self, tell: Callable[[Any], None], found: object) -> None:
        # Where the loop is closed nobody waits.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(tell, found)

    def _succeed(self, found: _T) -> None:
        if not self.outcome.done():
            self.outcome.set_result(found)

    def _fail(self, error: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)
