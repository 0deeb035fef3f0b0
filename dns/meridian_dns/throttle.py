"""Response rate limiting: a token bucket for each client network. PURE: the clock is an argument.

A spoofed flood from one network is answered at `rate_per_second`; of the rest every `slip`-th reply is sent truncated,
so that a real client behind the same network comes back over TCP, and the others are not sent at all.

Invariant: in any window of W seconds one network gets at most rate * W + burst full answers while its bucket is kept.
The table is bounded; the network seen longest ago leaves first and starts with a full bucket again, so a flood of many
networks makes the limit softer and never refuses a new client.
"""

from enum import Enum
from ipaddress import IPv6Address, ip_address

NETWORKS_MAX = 50_000  # about 150 bytes each


class Judgement(Enum):
    """What to do with one response."""

    SEND = "send"
    SLIP = "slip"
    DROP = "drop"


class Throttle:
    """Buckets by client network (/24 and /56, as resolvers are delegated)."""

    def __init__(
        self, rate_per_second: float, burst: float, *, slip: int = 2, networks_max: int = NETWORKS_MAX
    ) -> None:
        """`slip` 0 drops all that is over the limit."""
        assert rate_per_second > 0 and burst >= 1 and slip >= 0 and networks_max >= 1
        self._rate, self._burst, self._slip, self._networks_max = rate_per_second, burst, slip, networks_max
        self._buckets: dict[bytes, tuple[float, float, int]] = {}

    def judge(self, source: str, now: float) -> Judgement:
        """Takes one token for `source` (a textual address) at `now` (monotonic seconds)."""
        network = network_of(source)
        tokens, then, refused = self._buckets.pop(network, (self._burst, now, 0))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        judgement = Judgement.SEND
        if tokens >= 1:
            tokens, refused = tokens - 1, 0
        else:
            refused += 1
            judgement = Judgement.SLIP if self._slip and refused % self._slip == 0 else Judgement.DROP
        if len(self._buckets) >= self._networks_max:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[network] = (tokens, now, refused)
        return judgement

    def __len__(self) -> int:
        return len(self._buckets)


def network_of(source: str) -> bytes:
    """The client network of a textual address, by which clients share limits: /24 of IPv4, /56 of IPv6."""
    address = ip_address(source)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # a dual-stack socket saw an IPv4 client: else all of them were one network
    packed = address.packed
    return packed[:3] if len(packed) == 4 else packed[:7]
