"""What spenders say to each other about one key. All may be lost, doubled, late or out of order without harm.

A borrower has one line to each lender, and uses at most one loan of it at a time: the one it accepted last. `serial`
rises with each ask of a borrower, on whatever line. `kept` says: no serial below it will be used again on this line.
That is true for good, so that it does not matter when it arrives.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ask:
    """Lend me up to `tokens`, in place of what I hold of you. `order` is that of the value that the borrower has."""

    limit: str
    key: str
    borrower: str  # spender's address: node and slot
    incarnation: int  # of the borrower's memory: a successor that forgot is another borrower
    lender: str
    serial: int
    kept: int
    tokens: float
    order: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to one ask. No tokens: refused. `spare` is what the lender could still give."""

    limit: str
    key: str
    borrower: str
    incarnation: int
    lender: str
    serial: int
    tokens: float
    spare: float


@dataclass(frozen=True, slots=True)
class Back:
    """Given back before the end: no serial below `kept` will be used again."""

    limit: str
    key: str
    borrower: str
    incarnation: int
    lender: str
    kept: int


@dataclass(frozen=True, slots=True)
class Consult:
    """May one request of `key` be admitted? To the owner of a key whose limit has too few tokens to be shared.

    `number` is never used twice, so that no answer can admit two requests.
    """

    limit: str
    key: str
    asker: str
    number: int
    owner: str


@dataclass(frozen=True, slots=True)
class Consulted:
    """The owner's answer: it took a token, or says in how many seconds one is there. The admission was its own."""

    limit: str
    key: str
    asker: str
    number: int
    admitted: bool
    level: float
    reset_seconds: float
    wait_seconds: float


Loan = Ask | Grant | Back
Message = Ask | Grant | Back | Consult | Consulted


def addressee(message: Message) -> str:
    """The spender's address (node/slot) that a message goes to."""
    match message:
        case Ask(lender=address) | Back(lender=address) | Grant(borrower=address):
            return address
        case Consult(owner=address) | Consulted(asker=address):
            return address
