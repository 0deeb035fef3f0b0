"""Exchanges that leave HTTP: the handshake of WebSocket, over HTTP/1.1 (RFC 6455) and as extended CONNECT over HTTP/2
and HTTP/3 (RFC 8441, RFC 9220), to an upstream of either kind; afterwards bytes, both ways.

Invariants:
- Nothing that a client says in the new protocol reaches an upstream that has not agreed to it: it would read it as
  further requests.
- What ends such an exchange here, the client hears as a close frame with 1001, if a frame may stand there.
"""

from meridian.gateway import answers
from meridian.gateway.body import RequestBody
from meridian.gateway.stages import Stages
from meridian.gateway.upstream import UpstreamStream
from meridian.wire.events import Headers, ResponseHead
from meridian.wire.websocket import GOING_AWAY, Frames, accept_of, close_frame, is_key, key_of

_KEY, _ACCEPT = b"sec-websocket-key", b"sec-websocket-accept"


class Upgrades(Stages):
    """The part of an exchange that deals with other protocols; gateway/exchange sets all of this when it begins."""

    __slots__ = ("_frames", "_key")

    _frames: Frames | None  # what the upstream says, once it has agreed
    _key: bytes  # that the upstream has to answer

    _response_status: int

    # What the last part does

    def _on_response_head(self, head: ResponseHead) -> None:
        raise NotImplementedError

    def _credit(self, connection: UpstreamStream, body: RequestBody) -> None:
        raise NotImplementedError

    def _end(self, status: int, why: str, now: float = 0.0) -> None:
        raise NotImplementedError

    # The handshake

    def _may_upgrade(self) -> bool:
        """Whether the route takes it, and the request is one. False: answered."""
        if self._live.route.websocket_idle_seconds is None:
            self._answer(answers.UPGRADE_REFUSED)
            return False
        keys = _keys_in(self.head.headers)
        if self.head.version == b"1.1" and not (len(keys) == 1 and is_key(keys[0])):
            self._answer(answers.BAD_FIELD)
            return False
        return True

    def _ask_to_upgrade(self, fields: Headers) -> Headers:
        """The fields of a request that asks for it. HTTP/1.1 has a key, which proves that the answer is one to this;
        the others have none. Each side's is its own affair."""
        mine = [field for field in fields if field[0] != _KEY]
        if self._upstream.upstream.protocol == "h1":
            given = _keys_in(fields) if self.head.version == b"1.1" else []
            self._key = given[0] if given else key_of(self.worker.draw_bytes(16))
            mine.append((_KEY, self._key))
        return mine

    @property
    def _is_upgrading(self) -> bool:
        """Whether what the client says has to wait until the upstream agrees."""
        return bool(self.head.protocol) and self._frames is None

    def _upgrade(self, head: ResponseHead) -> bool:
        """The upstream agrees, so we do. False: it has agreed to something else, and the client was told so."""
        said = [value for name, value in head.headers if name == _ACCEPT]
        if self._key and said != [accept_of(self._key)]:
            self._leave_upstream(reuse=False)
            self._try_over(False, answers.UPSTREAM_MALFORMED.why)
            self._answer(answers.UPSTREAM_MALFORMED)
            return False
        self._on_response_head(head)
        headers = [field for field in head.headers if field[0] not in (_ACCEPT, b"content-length")]
        if self.head.version == b"1.1":
            headers.append((_ACCEPT, accept_of(_keys_in(self.head.headers)[0])))
        connection, body, idle_seconds = self._connection, self._body, self._live.route.websocket_idle_seconds
        assert connection is not None and body is not None and idle_seconds is not None
        self._frames = Frames()
        self._silence_seconds = idle_seconds
        early, body.kept = body.kept or (), None  # to this endpoint, and to no other
        self.stream.upgrade(headers)
        for piece in early:
            connection.send_data(piece, end=False)
        self._credit(connection, body)
        if self._request_ended:
            connection.send_data(b"", end=True)
        return True

    def expire(self, now: float) -> None:
        """See Tries."""
        if self._frames is None:
            super().expire(now)
        else:
            self.go_away("websocket_idle")

    def go_away(self, by: str) -> None:
        """Ends what is under way because the gateway ends, or because nobody has said anything for too long."""
        frames, stream = self._frames, self.stream
        if frames is None:
            if self._source is not None:
                self._source.go_away(by)
            return
        self._leave_upstream(reuse=False)
        self._try_over(None, by)
        if frames.between:
            stream.send_data(close_frame(GOING_AWAY), end=True)
        else:
            stream.reset("the gateway goes away")
        self._end(self._response_status, by)
        stream.flush()


def _keys_in(headers: Headers) -> list[bytes]:
    return [value for name, value in headers if name == _KEY]
