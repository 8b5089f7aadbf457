"""A W&B server for tests: it accepts every run, and remembers what it was told."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Server(ThreadingHTTPServer):
    """A server on a free port of this machine.

    Attributes:
        address: Its address.
        runs: By id, what each run said of itself, the last word.
        lines: By id, the lines of its history.
        begun: The id of every run that began or went on, in order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.runs: dict[str, dict[str, Any]] = {}
        self.lines: dict[str, list[dict[str, Any]]] = {}
        self.begun: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients leave as they like."""


@contextmanager
def serve() -> Iterator[Server]:
    """A server that runs within the block."""
    with Server() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self._send(None)

    def do_GET(self) -> None:
        self._send({})

    def do_PUT(self) -> None:
        self._body()
        self._send({})

    def do_POST(self) -> None:
        body = self._body()
        if self.path.endswith("file_stream"):
            run = self.path.split("/")[-2]
            history = json.loads(body).get("files", {}).get("wandb-history.jsonl", {})
            self.server.lines.setdefault(run, []).extend(map(json.loads, history.get("content", ())))
            self._send({"exitcode": None, "limits": {}})
        elif self.path.endswith("graphql"):
            question = json.loads(body)
            self._send({"data": self._answer(question.get("operationName"), question.get("variables") or {})})
        else:
            self._send({})

    def _answer(self, operation: str | None, given: dict[str, Any]) -> dict[str, Any]:
        match operation:
            case "Viewer":
                return {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
            case "UpsertBucket":
                known = self.server.runs.setdefault(given["name"], {})
                if given["groupName"]:
                    self.server.begun.append(given["name"])
                known.update({key: value for key, value in given.items() if value is not None})
                project = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": "me"}}
                bucket = {"id": "b", "name": given["name"], "displayName": known["displayName"], "project": project}
                bucket |= {"description": None, "config": "{}", "sweepName": None, "historyLineCount": 0}
                return {"upsertBucket": {"bucket": bucket, "inserted": len(known) == len(given)}}
            case "CreateRunFiles":
                files = [{"name": name, "uploadUrl": f"{self.server.address}/{name}"} for name in given["files"]]
                return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
            case "ServerFeaturesQuery":
                return {"serverInfo": {"features": []}}
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _send(self, answer: dict[str, Any] | None) -> None:
        body = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
