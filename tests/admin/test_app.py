"""The admin API over a real socket and the real configuration."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests.admin.mounted import DOCUMENT, TOKEN, Mounted, mounted

from meridian.admin.app import build_app


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Mounted]:
    async with mounted() as found:
        yield found


@pytest_asyncio.fixture
async def client(api: Mounted) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=api.url, headers=headers, trust_env=False) as found:
        yield found


def error(response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()["error"]
    assert set(found) == {"message", "remedy", "problems"}
    assert "Traceback" not in response.text
    return found


async def test_apply_get_history_rollback(client: httpx.AsyncClient) -> None:
    planned = (await client.post("/v1/config/plan", json={"text": DOCUMENT})).json()
    assert planned["base"] == 0
    assert [change["kind"] for change in planned["plan"]["changes"]] == ["added"] * 3
    body = {"text": DOCUMENT, "author": "me", "message": "first", "expected_version": 0}
    assert (await client.put("/v1/config", json=body)).json() == {
        "version": 1,
        "changed": True,
        "warnings": [],
        "staged": False,
    }
    changed = DOCUMENT.replace("127.0.0.1:8000", "127.0.0.1:8001")
    assert (await client.put("/v1/config", json={"text": changed})).json()["version"] == 2
    current = (await client.get("/v1/config")).json()
    assert (current["version"], current["text"]) == (2, changed)
    first = (await client.get("/v1/config/1")).json()
    assert (first["author"], first["message"], first["text"]) == ("me", "first", DOCUMENT)
    versions = (await client.get("/v1/config/history")).json()["versions"]
    assert [row["version"] for row in versions] == [2, 1]
    assert (await client.post("/v1/config/rollback", json={"version": 1})).json()["version"] == 3
    assert (await client.get("/v1/config")).json()["text"] == DOCUMENT


async def test_two_operators_conflict(client: httpx.AsyncClient) -> None:
    for text, expected, status in ((DOCUMENT, 0, 200), (DOCUMENT.replace("8000", "8001"), 0, 409)):
        answer = await client.put("/v1/config", json={"text": text, "expected_version": expected})
        assert answer.status_code == status
    assert "version 1" in error(answer)["message"]
    assert (await client.get("/v1/config")).json()["version"] == 1


async def test_a_bad_document_is_refused_with_every_problem(client: httpx.AsyncClient) -> None:
    answer = await client.put("/v1/config", json={"text": DOCUMENT.replace("endpoints", "endpoint")})
    assert answer.status_code == 422
    problems = {problem["place"]: problem for problem in error(answer)["problems"]}
    assert problems["upstreams[0].endpoint"]["line"] == 5
    assert "did you mean 'endpoints'?" in problems["upstreams[0].endpoint"]["message"]
    assert (await client.get("/v1/config")).status_code == 404


async def test_removing_much_wants_force(client: httpx.AsyncClient) -> None:
    many = DOCUMENT + "".join(f"  - {{name: r{i}, match: {{path: /{i}}}, upstream: app}}\n" for i in range(5))
    await client.put("/v1/config", json={"text": many})
    answer = await client.put("/v1/config", json={"text": DOCUMENT})
    assert answer.status_code == 409
    assert "removes 5 of 6 routes" in error(answer)["message"]
    assert (await client.put("/v1/config", json={"text": DOCUMENT, "force": True})).status_code == 200


async def test_secrets_are_shown_by_fingerprint_only(client: httpx.AsyncClient) -> None:
    secret = b"-----BEGIN PRIVATE KEY-----\nsecret\n"
    text = (
        DOCUMENT.replace("[h1]", "[h1], tls: true")
        + "certificates:\n  - {hosts: [a.example], cert_file: a.pem, key_file: a.key}\n"
    )
    files = {name: base64.b64encode(secret).decode() for name in ("a.pem", "a.key")}
    answers = [
        await client.post("/v1/config/plan", json={"text": text, "files": files}),
        await client.put("/v1/config", json={"text": text, "files": files}),
        await client.get("/v1/config"),
        await client.get("/v1/config/history"),
        await client.get("/v1/status"),
        # A request that cannot be read is described without being repeated.
        await client.put("/v1/config", json={"text": text, "files": {"a.key": secret.decode()}, "more": files}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 5 + [400]
    for answer in answers:
        assert secret.decode()[:20] not in answer.text
        assert files["a.key"] not in answer.text
    assert len(answers[2].json()["files"]["a.key"]) == 16


async def test_a_store_that_is_away_is_a_503_with_the_reason(api: Mounted, client: httpx.AsyncClient) -> None:
    api.store.away = True
    for call in (client.get("/v1/config"), client.put("/v1/config", json={"text": DOCUMENT})):
        answer = await call
        assert answer.status_code == 503
        assert "no etcd member answered" in error(answer)["message"]
    status = (await client.get("/v1/status")).json()
    assert status["store"] == {"reachable": False, "detail": "no etcd member answered", "members": []}
    assert (await client.get("/healthz")).text == "ok\n"


async def test_drain_and_undrain(api: Mounted, client: httpx.AsyncClient) -> None:
    assert (await client.put("/v1/drains/eu-west-1")).status_code == 204
    assert (await client.get("/v1/status")).json()["nodes"][0]["standing"] == "draining"
    assert error(await client.put("/v1/drains/us-east"))["message"] == "nobody would be left serving"
    assert (await client.delete("/v1/drains/eu-west-1")).status_code == 204
    assert not api.panel.draining
    unknown = await client.put("/v1/drains/mars")
    assert unknown.status_code == 404
    assert "eu-west-1" in error(unknown)["message"]


async def test_status_waits_for_a_version(api: Mounted, client: httpx.AsyncClient) -> None:
    api.panel.follow = False
    late = await client.get("/v1/status?version=1&wait_seconds=0.1")
    assert late.json()["nodes"][0]["config_version"] == 0
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(client.get("/v1/status?version=1&wait_seconds=30"))
        await client.get("/v1/status")
        api.panel.serving = dict.fromkeys(api.panel.serving, 1)
    assert [node["config_version"] for node in waiting.result().json()["nodes"]] == [1, 1]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("POST", "/v1/status", 405), ("GET", "/v1/config/0x1", 400), ("GET", "/docs", 404)],
)
async def test_what_is_not_offered(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert error(answer)["message"]


async def test_the_door_is_closed_without_token(api: Mounted) -> None:
    async with httpx.AsyncClient(base_url=api.url, trust_env=False) as stranger:
        assert (await stranger.get("/v1/status")).status_code == 401
        assert (await stranger.get("/v1/openapi.json")).status_code == 401
        assert (await stranger.get("/healthz")).status_code == 200
        assert "meridian_requests_total 1" in (await stranger.get("/metrics")).text
        assert (await stranger.get("/metrics", headers={"host": "evil.example"})).status_code == 421


async def test_a_body_has_a_bound_announced_or_not(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'{"text": "'
        for _ in range(20):
            yield b"a" * 1024 * 1024

    announced = await client.put("/v1/config", content=b" " * (17 * 1024 * 1024))
    assert announced.status_code == 413
    assert (await client.put("/v1/config", content=endless())).status_code == 413


async def test_schema_and_description(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/config/schema")).json()["additionalProperties"] is False
    paths = (await client.get("/v1/openapi.json")).json()["paths"]
    assert {"/v1/status", "/v1/config", "/v1/config/plan", "/v1/drains/{name}"} <= set(paths)


async def test_an_empty_token_is_no_token(api: Mounted) -> None:
    with pytest.raises(ValueError, match="token"):
        build_app(api.panel, "")


async def test_a_backup_goes_out_and_comes_in(client: httpx.AsyncClient) -> None:
    await client.put("/v1/config", json={"text": DOCUMENT})
    raw = (await client.get("/v1/backup")).content
    refused = await client.put("/v1/backup", content=raw)
    assert refused.status_code == 409
    assert "1 versions of the document" in error(refused)["message"]
    restored = (await client.put("/v1/backup", params={"force": True, "author": "me"}, content=raw)).json()
    assert (restored["version"], restored["was"]) == (2, 1)
    assert (await client.get("/v1/config")).json()["text"] == DOCUMENT
    damaged = await client.put("/v1/backup", params={"force": True}, content=raw[:-1])
    assert damaged.status_code == 422
    assert "cut off" in error(damaged)["message"]
    large = await client.put("/v1/backup", content=bytes(17 * 1024 * 1024))  # more than a document may have
    assert large.status_code == 422


async def test_defragmenting_says_what_it_did_or_why_not(api: Mounted, client: httpx.AsyncClient) -> None:
    (member,) = (await client.post("/v1/store/defragment")).json()["members"]
    assert (member["before_bytes"], member["after_bytes"]) == (4096, 1024)
    api.store.away = True
    assert (await client.post("/v1/store/defragment")).status_code == 503


async def test_the_last_may_be_ordered_to_drain_with_force(client: httpx.AsyncClient) -> None:
    assert (await client.put("/v1/drains/eu-west")).status_code == 204
    refused = await client.put("/v1/drains/us-east")
    assert refused.status_code == 409
    assert "--force" in error(refused)["remedy"]
    assert (await client.put("/v1/drains/us-east", params={"force": True})).status_code == 204


async def test_readiness_is_open_and_says_why_not(api: Mounted) -> None:
    async with httpx.AsyncClient(base_url=api.url, trust_env=False) as stranger:
        answer = await stranger.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "no gateway worker serves a document yet\n")
        assert (await stranger.get("/healthz")).status_code == 200
        assert (await stranger.get("/v1/backup")).status_code == 401


async def test_a_zones_keys(api: Mounted, client: httpx.AsyncClient) -> None:
    path = "/v1/zones/gw.example.com/keys"
    assert (await client.get(path)).json()["keys"][0]["tag"] == 4711
    for word, content in (("roll", {"role": "zsk"}), ("roll", {}), ("seen", None)):
        assert (await client.post(f"{path}/{word}", json=content)).status_code == 204
    assert api.panel.told == ["zsk", "csk", "seen"]
    refused = await client.post(f"{path}/gone")
    assert refused.status_code == 409 and "meridian dns keys show" in error(refused)["remedy"]
    assert (await client.post(f"{path}/roll", json={"role": "all"})).status_code == 400
    assert (await client.post(f"{path}/else")).status_code == 400
    unknown = await client.get("/v1/zones/other.example/keys")
    assert unknown.status_code == 404 and "no keys" in error(unknown)["message"]
