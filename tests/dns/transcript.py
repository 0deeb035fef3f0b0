"""Plays text transcripts of policy questions; see cases/policy.txt for the notation."""

from ipaddress import ip_address, ip_network

from tests.dns.world import ORIGIN, make_view

from meridian_dns.names import name_from_text, name_to_text
from meridian_dns.policy import Answer, Client, Question, answer
from meridian_dns.presentation import rdata_to_text
from meridian_dns.records import TYPES, RRset
from meridian_dns.view import RegionView
from meridian_dns.zone import Zone

RCODES = {0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN"}
TYPE_NUMBERS = TYPES | {"ANY": 255, "DS": 43}
TYPE_NAMES = {number: name for name, number in TYPES.items()}


def play(text: str, zone: Zone) -> str:
    """Returns the transcript with each `<<` line as the policy has it now."""
    view, out = make_view(), []
    for line in text.splitlines():
        if line.startswith("<<"):
            continue
        out.append(line)
        if line.startswith("world:"):
            view = make_view(line.removeprefix("world:").replace("all well", ""))
        elif line.startswith(">>"):
            out += [f"<< {shown}" for shown in _ask(line.removeprefix(">>").split(), zone, view)]
    return "\n".join(out) + "\n"


def _ask(words: list[str], zone: Zone, view: RegionView) -> list[str]:
    name, type_, *rest = words
    options = dict(word.split("=", 1) for word in rest)
    country, _, continent = options.get("place", "").partition("/")
    client = Client(
        options.get("from", "192.0.2.250"),
        ip_network(options["subnet"]) if "subnet" in options else None,
        country or None,
        continent or None,
        int(options.get("known", "20")) if country else 0,
    )
    owner = name_from_text(ORIGIN if name == "@" else name if name.endswith(".") else f"{name}.{ORIGIN}")
    got = answer(zone, view, Question(owner, TYPE_NUMBERS[type_]), client, int(options.get("draw", "0")))
    return _show(got)


def _show(got: Answer) -> list[str]:
    head = f"{RCODES[got.rcode]}{' aa' if got.authoritative else ''}"
    head += f" scope={got.scope}" if got.scope else ""
    head += f" draws={got.draws}" if got.draws > 1 else ""
    head += f" error={got.extended_error.code}" if got.extended_error is not None else ""
    lines = [head]
    for mark, section in (("", got.answer), ("authority ", got.authority), ("additional ", got.additional)):
        lines += [mark + _show_set(records) for records in section]
    return lines


def _show_set(records: RRset) -> str:
    owner, type_ = name_to_text(records.owner), TYPE_NAMES[records.type]
    origin = f".{ORIGIN}."
    owner = owner.removesuffix(origin) if owner != origin[1:] else "@"
    if type_ in ("A", "AAAA"):
        values = [str(ip_address(rdata)) for rdata in records.rdatas]
    elif type_ in ("NS", "CNAME"):
        values = [name_to_text(rdata) for rdata in records.rdatas]
    elif type_ in ("SOA", "TXT"):
        values = ["..."] * len(records.rdatas)
    else:
        values = [rdata_to_text(records.type, rdata) for rdata in records.rdatas]
    return f"{owner} {records.ttl_seconds} {type_} {' '.join(values)}"
