import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from xner.errors import RunError, UserError
from xner.export.hub_upload import check_login, push_to_hub


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface that an upload of small files uses."""

    repositories: dict[str, bool]
    files: dict[str, bytes]
    refuses = False

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def answer(self, content: object, code: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.refuses or self.headers["Authorization"] != "Bearer hf_secret":
            self.answer({"error": "Invalid credentials"}, 401)
        elif self.path == "/api/repos/create":
            asked = json.loads(raw)
            name = f"{asked['organization']}/{asked['name']}"
            self.repositories[name] = asked.get("private") or asked.get("visibility") == "private"
            self.answer({"url": f"http://{self.headers['Host']}/{name}", "name": name, "id": name})
        elif self.path.endswith("/preupload/main"):
            paths = [each["path"] for each in json.loads(raw)["files"]]
            self.answer({"files": [{"path": each, "uploadMode": "regular", "shouldIgnore": False} for each in paths]})
        elif "/commit/main" in self.path:
            for line in map(json.loads, raw.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer(
                {
                    "commitUrl": f"http://{self.headers['Host']}/owner/it/commit/1",
                    "commitOid": "1" * 40,
                    "hookOutput": "",
                }
            )
        else:
            self.answer({"error": self.path}, 404)

    def do_GET(self) -> None:
        self.answer({"id": "owner/it", "sha": "0" * 40, "siblings": []})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub on this machine, and a token for it."""

    class Fresh(Hub):
        repositories: dict[str, bool] = {}  # noqa: RUF012 - of this test alone
        files: dict[str, bytes] = {}  # noqa: RUF012 - of this test alone

    server = ThreadingHTTPServer(("127.0.0.1", 0), Fresh)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    yield Fresh
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model" / "onnx").mkdir(parents=True)
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "onnx" / "model.onnx").write_bytes(b"\x08\x01")
    return tmp_path / "model"


def test_upload(hub: type[Hub], folder: Path) -> None:
    """All files of a folder are in the repository, which is made as asked."""
    check_login("owner/it")
    address = push_to_hub(folder, "owner/it", private=True)
    assert address.endswith("/owner/it")
    assert hub.repositories == {"owner/it": True}
    assert hub.files == {"config.json": b"{}", "onnx/model.onnx": b"\x08\x01"}


def test_refusal(hub: type[Hub], folder: Path) -> None:
    """A refusal of the hub is one line that says where the folder is."""
    hub.refuses = True
    with pytest.raises(
        RunError, match=r"^push_to_hub='owner/it': the hub does not accept the upload .*model is complet"
    ):
        push_to_hub(folder, "owner/it")


def test_unreachable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that cannot be reached is one line."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(RunError, match="refused"):
        push_to_hub(folder, "owner/it")


def test_offline(folder: Path) -> None:
    """HF_HUB_OFFLINE, which all tests here have, is one line."""
    with pytest.raises(RunError, match="offline"):
        push_to_hub(folder, "owner/it")


def test_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing login and an impossible name are found before anything is computed."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(UserError, match="push_to_hub='owner/it' needs a login; run hf auth login"):
        check_login("owner/it")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(UserError, match="push_to_hub='a/b/c' is not a name on the hub"):
        check_login("a/b/c")
