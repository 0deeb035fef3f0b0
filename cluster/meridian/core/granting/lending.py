"""Whom a spender that is short asks, for how much, and how much a lender gives. Nothing here can break the bound.

Everyone keeps what its own demand needs and lends the rest; a borrower asks for what its demand needs and has not.
So while all together want at least the limit, every token of the rate is with somebody who wants it. Loans are renewed
at half their time, for more or for less than before, so that none ends while it is wanted.
"""

from collections.abc import Sequence
from zlib import crc32

from meridian.core.granting.account import Account, Line

POLL_SECONDS = 0.1  # how often a key that is short looks for tokens
LENDER_POLL_SECONDS = 0.3  # and one that is not: so long may it refuse before it asks
SHORT_SECONDS = 1.0  # after a refusal a key still counts as short
ANSWER_SECONDS = 0.3  # an ask without an answer after so long is taken for lost
REFUSED_SECONDS = 0.4  # before asking again one who had nothing to spare; doubled each time
REFUSED_SECONDS_MAX = 3.0  # so long may a token lie idle with one who refused before
SILENT_SECONDS_MAX = 5.0  # between asks to one who does not answer
ASKED_AT_ONCE_MAX = 6  # lenders per poll: more would lend one demand several times over
LOAN_TOKENS_MIN = 0.2  # less is not worth two messages
KNOWN_SECONDS = 0.25  # of watching a key, before its demand is known
IDLE_SECONDS = 5.0  # without a request, an ask or a loan, and a key needs no account
HEADROOM = 1.15  # asked for above the mean demand, which comes in bursts. Lenders keep none: who is short asks
ESTIMATE_SECONDS = 1.5  # over which demand is averaged, at least
ESTIMATE_SECONDS_MAX = 30.0


def estimate(account: Account, now: float) -> None:
    """Brings the demand up to date: a plain mean at first, then one that forgets. Needs no call for any one request."""
    elapsed = now - account.estimated_at
    if elapsed < POLL_SECONDS / 2:
        return
    window = min(max(ESTIMATE_SECONDS, account.fill / 10), ESTIMATE_SECONDS_MAX)
    weight = min(1.0, elapsed / min(max(now - account.opened_at, elapsed), window))
    account.demand += (account.arrivals / elapsed - account.demand) * weight
    account.arrivals = 0
    account.estimated_at = now


def known(account: Account, now: float) -> bool:
    """Whether the demand has been watched for long enough to be believed."""
    return now - account.opened_at >= KNOWN_SECONDS


def spare(account: Account, lendable: float, lent: float, now: float) -> float:
    """How many tokens an account can do without: of `lendable` (its own, as far as they stay) with `lent` taken off."""
    if known(account, now):
        keep = max(1.0, account.demand * account.fill)
    elif account.level >= account.cap - 1.0:
        keep = max(1.0, account.own / 2)  # it was not used much
    else:
        keep = account.own
    return max(0.0, lendable - lent - max(0.0, keep - account.held))


def wanted(account: Account, burst: int, now: float) -> float:
    """How many tokens the account's demand needs in all."""
    if known(account, now):
        return min(float(burst), account.demand * account.fill * HEADROOM)
    return min(float(burst), max(2 * account.cap, account.cap + 1.0))


def poll_seconds(account: Account, now: float) -> float:
    """When to look at an account again: soon if it borrows or would."""
    return POLL_SECONDS if account.held > 0 or now - account.short_at < SHORT_SECONDS else LENDER_POLL_SECONDS


def patience_seconds(line: Line) -> float:
    """How long to wait for an answer before asking again; longer the longer there was none."""
    return float(min(ANSWER_SECONDS * 2 ** min(line.silent, 8), SILENT_SECONDS_MAX))


def pause_seconds(line: Line) -> float:
    """How long after an answer not to ask its sender again, unless to renew."""
    if line.refused:
        return float(min(REFUSED_SECONDS * 2 ** min(line.refused - 1, 8), REFUSED_SECONDS_MAX))
    return REFUSED_SECONDS if line.spare < LOAN_TOKENS_MIN else 0.0


def asks(
    account: Account, key: str, me: str, peers: Sequence[str], want: float, loan_seconds: float, now: float
) -> list[tuple[str, float]]:
    """Whom to ask now, and for how many tokens in all (0.0: give back what is held).

    Every line's answer replaces its loan, so that a renewal asks for the old loan and a part of what is missing.
    """
    missing = want - account.cap
    plan: list[tuple[str, float]] = []
    renewals = [
        (name, line)
        for name, line in account.lines.items()
        if line.tokens > 0 and now >= line.until - loan_seconds / 2 and _ready(line, now)
    ]
    for name, line in sorted(renewals, key=lambda renewal: renewal[1].tokens):
        if missing < 0:  # more than needed: the smallest loans go first
            less = min(line.tokens, -missing)
            missing += less
            rest = line.tokens - less
            plan.append((name, rest if rest >= LOAN_TOKENS_MIN else 0.0))
        else:
            plan.append((name, line.tokens + max(0.0, missing)))
    if missing < LOAN_TOKENS_MIN or now - account.short_at >= SHORT_SECONDS:
        return plan
    renewed = {name for name, _ in plan}
    candidates = [name for name in peers if name not in renewed and _ready(account.lines.get(name), now)]
    candidates.sort(key=lambda name: (-_spare(account, name), crc32((key + me + name).encode())))
    for name in candidates[:ASKED_AT_ONCE_MAX]:
        plan.append((name, missing + (account.lines[name].tokens if name in account.lines else 0.0)))
        missing -= min(missing, _spare(account, name), want / 4)
        if missing < LOAN_TOKENS_MIN:
            break
    return plan


def _spare(account: Account, name: str) -> float:
    line = account.lines.get(name)
    return line.spare if line is not None else float("inf")


def _ready(line: Line | None, now: float) -> bool:
    return line is None or now >= line.ask_after
