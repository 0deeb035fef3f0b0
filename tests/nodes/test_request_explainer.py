"""The agent asks one of its gateway workers, and says why when there is no answer."""

import pytest
from tests.nodes.explained import TellingCrew, request_desk

from meridian.admin.explained import CannotExplain, RequestExplanation, RequestField, RequestQuestion
from meridian.nodes import request_explainer
from meridian.nodes.request_telling import explained_frame
from meridian_proto.v1.channel_pb2 import Explained, ExplainRequest

CANARY = (RequestField(name="X-Canary", value="yes"),)


async def told(url: str, **more: object) -> RequestExplanation:
    return await request_desk().explain(RequestQuestion.model_validate({"url": url, **more}))


async def test_a_worker_tells_and_its_node_says_who_it_is() -> None:
    found = await told("http://shop.example.com/read/1?x=y", client="203.0.113.9")
    assert (found.node, found.region, found.worker, found.config_version, found.upstream) == ("eu-2", "eu", 0, 3, "app")
    assert "gateway worker 0 of node eu-2 in region eu answers by document version 3" in found.steps[0].text
    assert [one.route for one in found.routes if one.takes] == ["read"]
    assert [(one.address, one.tier) for one in found.endpoints] == [("127.0.0.1:8000", 1), ("127.0.0.1:8001", 2)]
    assert any("told as of 'web', on 8080" in step.text for step in found.steps)


async def test_host_and_fields_are_taken_as_curl_takes_them() -> None:
    fields = [{"name": "Host", "value": "SHOP.example.com"}, {"name": "X-Canary", "value": "yes"}]
    found = await told("http://user@127.0.0.1:8080", headers=fields, method="POST")
    assert [one.route for one in found.routes if one.takes] == ["canary"]


@pytest.mark.parametrize(
    ("url", "client", "why"),
    [
        ("shop.example.com/x", "", "is no URL of a request; such as"), ("ftp://shop.example.com/", "", "is no URL"),
        ("http://shop.example.com:99999/", "", "is no URL"), ("http://[::1/", "", "is no URL"),
        ("http://shop.example.com/caf\xe9", "", "percent-encode"), ("http://a/ b", "", "percent-encode"),
        ("http://shop.example.com/", "somebody", "does not appear to be an IPv4 or IPv6 address"),
    ],
)  # fmt: skip
async def test_what_is_no_request_is_refused(url: str, client: str, why: str) -> None:
    with pytest.raises(CannotExplain, match=why):
        await told(url, client=client)


async def test_why_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_explainer, "ANSWER_SECONDS", 0.05)
    desk = request_desk()
    crew = desk._crew()
    assert isinstance(crew, TellingCrew)
    question = RequestQuestion(url="http://shop.example.com/")
    crew.mute = True
    with pytest.raises(CannotExplain, match="gateway worker 0 has not answered"):
        await desk.explain(question)
    desk.on_explained(Explained(number=1))  # too late: nobody waits for it
    crew.mute, crew.worker.connected = False, False
    with pytest.raises(CannotExplain, match="no gateway worker of this node is connected"):
        await desk.explain(question)
    crew.worker.connected = True
    assert (await desk.explain(question)).status == 429, "a limit begins empty"
    assert explained_frame(None, ExplainRequest(number=4)).explained.refused == "this worker has no document yet"
