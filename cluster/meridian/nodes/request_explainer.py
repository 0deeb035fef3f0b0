"""The agent's side of `explain request`: one of its gateway workers is asked, and tells (gateway/explaining).

Invariant: at most `ASKED_MAX` questions wait, each for at most `ANSWER_SECONDS`; an answer that nobody waits for is
dropped.
"""

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from meridian.admin.explained import CannotExplain, RequestExplanation, RequestQuestion
from meridian.nodes.crew import Crew
from meridian.nodes.settings import Settings
from meridian_proto.v1.channel_pb2 import Explained, ExplainRequest, Field, Frame

ANSWER_SECONDS = 5.0  # a worker answers in its next turn; longer is one that hangs
ASKED_MAX = 100  # operators at once; more is a program that should ask the gateway itself
PORTS = {"http": 80, "https": 443}
_EXAMPLE = "http://shop.example.com/api/products"


class RequestExplainer:
    """An admin.panel.RequestDesk."""

    def __init__(self, settings: Settings, crew: Callable[[], Crew]) -> None:
        """`crew` gives the node's workers, who are not there yet when this is made."""
        self._settings = settings
        self._crew = crew
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Explained]] = {}

    async def explain(self, question: RequestQuestion) -> RequestExplanation:
        """What a gateway worker of this node would do with a request. Raises CannotExplain."""
        asked = _asked(question)
        slot = next((one.slot for one in self._crew().workers if one.kind == "gateway" and one.connected), None)
        if slot is None:
            raise CannotExplain("no gateway worker of this node is connected to its agent; ask another (--node)")
        if len(self._waiting) >= ASKED_MAX:
            raise CannotExplain(f"{ASKED_MAX} such questions wait already; ask again")
        self._number += 1
        asked.number = self._number
        future = self._waiting[asked.number] = asyncio.get_running_loop().create_future()
        self._crew().send_to("gateway", slot, Frame(explain_request=asked))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                told = await future
        except TimeoutError:
            raise CannotExplain(f"gateway worker {slot} has not answered in {ANSWER_SECONDS:.0f} s") from None
        finally:
            del self._waiting[asked.number]
        if told.refused:
            raise CannotExplain(told.refused)
        return RequestExplanation.of(self._settings.name, self._settings.region, told.explanation)

    def on_explained(self, told: Explained) -> None:
        """A worker's answer."""
        future = self._waiting.get(told.number)
        if future is not None and not future.done():
            future.set_result(told)


def _asked(question: RequestQuestion) -> ExplainRequest:
    """The request that a URL means, as a client would send it. Raises CannotExplain."""
    url = _url(question.url)
    headers = [(field.name.lower().encode("latin-1"), field.value.encode("latin-1")) for field in question.headers]
    host = url.netloc.rpartition("@")[2].lower()
    authority = next((value.decode("latin-1").lower() for name, value in headers if name == b"host"), host)
    try:
        client = str(ip_address(question.client or "127.0.0.1"))
    except ValueError as error:
        raise CannotExplain(f"client {question.client!r}: {error}") from None
    return ExplainRequest(
        method=question.method,
        tls=url.scheme == "https",
        port=url.port or PORTS[url.scheme],
        authority=authority,
        target=(url.path or "/") + (f"?{url.query}" if url.query else ""),
        headers=[Field(name=name, value=value) for name, value in headers if name != b"host"],
        client=client,
    )


def _url(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise CannotExplain(f"{text!r} is no URL: {error}") from None
    if url.scheme not in PORTS or not url.hostname or port == 0:
        raise CannotExplain(f"{text!r} is no URL of a request; such as {_EXAMPLE}")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise CannotExplain(f"{text!r}: a URL has only ASCII; percent-encode the rest")
    return url
