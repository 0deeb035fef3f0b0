"""A rollover from the machine to the answers: at every step, with whatever a resolver may still hold, dnspython
believes what the server says."""

import dns.dnssec
import dns.message
import dns.rdata
import dns.rrset
import pytest
from tests.dns.signed_world import NOW, Clock, Validator
from tests.dns.world import make_view

from meridian.control.zone_keys import Keyring
from meridian.core import dns_words, keyrolls
from meridian.core.keyrolls import Exit, Gone, Phase, Role, Roll, Seen, Wanted, Woken
from meridian.nodes.dns_state import build_zones, zone_ttls
from meridian.nodes.zone_keys import keys_status, wishes_of, zone_id, zone_keys_frame
from meridian.nodes.zone_signing import key_sets_from, sign_zones
from meridian_dns.observing import TCP
from meridian_dns.server import DnsServer
from meridian_dns.signing import Denial, Signatures, generate_der
from meridian_dns.zone import ZoneSet

ZONE = dns_words.Zone(
    name="GW.example.com",
    nameservers=("ns1.example.net",),
    dnssec=dns_words.Dnssec(algorithm=15, denial="white_lies"),
    records=(dns_words.Record(name="shop", type="A", value="192.0.2.1", ttl_seconds=7200),),
)
ASKED = (("shop.gw.example.com.", "A"), ("missing.gw.example.com.", "A"), ("gw.example.com.", "DNSKEY"))


class Story:
    """A zone, its keys, a server that signs, and all that it ever said with how long it may be remembered."""

    def __init__(self, split: bool) -> None:
        signed = ZONE.model_copy(update={"dnssec": dns_words.Dnssec(algorithm=15, split_keys=split)})
        wish = wishes_of([signed], zone_ttls(build_zones([signed], 1, {})))
        found = wish["gw.example.com."]
        assert found is not None and found.split is split and found.times.zone_seconds == 7200
        roles = (Role.KSK, Role.ZSK) if split else (Role.CSK,)
        self.private = {role.value: generate_der(15) for role in roles}
        self.clock = Clock()
        self.state = keyrolls.begin({role: role.value for role in roles}, found.times, NOW)
        self.signatures = Signatures(self.clock)
        self.plain = build_zones([ZONE], 1, {})
        self.server = DnsServer(self.plain, make_view(), None, draw=lambda: 0)
        self.key_sets: list[tuple[float, dns.rrset.RRset, dns.rrset.RRset]] = []
        self.answers: list[tuple[float, bytes, str, str]] = []
        self.trusted: list[tuple[float, str]] = []  # until when, and the DS

    @property
    def ring(self) -> Keyring:
        return Keyring("gw.example.com.", 15, self.state, self.private)

    def feed(self, event: keyrolls.Event) -> None:
        stepped = keyrolls.step(self.state, event, self.clock.now)
        self.state = stepped.state
        for command in stepped.commands:
            del self.private[command.key]

    def serve(self) -> None:
        """Hands the keys over as an agent does, asks, and checks every mix of what is remembered."""
        frame = zone_keys_frame([self.ring] if self.state.tracks else [])
        zones = sign_zones(self.server.holdings.zones, [ZONE], key_sets_from(frame.zone_keys), self.signatures)
        self.server.swap(zones=zones)
        now = self.clock.now
        for name, type_ in ASKED:
            reply = self.server.respond(
                dns.message.make_query(name, type_, want_dnssec=True, payload=4096).to_wire(), "192.0.2.9", TCP
            )
            assert reply is not None
            self.answers.append((now + 7200, reply, name, type_))
            if type_ == "DNSKEY":
                keys, signature = dns.message.from_wire(reply).answer
                self.key_sets.append((now + keys.ttl, keys, signature))
        self.answers = [entry for entry in self.answers if entry[0] >= now]
        self.key_sets = [entry for entry in self.key_sets if entry[0] >= now]
        for until, ds in self.trusted:
            if until >= now:
                self.check(ds)

    def check(self, ds: str) -> None:
        origin = dns.name.from_text("gw.example.com.")
        for _, keys, signature in self.key_sets:
            entry = [key for key in keys if dns.dnssec.make_ds(origin, key, "SHA256").to_text() == ds]
            assert entry, "no key of the set is trusted"
            anchor = dns.rrset.from_rdata_list(origin, keys.ttl, entry)
            dns.dnssec.validate(keys, signature, {origin: anchor}, now=self.clock.now)
            zone = self.server.holdings.zones.find(b"\2gw\7example\3com\0")
            assert zone is not None
            validator = Validator(zone, self.clock.now)
            validator.trusted = keys
            for _, reply, name, type_ in self.answers:
                if type_ != "DNSKEY":
                    validator.check(reply, name, type_)

    def parent_takes_over(self) -> None:
        """The parent publishes exactly what `meridian dns ds` prints; the DS before is remembered for its TTL."""
        offered = [key.ds.split(" DS ")[1] for key in keys_status(self.ring).keys if key.offered]
        assert len(offered) == 1
        self.trusted = [(min(until, self.clock.now + 172_800), ds) for until, ds in self.trusted]
        self.trusted.append((float("inf"), offered[0]))
        self.feed(Seen())
        self.serve()

    def wait(self, until: Phase) -> None:
        """Goes from deadline to deadline, with a look just before and after each, until the first track is there."""
        while self.state.tracks[0].phase is not until:
            deadline = keyrolls.deadline(self.state)
            assert deadline is not None
            for moment in (deadline - 1, deadline):
                self.clock.now = moment
                if moment == deadline:
                    self.feed(Woken())
                self.serve()


