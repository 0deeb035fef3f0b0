"""Why a question is answered as it is, for people. PURE.

Invariant: the answer shown is the one that `responder.decide` gives, and every step is told by the function that takes
it (`make_plan` its walk, `order_for` the order, `choose` the choice): nothing here decides. What is worded here alone
is the reason; a test holds the words against what the steps do.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address

from meridian_dns.choosing import leaves, order_for, with_groups
from meridian_dns.message import PAYLOAD_BYTES_MIN, ClientSubnet, Edns, Query
from meridian_dns.names import name_to_text
from meridian_dns.nearness import Client, near_entries
from meridian_dns.policy import Answer, Question, Visit, fill_one, make_plan
from meridian_dns.presentation import rdata_to_text
from meridian_dns.records import AAAA, HTTPS, NOERROR, NXDOMAIN, RCODE_NAMES, A
from meridian_dns.responder import Holdings, decide, locate
from meridian_dns.security_text import type_name
from meridian_dns.steering import LatencyRow, Order, Steer, latency_row
from meridian_dns.view import Member, Network, Region, RegionView
from meridian_dns.zone import SteeredSet, Zone

_KINDS = {
    "geo": "all regions that serve, the nearest to the client first",
    "latency": "all regions that serve, the quickest from the client's region first",
    "failover": "the first region of the list that serves",
    "weighted": "one region that serves, drawn by weight",
    "multivalue": "all nodes that serve, turned by chance",
    "sticky": "one region that serves, the same for this client's network each time",
}
"""What each policy of `steering.POLICIES` answers."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way to an answer. `topic`: zone, name, client, verdict, steering or answer."""

    topic: str
    text: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node (or a region's own address) that could be answered: whether it is, and why."""

    owner: str
    type: str
    region: str
    member: str
    addresses: tuple[str, ...]
    answered: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Line:
    """One record of the answer, as a zone file has it."""

    section: str
    owner: str
    ttl_seconds: int
    type: str
    value: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole story of one answer. `decided` is what `responder.decide` gave."""

    steps: tuple[Step, ...]
    candidates: tuple[Candidate, ...]
    records: tuple[Line, ...]
    decided: Answer


def explain(holdings: Holdings, question: Question, source: str, subnet: Network | None, draw: int) -> Explanation:
    """Tells how `question` of class IN from `source` (a textual address) is answered; `subnet`: that it passed on."""
    held = holdings.zones
    holdings = replace(holdings, zones=held.seen_by(source))
    edns = Edns(PAYLOAD_BYTES_MIN, dnssec_ok=False, subnet=None if subnet is None else ClientSubnet.of(subnet))
    decided = decide(Query(0, 0, NOERROR, question, edns=edns), holdings, source, draw)
    steps: list[Step] = []
    candidates: list[Candidate] = []
    if held.views:
        name = held.view_of(source)
        seen = f"is in view {name}, and sees its zones" if name else "is in no view, and sees the zones for all"
        steps.append(Step("view", f"{source} {seen}"))
    zone = holdings.zones.find_for(question.name, question.type)
    if zone is None:
        steps.append(Step("zone", f"{name_to_text(question.name)} lies in no zone of this server"))
    else:
        steps.append(Step("zone", _about_zone(zone, question)))
        plan = make_plan(zone, question, lambda visit: steps.append(Step("name", _about_visit(visit, question.type))))
        steered = [records for records in plan.answer if isinstance(records, SteeredSet)]
        if steered:
            client = locate(holdings.geo, source, subnet)
            steps.append(Step("client", _about_client(client, holdings)))
            steps.append(Step("verdict", _about_view(holdings.view)))
            for records in steered:
                told, found = _about_steered(records, holdings.view, client, draw)
                steps += told
                candidates += found
    steps.append(Step("answer", _about_answer(decided)))
    return Explanation(tuple(steps), tuple(candidates), tuple(_lines(decided)), decided)


def _about_zone(zone: Zone, question: Question) -> str:
    serial = int.from_bytes(zone.negative_soa.rdatas[0][-20:-16], "big")
    signed = "signed for those who ask for signatures" if zone.signer is not None else "not signed"
    return f"{name_to_text(question.name)} lies in zone {name_to_text(zone.origin)} (serial {serial}, {signed})"


def _about_visit(visit: Visit, type_: int) -> str:
    name, other, word = name_to_text(visit.name), name_to_text(visit.other), type_name(type_)
    return {
        "cut": f"{name} lies at or below {other}, which is delegated: its nameservers are named and answer for it",
        "wildcard": f"{name} does not exist; {other} stands for it",
        "alias": f"{name} is a CNAME, so the search goes on at {other}",
        "loop": f"{name} was passed already: the CNAMEs lead in a circle, and nothing more can be said",
        "leaves": f"{name} lies outside this zone: the resolver asks elsewhere for it",
        "long": f"the chain of CNAMEs is long; the resolver asks again, for {name}",
        "records": f"{name} has records of type {word}",
        "no type": f"{name} exists, but has no records of type {word}",
        "nothing": f"{name} does not exist, nor does a wildcard for it; the nearest name that exists is {other}",
    }[visit.found]


def _about_client(client: Client, holdings: Holdings) -> str:
    who = f"the client is {client.address}"
    if client.subnet is not None:
        who = f"the client is of {client.subnet}, passed on by the resolver (EDNS client subnet)"
    if holdings.geo is None:
        return f"{who}; there is no geo data, so only networks under `near` can place it (scripts/fetch-geo)"
    data = f"geo data ({holdings.geo.about})"
    if client.country is None and client.continent is None:
        return f"{who}; {data} does not know where that is"
    place = " in ".join(filter(None, (client.country, client.continent)))
    return f"{who}; {data} puts its /{client.place_prefix} into {place}"


def _about_view(view: RegionView) -> str:
    if not view.version:
        return "no verdict has come yet: this server knows itself and the document's regions, and takes them to serve"
    if view.fallback:
        return (
            f"verdict {view.version} holds, with {view.fallback} change(s) that this node merged itself upon it while"
            " no leader was heard"
        )
    return f"verdict {view.version} holds, as the leader wrote it"


def _about_steered(
    records: SteeredSet, view: RegionView, client: Client, draw: int
) -> tuple[list[Step], list[Candidate]]:
    steer = records.steer
    order = order_for(steer, view, client)
    rdatas, choices = fill_one(records, view, order, draw)
    word = type_name(records.type)
    head = f"{name_to_text(records.owner)} {word} is steered: {steer.policy}, {_KINDS[steer.policy]}"
    told = [head, *_about_order("its order for this client", steer, order, view, client)]
    if any(choice.failed_open for choice in choices):
        told.append("nothing is known to serve: rather than nothing, all are answered (fail open)")
    draws = max(choice.draws for choice in choices)
    if draws > 1:
        told.append(f"chance has a part: this is one of {draws} draws, each as likely")
    doubted = [name for name in order.regions if view.regions[name].in_doubt]
    if rdatas and doubted and view.doubt_ttl_seconds < records.ttl_seconds:
        told.append(
            f"{' and '.join(doubted)} changed lately or is in doubt: kept for {view.doubt_ttl_seconds} s instead of"
            f" {records.ttl_seconds}"
        )
    untrimmed, _ = _addresses(replace(records, steer=replace(steer, answers_max=None)), view, order, draw)
    answered, failed_open = _addresses(records, view, order, draw)
    verdicts = _Reasons(records, order, answered, untrimmed, failed_open)
    return [Step("steering", text) for text in told], list(verdicts.candidates(view))


def _about_order(title: str, steer: Steer, order: Order, view: RegionView, client: Client) -> Iterator[str]:
    """The order of a steer, then of each group in it."""
    seen = with_groups(steer, view)
    ranked = [f"{name} ({_rank_reason(name, steer, order, seen, client)})" for name in order.names]
    yield f"{title}: " + (", ".join(ranked) or "no region at all")
    within = dict(order.inner)
    for name, inner in steer.groups:
        title = f"{name} is a group: {inner.policy}, {_KINDS[inner.policy]}; within it"
        yield from _about_order(title, inner, within[name], view, client)


def _addresses(records: SteeredSet, view: RegionView, order: Order, draw: int) -> tuple[frozenset[bytes], bool]:
    _, choices = fill_one(records, view, order, draw)
    return frozenset(rdata for choice in choices for rdata in choice.rdatas), any(c.failed_open for c in choices)


def _rank_reason(name: str, steer: Steer, order: Order, view: RegionView, client: Client) -> str:
    """Why a region has its place in the order."""
    region = view.regions[name]
    if steer.policy == "latency":
        return _latency_reason(name, latency_row(steer, view, client))
    if steer.policy == "weighted":
        return f"weight {dict(steer.weights).get(name, 1)}"
    if steer.policy == "sticky":
        return "by the hash of the client's network"
    if steer.policy != "geo":
        return "as given"
    entries = near_entries(region, client)
    if entries:
        return f"near: {entries[0]}"
    before = order.names[: order.names.index(name)]
    upon = next((other for other in before if name in view.regions[other].fallback), None)
    return f"fallback of {upon}" if upon is not None else "as given"


def _latency_reason(name: str, row: LatencyRow) -> str:
    if name in row.given:
        return f"{row.given[name]:g} ms from {row.start}, as given"
    if name in row.measured:
        measured = row.measured[name]
        held = f"so for {_lasting(measured.age_seconds)}"
        return f"{measured.milliseconds:g} ms from {row.start}, measured and {held}"
    return "the client's own" if name == row.start else "not measured"


def _lasting(seconds: float) -> str:
    """A time in its largest unit of which two have passed."""
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


@dataclass(frozen=True, slots=True)
class _Reasons:
    """Words each candidate's fate. `untrimmed`: what would be answered without `answers_max`."""

    records: SteeredSet
    order: Order
    answered: frozenset[bytes]
    untrimmed: frozenset[bytes]
    failed_open: bool

    def candidates(self, view: RegionView) -> Iterator[Candidate]:
        """In the client's order; regions that nobody knows last."""
        for name in self.order.regions:
            for member in view.regions[name].members:
                yield self._candidate(name, member, self._reason(view.regions[name], member))
        for name in leaves(self.records.steer, ()):
            if name not in view.regions:
                yield self._candidate(name, Member("", (), False), "no node and no address of it is known")

    def _candidate(self, region: str, member: Member, reason: str) -> Candidate:
        return Candidate(
            name_to_text(self.records.owner),
            type_name(self.records.type),
            region,
            member.name,
            self._of_family(member),
            any(ip_address(address).packed in self.answered for address in member.addresses),
            reason,
        )

    def _of_family(self, member: Member) -> tuple[str, ...]:
        versions = {A: (4,), AAAA: (6,), HTTPS: (4, 6)}[self.records.type]
        return tuple(address for address in member.addresses if ip_address(address).version in versions)

    def _reason(self, region: Region, member: Member) -> str:
        packed = {ip_address(address).packed for address in self._of_family(member)}
        if not packed:
            return "has no address of this type"
        if not region.serving or not member.serving:
            down = "its region does not serve" if not region.serving else "it does not serve"
            return f"{down}, but neither does any other" if packed & self.answered else down
        if packed & self.answered:
            return "serves, but its region is in doubt: put last" if region.suspect else "serves"
        if packed & self.untrimmed:
            return f"serves, but answers_max is {self.records.steer.answers_max}"
        if region.name in _left(self.order):
            return f"its region keeps {region.share:.0%} of its clients, and this one is not among them"
        return self._not_chosen(region)

    def _not_chosen(self, region: Region) -> str:
        steer = self._steer_of(region.name)
        if steer.policy == "weighted":
            weight = dict(steer.weights).get(region.name, 1)
            return "has weight 0" if not weight else "serves, but this draw fell on another"
        if steer.policy == "multivalue":
            return f"its region keeps {region.share:.0%} of its clients; this draw is not among them"
        return "serves, but another comes first for this client"

    def _steer_of(self, region: str) -> Steer:
        """The innermost steer that names it."""
        steer = self.records.steer
        while inner := next((inner for _, inner in steer.groups if region in leaves(inner, ())), None):
            steer = inner
        return steer


def _left(order: Order) -> frozenset[str]:
    """The regions that this client is not sent to although they serve, those of groups included."""
    return order.left.union(*(_left(within) for _, within in order.inner))


def _about_answer(decided: Answer) -> str:
    count = sum(len(records.rdatas) for records in decided.answer)
    code = RCODE_NAMES.get(decided.rcode, str(decided.rcode))
    if decided.rcode == NXDOMAIN:
        told = f"{code}: there is no such name"
    elif decided.rcode == NOERROR and not count:
        told = f"{code}, referral" if not decided.authoritative else f"{code} without records"
    else:
        told = f"{code}, {count} record{'s' * (count != 1)}" if decided.rcode == NOERROR else code
    if decided.answer:
        told += f", kept for {min(records.ttl_seconds for records in decided.answer)} s"
    elif decided.rcode in (NOERROR, NXDOMAIN) and decided.authority and decided.authoritative:
        told += f", kept for {decided.authority[0].ttl_seconds} s"
    if decided.scope:
        told += f"; it holds for all clients of the same /{decided.scope}"
    if decided.extended_error is not None:
        told += f"; extended error {decided.extended_error}"
    return told


def _lines(decided: Answer) -> Iterator[Line]:
    sections = ("answer", "authority", "additional")
    for section, sets in zip(sections, (decided.answer, decided.authority, decided.additional), strict=True):
        for records in sets:
            word = type_name(records.type)
            for rdata in records.rdatas:
                value = rdata_to_text(records.type, rdata)
                yield Line(section, name_to_text(records.owner), records.ttl_seconds, word, value)
