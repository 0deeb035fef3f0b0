"""Whether a sequence of admissions keeps a bound in every window; shares no line with what it checks."""

from collections.abc import Sequence

from tests.simulation.limits.store import InForce

TOLERANCE = 1e-3  # tokens: floating-point time, and the millionth of a token that each spender may be ahead


def window_violation(times: Sequence[float], history: Sequence[InForce]) -> str | None:
    """What the worst window admitted too much, or None. Times and `history` are in order of true time.

    A window that begins at a and ends at e may admit the burst in force at a, and the integral of the rates in force
    from a to e. With A(t) that integral, admission i begins the worst window for all later ones if i - A(t_i) + burst
    is least: so one pass looks at every window.
    """
    least, least_at = float("inf"), 0.0
    worst, said = TOLERANCE, None
    accrued, since, index = 0.0, history[0].since, 0
    for count, time in enumerate(times):
        while index + 1 < len(history) and history[index + 1].since <= time:
            accrued += (history[index + 1].since - since) * history[index].rule.rate_per_second
            if count - accrued + history[index].rule.burst < least:  # a window that begins just before the change
                least, least_at = count - accrued + history[index].rule.burst, history[index + 1].since
            index += 1
            since = history[index].since
        rule = history[index].rule
        total = accrued + (time - since) * rule.rate_per_second
        if count - total + rule.burst < least:
            least, least_at = count - total + rule.burst, time
        over = count + 1 - total - least
        if over > worst:
            worst = over
            said = f"{over:.3f} too many from {least_at:.3f} to {time:.3f} s"
    return said
