"""Serving a model: answers, limits, concurrent requests, the page in a browser, and how the process ends."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from tests.commands import Run, assert_one_line
from tests.serve.browser import Browser
from xner.serve.application import make_application
from xner.serve.openapi import Limits, describe_api
from xner.serve.tag_queue import TagQueue
from xner.tagger import Tagged, Tagger

ROOT = Path(__file__).parents[2]
TURING = "Alan Mathison Turing was an English mathematician, computer scientist from London."
TEXTS = [TURING, "", '<b>Ankara\'da & "İzmir"</b> 東京', "القاهرة e\u0301 👨‍👩‍👧 Ankara", "x" * 300]


def client_of(tag: Any, limits: Limits | None = None) -> TestClient:  # noqa: ANN401 - any function that tags
    application = make_application(tag, ["PER", "ORG", "LOC"], hosts=["localhost"], limits=limits)
    return TestClient(application, base_url="http://localhost", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(tagger: Tagger) -> Iterator[TestClient]:
    with client_of(tagger) as client:
        yield client


def expected(tagger: Tagger, text: str) -> dict[str, object]:
    """The result of a text that is tagged alone."""
    tagged = tagger(text)
    entities = [{**each._asdict(), "score": pytest.approx(each.score, abs=2e-4)} for each in tagged.entities]
    return {"text": tagged.text, "entities": entities}


def untagged(texts: Sequence[str]) -> list[Tagged]:
    return [Tagged(text, [], [], []) for text in texts]


def test_texts(client: TestClient, tagger: Tagger) -> None:
    """Each text has its entities, as Tagger finds them; one text may come alone, and none is possible."""
    results = client.post("/tag", json={"texts": TEXTS}).json()["results"]
    assert results == [expected(tagger, text) for text in TEXTS]
    assert sum(len(each["entities"]) for each in results) > 3
    for each in results:
        assert all(each["text"][some["start"] : some["end"]] == some["text"] for some in each["entities"])
    assert client.post("/tag", json={"text": TURING}).json()["results"] == results[:1]
    assert client.post("/tag", json={"texts": []}).json() == {"results": []}


def test_half_a_surrogate(client: TestClient) -> None:
    """A surrogate without its other half is a question mark, and does no harm in the name of a field."""
    headers = {"Content-Type": "application/json"}
    answer = client.post("/tag", content=b'{"text": "Ankara \\ud83d"}', headers=headers)
    assert answer.json()["results"][0]["text"] == "Ankara ?"
    assert client.post("/tag", content=b'{"\\ud83d": 1}', headers=headers).status_code == 400


def test_marked_texts(client: TestClient, tagger: Tagger) -> None:
    """The page gets paragraphs in which the markup of a text is escaped."""
    answer = client.post("/tag", json={"texts": TEXTS}, headers={"Accept": "text/html"})
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.text.count("<p ") == len(TEXTS)
    assert answer.text.count("<mark") == sum(len(tagged.entities) for tagged in tagger(TEXTS))
    assert "<b>" not in answer.text


def test_concurrent_requests(tagger: Tagger) -> None:
    """Requests that arrive together are tagged in common batches, each with the result of a text alone."""
    batches, threads = [], set()

    def tag(texts: Sequence[str]) -> list[Tagged]:
        batches.append(len(texts))
        threads.add(threading.get_ident())
        time.sleep(0.05)
        return tagger(texts)

    texts = [f"{TURING} {number} Ankara" for number in range(24)]
    with client_of(tag) as client, ThreadPoolExecutor(12) as pool:
        answers = [*pool.map(lambda text: client.post("/tag", json={"text": text}).json(), texts)]
    assert answers == [{"results": [expected(tagger, text)]} for text in texts]
    assert len(batches) < 24 == sum(batches)


def test_texts_whose_time_is_up_are_not_tagged() -> None:
    """A request that is given up leaves the queue, and the next one is answered."""
    seen: list[str] = []

    def tag(texts: Sequence[str]) -> list[Tagged]:
        seen.extend(texts)
        time.sleep(0.1)
        return untagged(texts)

    async def run() -> None:
        queue = TagQueue(tag, characters=1)
        work = asyncio.create_task(queue.work())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.tag(["a", "b", "c", "d"]), 0.05)
        assert [each.text for each in await queue.tag(["e"])] == ["e"]
        work.cancel()

    asyncio.run(run())
    assert seen == ["a", "e"]


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        (b"Ankara", 400, "the body is not JSON in UTF-8"),
        (b"", 400, "the body is not JSON in UTF-8"),
        ('{"text": "İ"}'.encode("iso-8859-9"), 400, "the body is not JSON in UTF-8"),
        (b"[" * 100_000, 400, "the body is not JSON in UTF-8"),
        (b"1" * 10_000, 400, "the body is not JSON in UTF-8"),
        (b'["Ankara"]', 400, "the body is an array; use an object with the field texts or text"),
        (b"{}", 400, "one of the fields texts and text"),
        (b'{"text": "a", "texts": []}', 400, "one of the fields texts and text"),
        (b'{"txt": "a"}', 400, "'txt' is not a field"),
        (b'{"text": null}', 400, "text is null; use a string"),
        (b'{"texts": "a"}', 400, "texts is a string; use an array of strings"),
        (b'{"texts": ["a", true]}', 400, "texts[1] is a boolean; use a string"),
        (json.dumps({"texts": ["a"] * 257}).encode(), 413, "texts has 257 items; use at most 256"),
        (json.dumps({"text": "a" * 10_001}).encode(), 413, "text has 10,001 characters; use at most 10,000"),
        (b" " * 300_000, 413, "the body has 300,000 bytes; use at most 262,144"),
    ],
)
def test_wrong_bodies(client: TestClient, body: bytes, code: int, reason: str) -> None:
    """A body that is too large or not as described is refused with the reason, and names the field."""
    answer = client.post("/tag", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == code
    assert reason in answer.json()["error"]


def test_wrong_requests(client: TestClient) -> None:
    """Another type, method, path or host is refused; a page of another site gets no permission."""
    assert client.post("/tag", content='{"text": "a"}', headers={"Content-Type": "text/plain"}).status_code == 415
    wrong = client.get("/tag")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert client.get("/nothing").status_code == 404
    assert client.get("/", headers={"Host": "attacker.example:8000"}).status_code == 400
    asked = {"Origin": "http://attacker.example", "Access-Control-Request-Method": "POST"}
    answer = client.options("/tag", headers=asked)
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_busy() -> None:
    """A request above the limit, or one that takes too long, is asked to come back later."""
    release = threading.Event()

    def tag(texts: Sequence[str]) -> list[Tagged]:
        release.wait(10)
        return untagged(texts)

    limits = Limits(requests=1, seconds=1)
    with client_of(tag, limits) as client, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(client.post, "/tag", json={"text": "a"})
        time.sleep(0.3)
        full = client.post("/tag", json={"text": "b"})
        late = slow.result()
        release.set()
        after = client.post("/tag", json={"text": "c"})
    for answer, reason in ((full, "1 requests are in progress"), (late, "not complete within 1 seconds")):
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert reason in answer.json()["error"]
    assert after.status_code == 200


def test_failure_does_not_log_texts(caplog: pytest.LogCaptureFixture) -> None:
    """A defect is an error 500 and a log line with its place, without the texts; later requests are answered."""

    def tag(texts: Sequence[str]) -> list[Tagged]:
        if "secret" in texts:
            raise KeyError(texts[0])
        return untagged(texts)

    with client_of(tag) as client:
        answer = client.post("/tag", json={"text": "secret"})
        assert (answer.status_code, "log" in answer.json()["error"]) == (500, True)
        assert client.post("/tag", json={"text": "a"}).status_code == 200
    assert "KeyError" in caplog.text
    assert "secret" not in caplog.text.replace('"secret" in texts', "")


def references(part: object) -> Iterator[str]:
    """Yield the references within a description."""
    if isinstance(part, dict):
        yield from [part["$ref"]] if "$ref" in part else []
        part = [*part.values()]
    if isinstance(part, list):
        for each in part:
            yield from references(each)


def test_description(client: TestClient) -> None:
    """The description under OpenAPI is of the endpoints: its references are there, and answers have its fields."""
    api = client.get("/openapi.json").json()
    assert api == json.loads(json.dumps(describe_api(["PER", "ORG", "LOC"], Limits())))
    assert api["openapi"].startswith("3.1.")
    schemas = api["components"]["schemas"]
    assert {*references(api)} == {f"#/components/schemas/{name}" for name in schemas}
    assert {path: [*methods] for path, methods in api["paths"].items()} == {"/tag": ["post"], "/health": ["get"]}
    answer = client.post("/tag", json={"text": TURING}).json()
    for part, name in (
        (answer, "Response"),
        (answer["results"][0], "Result"),
        (answer["results"][0]["entities"][0], "Entity"),
        (client.get("/health").json(), "Health"),
        (client.post("/tag", json=3).json(), "Error"),
    ):
        assert [*part] == schemas[name]["required"] == [*schemas[name]["properties"]]


def test_page(client: TestClient) -> None:
    """The page needs nothing from elsewhere, and its policy allows only its own script, by a new nonce each time."""
    one, other = client.get("/"), client.get("/")
    policy = one.headers["content-security-policy"]
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert len(nonce) > 20
    assert nonce not in other.text
    assert one.text.count(f'nonce="{nonce}"') == 2 == one.text.count("<script") + one.text.count("<style")
    assert policy.startswith("default-src 'none'")
    assert "http" not in one.text
    assert 'href="openapi.json"' in one.text


class Server:
    """A process that serves a model on a free port, and what it prints."""

    def __init__(self, tagging_model: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "xner.cli", "serve", "--model", tagging_model, "--port", "0"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout
        self.address = self.process.stdout.readline().split(" ")[0]

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal, and return the exit code and the errors."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


def test_process(tagging_model: str, tagger: Tagger) -> None:
    """A process answers, also one that sends far too much, logs no text, and ends at SIGTERM with its exit code."""
    server = Server(tagging_model)
    try:
        assert server.address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{server.address}/health") as answer:
            assert json.load(answer)["status"] == "ok"
        headers = {"Content-Type": "application/json"}
        body = json.dumps({"texts": TEXTS}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{server.address}/tag", body, headers)) as answer:
            assert json.load(answer)["results"] == [expected(tagger, text) for text in TEXTS]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(f"{server.address}/tag", b"x" * 30_000_000, headers))
        assert refused.value.code == 413
    finally:
        code, errors = server.end(signal.SIGTERM)
    assert code == 143
    assert errors.splitlines()[-1] == "xner: error: stopped by SIGTERM"
    assert "Traceback" not in errors
    assert "Turing" not in errors


def test_browser(tagging_model: str, tagger: Tagger, tmp_path: Path) -> None:
    """A browser shows the entities of the text in the address and of a dropped file; Ctrl-C ends the server."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    texts = {"address": [TURING, "<b>Ankara</b>"], "file": ["Vardar Kapısı'ndan çıkarken baktı.", TURING]}
    found = {name: [each for tagged in tagger(some) for each in tagged.entities] for name, some in texts.items()}
    assert all(found.values())
    (tmp_path / "texts.txt").write_text("\n".join(texts["file"]), encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes("Kapısı'ndan".encode("iso-8859-9"))
    server = Server(tagging_model)
    try:
        with Browser(chromium, tmp_path / "profile") as browser:
            for name, some in texts.items():
                if name == "file":
                    browser.drop(tmp_path / "texts.txt")
                else:
                    browser.open(f"{server.address}/#text={quote(chr(10).join(some))}")
                count = len(found[name])
                said = f"{count} {'entity' if count == 1 else 'entities'} in 2 of 2 texts"
                browser.wait_for(f"document.querySelector('#text').value === {json.dumps(chr(10).join(some))}")
                browser.wait_for(f"document.querySelector('#status').textContent === {json.dumps(said)}")
                marks = browser.evaluate("[...document.querySelectorAll('#results mark')].map(m => m.firstChild.data)")
                assert marks == [entity.text for entity in found[name]]
            browser.drop(tmp_path / "latin.txt")
            browser.wait_for(
                "document.querySelector('#status').textContent === 'latin.txt is not a text file in UTF-8.'"
            )
    finally:
        code, errors = server.end(signal.SIGINT)
    assert (code, errors.splitlines()[-1]) == (130, "xner: error: interrupted")


def test_mistakes(run: Run, tiny_backbone: str, tagging_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port in use, an impossible one, a host of others, a folder without a head and a missing extra are one line."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert_one_line(run("serve", "--model", tagging_model, "--port", port), 1, f"port={port}", "use another one")
    assert_one_line(run("serve", "--model", tagging_model, "--port", 70000), 2, "port=70000 is not a port")
    assert_one_line(
        run("serve", "--model", tagging_model, "--host", "256.0.0.1.."), 2, "host='256.0.0.1..' is not an address"
    )
    assert_one_line(
        run("serve", "--model", tagging_model, "--allowed_hosts", "a*"), 2, "allowed_hosts='a*' is not a name"
    )
    outcome = run("serve", "--model", tiny_backbone, "--port", 0)
    assert_one_line(outcome, 2, f"model={tiny_backbone!r}", "no trained head")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert_one_line(run("serve", "--model", tagging_model), 2, "pip install '.[serve]'")


def test_open_host(run: Run, tagging_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another host than the loopback interface is announced as open."""
    monkeypatch.setattr("uvicorn.Server.run", lambda *args, **options: None)
    monkeypatch.setattr("signal.signal", lambda *args: None)
    outcome = run("serve", "--model", tagging_model, "--host", "0.0.0.0", "--port", 0)
    assert "There is no login: everyone who reaches port" in outcome.out
    assert "no login" not in run("serve", "--model", tagging_model, "--port", 0).out


def test_tagger_options(run: Run, tagging_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Precision and decoding are those of the command line, as for the command ``tag``."""
    taggers: list[Tagger] = []

    def keep(tag: Tagger, *args: object, **options: object) -> None:
        taggers.append(tag)

    monkeypatch.setattr("xner.serve.application.make_application", keep)
    monkeypatch.setattr("uvicorn.Server.run", lambda *args, **options: None)
    monkeypatch.setattr("signal.signal", lambda *args: None)
    for args in ([], ["--precision", "bfloat16", "--decoding", "viterbi"]):
        outcome = run("serve", "--model", tagging_model, "--port", 0, *args)
        assert outcome.code == 0, outcome
    networks = [tagger.network for tagger in taggers]
    assert [network.evaluation_precision for network in networks] == [None, "bfloat16"]
    assert [network.decoder is None for network in networks] == [True, False]