def test_a_key_of_all_purposes_is_rolled_and_the_zone_leaves() -> None:
    story = Story(split=False)
    story.serve()
    assert "wait until" in keys_status(story.ring).next_step
    story.wait(Phase.AWAITED)
    assert "publish the offered DS" in keys_status(story.ring).next_step
    story.parent_takes_over()
    story.private["new"] = generate_der(15)
    story.feed(Roll(Role.CSK, "new"))
    story.wait(Phase.OFFERED)
    story.parent_takes_over()
    story.wait(Phase.STEADY)
    assert list(story.private) == ["new"] and len(story.trusted) == 2
    story.clock.now += 172_800
    story.serve()
    assert keys_status(story.ring).next_step == "nothing"
    story.feed(Wanted(False, story.state.times))
    story.serve()
    status = keys_status(story.ring)
    assert "remove the DS" in status.next_step and not any(key.offered for key in status.keys)
    assert "leaving" in status.state and story.state.exit is Exit.ASKED
    story.trusted = [(story.clock.now + 172_800, ds) for until, ds in story.trusted if until > story.clock.now]
    story.feed(Gone())
    deadline = keyrolls.deadline(story.state)
    assert deadline is not None
    story.clock.now = deadline - 1
    story.serve()
    story.clock.now = deadline
    story.feed(Woken())
    assert not story.state.tracks and not story.private
    plain = next(iter(sign_zones(story.server.holdings.zones, [ZONE], {}, story.signatures)))
    assert plain.signer is None and plain.names == next(iter(story.plain)).names


@pytest.mark.parametrize("role", [Role.KSK, Role.ZSK])
def test_split_keys_are_rolled_each_by_itself(role: Role) -> None:
    story = Story(split=True)
    story.wait(Phase.AWAITED)
    story.parent_takes_over()
    story.private["new"] = generate_der(15)
    story.feed(Roll(role, "new"))
    story.serve()
    if role is Role.KSK:
        story.wait(Phase.OFFERED)
        story.parent_takes_over()
        story.wait(Phase.STEADY)
    else:
        while keyrolls.deadline(story.state) is not None:
            story.clock.now = keyrolls.deadline(story.state) or 0.0
            story.feed(Woken())
            story.serve()
    assert sorted(story.private) == sorted({"ksk", "zsk", "new"} - {role.value})


def test_a_zone_is_signed_as_the_document_says_and_only_what_changed_is_built_anew() -> None:
    story = Story(split=False)
    story.serve()
    signed = story.server.holdings.zones
    zone = next(iter(signed))
    assert zone.signer is not None and zone.signer.denial is Denial.WHITE_LIES
    keys = key_sets_from(zone_keys_frame([story.ring]).zone_keys)
    assert next(iter(sign_zones(signed, [ZONE], keys, story.signatures))) is zone
    waiting = next(iter(sign_zones(story.plain, [ZONE], {}, story.signatures)))
    assert waiting.signer is None and waiting.order, "ready for its keys"
    unsigned = ZONE.model_copy(update={"dnssec": None})
    assert wishes_of([unsigned], {}) == {zone_id("gw.EXAMPLE.com."): None}
    assert len(sign_zones(ZoneSet(), [unsigned], keys, story.signatures)) == 0
