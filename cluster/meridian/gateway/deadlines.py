"""What may not last longer, however much comes: the limits of all tries together, and of the exchange.

They have timers of their own, unlike silence, which the sweep sees. A route without such limits has none.
"""

from meridian.gateway import answers
from meridian.gateway.answers import Failure
from meridian.gateway.tries import FOREVER, Tries


class Deadlines(Tries):
    """The part of an exchange that ends it in time, see core.retrying.Timeouts."""

    __slots__ = ()

    def _bound(self) -> None:
        """Once there is a route with such limits."""
        if self._timeouts.stream < FOREVER:
            self._limit_to(self._timeouts.stream, answers.STREAM_TIMEOUT, "stream")
        if self._request_ended:
            self._bound_answer()

    def _bound_answer(self) -> None:
        """Once the request has come whole."""
        if self._timeouts.total < FOREVER:
            self._limit_to(self._timeouts.total, answers.TOTAL_TIMEOUT, "total")

    def _limit_to(self, seconds: float, failure: Failure, what: str) -> None:
        timer = self.worker.loop.call_later(seconds, self._out_of_time, failure, what)
        self._limits = (*self._limits, timer)

    def _out_of_time(self, failure: Failure, what: str) -> None:
        live = self._upstream
        live.health.too_late(live, what)
        client_is_slow = not self.stream.writable
        if self._leave_upstream(reuse=False):
            # An endpoint had all that time, unless others had some of it: those that hang must be seen.
            at_fault = what == "total" and self._tries == 1 and not client_is_slow
            self._try_over(False if at_fault else None, failure.why)
        if self._response_status:
            self._cut(f"the {what} time is over", f"_{what}")
        else:
            self._answer(failure)
