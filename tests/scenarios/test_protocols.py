"""Every node serves HTTP/1.1, HTTP/2 and HTTP/3 to clients that are not ours."""

import json
import re
import subprocess

import pytest
from curl_cffi import CurlHttpVersion, CurlOpt
from curl_cffi import requests as curl_requests
from tests.local_cluster import LocalCluster, LocalNode

HOST = "shop.example.com"


def curl(cluster: LocalCluster, node: LocalNode, *options: str, path: str = "/api/products", tls: bool = True) -> str:
    port = (node.https if tls else node.http).rpartition(":")[2]
    scheme = "https" if tls else "http"
    done = subprocess.run(
        ["curl", "-sS", "--fail", "--max-time", "5", "--cacert", cluster.ca_file, "--resolve",
         f"{HOST}:{port}:{node.host}", "-w", "\n%{http_version}", *options, f"{scheme}://{HOST}:{port}{path}"],
        capture_output=True, text=True, timeout=10, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl_reaches_the_right_service_over_h1_and_h2_through_each_node(cluster: LocalCluster) -> None:
    for node in cluster.nodes().values():
        for options, tls, version in (
            (["--http1.1"], False, "1.1"),
            (["--http1.1"], True, "1.1"),
            (["--http2"], True, "2"),
        ):
            for service in ("products", "orders"):
                body, spoken = curl(cluster, node, *options, path=f"/api/{service}", tls=tls).rsplit("\n", 1)
                assert spoken == version
                answer = json.loads(body)
                assert (answer["service"], answer["region"]) == (service, node.region)


def test_curl_s_http3_by_ngtcp2_reaches_each_node(cluster: LocalCluster) -> None:
    for node in cluster.nodes().values():
        port = node.https.rpartition(":")[2]
        answer = curl_requests.get(
            f"https://{HOST}:{port}/api/products",
            http_version=CurlHttpVersion.V3ONLY,
            curl_options={CurlOpt.CAINFO: cluster.ca_file, CurlOpt.RESOLVE: [f"{HOST}:{port}:{node.host}"]},
            timeout=5,
        )
        assert (answer.status_code, answer.http_version) == (200, CurlHttpVersion.V3)
        assert answer.json()["region"] == node.region


def test_h2load_has_no_failed_request(cluster: LocalCluster) -> None:
    for node in cluster.nodes().values():
        done = subprocess.run(
            ["h2load", "-n", "1000", "-c", "4", "-m", "10", f"--connect-to={node.https}", f"https://{HOST}/api/products"],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        assert "1000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout, done.stdout
        assert re.search(r"status codes: 1000 2xx", done.stdout), done.stdout


def test_a_browser_learns_of_http3_and_uses_it(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Chromium loads the shop's page; the page itself says over which protocol it and its data came."""
    node = next(iter(cluster.nodes().values()))
    port = node.https.rpartition(":")[2]
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
         f"--host-resolver-rules=MAP {HOST} {node.host}", f"--origin-to-force-quic-on={HOST}:{port}",
         f"--ignore-certificate-errors-spki-list={spki_pin(node)}", "--virtual-time-budget=5000", "--dump-dom",
         f"https://{HOST}:{port}/"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert '<output id="protocol">h3</output>' in done.stdout, done.stdout + done.stderr[-2000:]
    assert f'<output id="region">{node.region}</output>' in done.stdout


def spki_pin(node: LocalNode) -> str:
    """The pin of the public key that the node serves, which Chromium is told to trust."""
    script = (
        "openssl s_client -connect $1 -servername $2 </dev/null 2>/dev/null | openssl x509 -pubkey -noout "
        "| openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | openssl enc -base64"
    )
    command = ["bash", "-c", script, "spki", node.https, HOST]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
