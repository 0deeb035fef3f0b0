"""What the evidence of one judgement says of each node, whoever is asked: the questions that core/verdicts puts to it.

Nothing is decided here. Who was withdrawn is no observer, who is cut off abstains, and what nobody told is not known.
"""

from collections import Counter
from collections.abc import Iterable

from meridian.core.health import Sight
from meridian.core.standings import (
    REPORT_PERIOD_SECONDS,
    SILENT_SECONDS,
    STALE_SECONDS,
    Evidence,
    Report,
    Standing,
    Verdict,
)

VOTES_MIN = 2  # for a region: one observer is never enough without a witness outside both
BACK_SECONDS = 2 * REPORT_PERIOD_SECONDS


class Hearing:
    """The evidence at `now` (monotonic seconds) upon a verdict, as `judge` has it.

    `eligible` are those whose reports are fresh and who are not withdrawn, `voters` those of them who do not abstain.
    """

    def __init__(self, previous: Verdict, evidence: Evidence, now: float, judge: str) -> None:
        self.previous = previous
        self.evidence = evidence
        self.now = now
        self.judge = judge
        fresh = [(name, h) for name, h in sorted(evidence.heard.items()) if now - h.made <= STALE_SECONDS]
        self.eligible = [heard for name, heard in fresh if not self._was(name, Standing.WITHDRAWN)]
        self.observers = [heard.report for heard in self.eligible]
        self.witnesses = [report.observer for report in self.observers if report.witness]
        self.voters = [r for r in self.observers if not self._abstains(r) and not self._just_back(r.observer)]
        self.downs = _downs(self.observers)
        self.accusers = _downs(report for report in self.voters if report.observer != judge)
        self.in_the_dark = frozenset[str]().union(*(report.dark for report in self.voters))
        self.claimed = frozenset[str]().union(*(r.withdrawn - {r.observer} for r in self.observers))
        self.standing = {n for n, node in previous.nodes.items() if node.standing is not Standing.WITHDRAWN}

    def _names(self) -> list[str]:
        witnesses = {member.name for member in self.evidence.members.values() if member.witness}
        return sorted({*self.previous.nodes, *self.evidence.members} - witnesses)

    def _region(self, name: str) -> str:
        member = self.evidence.members.get(name)
        return member.region if member else self.previous.nodes[name].region

    def _was(self, name: str, standing: Standing) -> bool:
        before = self.previous.nodes.get(name)
        return before is not None and before.standing is standing

    def _back(self, name: str) -> bool:
        """Whether it speaks for itself, and the others see it."""
        return self._speaks(name) and self._welcome(name)

    def _speaks(self, name: str) -> bool:
        """Whether the node's own signal says that it serves."""
        heard = self.evidence.heard.get(name)
        if heard is None or not heard.report.serving:
            return False
        sign = heard.made if self._hears(name) else self._last_sign(name)
        return sign is not None and self.now - sign <= SILENT_SECONDS

    def _welcome(self, name: str) -> bool:
        """Whether more of the others see it up than down, or there are no others."""
        alone = all(report.observer == name for report in self.observers)
        ups = sum(r.sights.get(name) is Sight.UP for r in self.observers if r.observer != name)
        return alone or ups > self.downs[name]

    def _silent(self, name: str) -> bool:
        """Whether its signal stopped, or says that it does not serve. Neither speaking nor silent: not heard yet.

        A judge that has not listened for long himself goes by what others say of how long they have heard nothing.
        """
        heard = self.evidence.heard.get(name)
        if heard is not None and not heard.report.serving:
            return True
        if self._hears(name):
            return False
        since, sign = self.evidence.since, self._last_sign(name)
        sign = since if sign is None else sign
        return self.now - (sign if self._heard_by_another(name) else max(sign, since)) > SILENT_SECONDS

    def _hears(self, name: str) -> bool:
        """Whether its own report is young enough, so that nobody else need be asked."""
        heard = self.evidence.heard.get(name)
        return heard is not None and self.now - heard.made <= SILENT_SECONDS

    def _last_sign(self, name: str) -> float | None:
        """When it last gave a sign of life to anyone: to the judge, or to an eligible observer."""
        own = self.evidence.heard.get(name)
        return max([*([own.made] if own is not None else ()), *self._signs_told(name)], default=None)

    def _signs_told(self, name: str) -> list[float]:
        """When eligible observers say that they heard it last."""
        return [
            heard.made - age_seconds
            for heard in self.eligible
            if heard.report.observer != name and (age_seconds := heard.report.heard.get(name)) is not None
        ]

    def _heard_by_another(self, name: str) -> bool:
        return any(name in r.heard for r in self.observers if r.observer not in (name, self.judge))

    def _dark(self, name: str) -> bool:
        """Whether everyone eligible who looks at it has not reached it for DARK_SECONDS; one voice is never enough."""
        if name not in self.in_the_dark:
            return False
        looking = [
            report
            for report in self.voters
            if report.observer != name and report.sights.get(name, Sight.UNKNOWN) is not Sight.UNKNOWN
        ]
        return len(looking) >= VOTES_MIN and all(name in report.dark for report in looking)

    def _says_draining(self, name: str) -> bool:
        """What it said last, as long as that is fresh; after that it drains as long as the verdict says so."""
        heard = self.evidence.heard.get(name)
        if heard is None or self.now - heard.made > STALE_SECONDS:
            return self._was(name, Standing.DRAINING)
        return heard.report.draining

    def _abstains(self, report: Report) -> bool:
        """Whether an observer of several nodes holds every one of them down: then it is he who is cut off, unless he
        hears a witness.
        """
        others = (name for name in self.witnesses if name != report.observer)
        return report.lost and not any(report.heard.get(name, STALE_SECONDS) <= SILENT_SECONDS for name in others)

    def _just_back(self, name: str) -> bool:
        """Whether it was withdrawn until a moment ago: only a withdrawal leaves a penalty."""
        node = self.previous.nodes.get(name)
        back = node is not None and node.standing is Standing.SERVING and node.penalty > 0.0
        return back and node is not None and self.now - node.changed < BACK_SECONDS

    def _judge_is_the_only_other(self, name: str) -> bool:
        return self.standing <= {name, self.judge}

    def _judge_sees_down(self, name: str) -> bool:
        return any(r.observer == self.judge and r.sights.get(name) is Sight.DOWN for r in self.voters)


def _downs(reports: Iterable[Report]) -> Counter[str]:
    """Returns, by node, how many others see it down."""
    return Counter(name for report in reports for name in report.down if name != report.observer)
