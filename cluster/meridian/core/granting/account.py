"""What one spender may spend for one key that is lent, borrowed or short of tokens: its level and its cap.

Invariant: the caps of all spenders of a key and the loans on their way sum to at most the burst. What keeps it, for
loans: the lender withholds first and answers then; it withholds for longer, by the slowest clock, than the borrower
spends by the fastest, counting from its asking; of the loans granted to one borrower only one is ever in use, so that
the greatest of them is withheld. And the level never rises by a loan, given or taken: it only accrues, and is clamped
to the cap.
"""

from dataclasses import dataclass, field

from meridian.core.granting.messages import Ask, Grant

ONE = 1 - 1e-6  # a token, less what floating-point time may have lost of it
NEVER = float("inf")

Borrower = tuple[str, int]  # address and incarnation


@dataclass(slots=True)
class Granted:
    """A loan given: withheld until `until` unless the borrower says earlier that it will not use it."""

    serial: int
    tokens: float
    until: float


@dataclass(slots=True)
class Line:
    """From a borrower to one lender: the loan in use (`tokens` until `until`), and the last ask."""

    tokens: float = 0.0
    until: float = 0.0
    serial: int = 0  # of the loan in use
    asked_serial: int = 0
    asked_at: float = -NEVER
    waiting: bool = False  # for the answer to the last ask
    order: tuple[int, int] = (0, 0)  # of the value that it was asked under
    silent: int = 0  # asks in a row without an answer
    refused: int = 0  # times in a row
    spare: float = NEVER  # what the lender said that it had left
    ask_after: float = -NEVER

    def asked(self, serial: int, order: tuple[int, int], now: float) -> None:
        """One more ask; the answer to the one before is not accepted any more."""
        self.asked_serial, self.asked_at, self.order = serial, now, order
        self.waiting = True
        self.silent += 1


@dataclass(slots=True)
class Account:
    """The tokens of one key. `own` is what its slices give, `home` the part that no lease can take away."""

    class_: int  # of the key
    own: float
    home: float
    fill: float  # seconds that an empty bucket takes to fill, whatever its size
    level: float
    at: float  # the level is of this moment
    opened_at: float
    epoch: int
    cap: float = 0.0
    changes_at: float = NEVER  # a loan ends
    lent: dict[Borrower, list[Granted]] = field(default_factory=dict)
    lines: dict[str, Line] = field(default_factory=dict)
    arrivals: int = 0  # since the demand was estimated
    estimated_at: float = 0.0
    demand: float = 0.0  # per second
    short_at: float = -NEVER  # when a request was last refused here
    used_at: float = 0.0  # when a request or an ask last came

    def admit(self, now: float) -> float:
        """Takes one token: returns 0.0, or the seconds until one is there if nothing changes."""
        self.settle(now)
        self.arrivals += 1
        self.used_at = now
        if self.level >= ONE:
            self.level -= 1.0
            return 0.0
        self.short_at = now
        return (1.0 - self.level) * self.fill / self.cap if self.cap >= ONE else NEVER

    def settle(self, now: float) -> None:
        """Brings the level to `now`, each loan ending at its own time on the way."""
        while self.changes_at <= now:
            ended = self.changes_at
            self._accrue(ended)
            for borrower in list(self.lent):
                self._keep(borrower, [one for one in self.lent[borrower] if one.until > ended])
            for line in self.lines.values():
                if line.until <= ended:
                    line.tokens = 0.0
            self.resize()
        self._accrue(now)

    def become(self, own: float, home: float, fill: float, at: float) -> None:
        """From `at` on the slices give this; a greater share brings no tokens with it."""
        self.settle(at)
        self.own, self.home, self.fill = own, home, fill
        self.resize()

    def resize(self) -> None:
        """Reckons the cap anew after a loan began or ended, and clamps the level to it."""
        self.cap = max(0.0, self.own - self.withheld) + self.held
        self.level = min(self.level, self.cap)
        ends = [one.until for granted in self.lent.values() for one in granted]
        ends += [line.until for line in self.lines.values() if line.tokens > 0]
        self.changes_at = min(ends, default=NEVER)

    @property
    def withheld(self) -> float:
        """What this spender must not spend, because somebody else may."""
        return sum(max(one.tokens for one in granted) for granted in self.lent.values())

    @property
    def held(self) -> float:
        """What others lent to this spender."""
        return sum(line.tokens for line in self.lines.values())

    def withheld_for(self, borrower: Borrower) -> float:
        return max((one.tokens for one in self.lent.get(borrower, ())), default=0.0)

    def lend(self, ask: Ask, amount: float, until: float) -> None:
        """Withholds a loan from its own share, before anybody is told. The account is settled."""
        granted = self.lent.setdefault((ask.borrower, ask.incarnation), [])
        granted.append(Granted(ask.serial, amount, until))
        self.resize()

    def forget_below(self, borrower: Borrower, kept: int) -> None:
        """The borrower will use no serial below `kept` again. The account is settled."""
        if borrower in self.lent:
            self._keep(borrower, [one for one in self.lent[borrower] if one.serial >= kept])
            self.resize()

    def accept(self, line: Line, grant: Grant, until: float) -> None:
        """Takes a loan in place of the one in use. The account is settled."""
        line.tokens, line.until, line.serial = grant.tokens, until, grant.serial
        self.resize()

    def drop(self, line: Line) -> None:
        """Stops using the loan of this line. The account is settled."""
        line.tokens = 0.0
        self.resize()

    def _keep(self, borrower: Borrower, granted: list[Granted]) -> None:
        if granted:
            self.lent[borrower] = granted
        else:
            self.lent.pop(borrower, None)

    def _accrue(self, to: float) -> None:
        if to > self.at:
            self.level = min(self.cap, self.level + (to - self.at) * self.cap / self.fill)
            self.at = to
