"""Chromium without a window, controlled by its DevTools protocol (https://chromedevtools.github.io/devtools-protocol)."""

import base64
import json
import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any


class Browser:
    """A page of a browser of its own, to which the protocol's messages go by pipes.

    Args:
        chromium: The program.
        profile: A folder for its profile.
    """

    def __init__(self, chromium: str, profile: Path) -> None:
        # The program reads commands from descriptor 3 and writes answers to descriptor 4.
        redirected = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ]
        self._process = subprocess.Popen(
            ["sh", "-c", redirected, "sh", chromium, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._number, self._session, self._rest = 0, "", b""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """Call a method of the protocol, and return its result; events are ignored."""
        assert self._process.stdin
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._number, "method": method, "params": params, **session}
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()
        while (answer := self._read()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        while b"\0" not in self._rest:
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def evaluate(self, script: str) -> Any:  # noqa: ANN401 - any value of JSON
        """Evaluate a script in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, script: str, seconds: float = 60) -> Any:  # noqa: ANN401 - any value of JSON
        """Evaluate a script until its value is true in Python, and return it."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(script)):
            assert time.monotonic() < end, f"{script} is {value!r} after {seconds} seconds"
            time.sleep(0.1)
        return value

    def open(self, address: str) -> None:
        """Open a page, and wait until its script has run."""
        self.call("Page.navigate", url=address)
        self.wait_for(f"location.href.startsWith({address.partition('#')[0]!r}) && document.readyState === 'complete'")

    def drop(self, file: Path) -> None:
        """Drop a file on the page, as a user drags it there."""
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for step in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=step, x=200, y=60, data=data)

    def picture(self, path: Path) -> None:
        """Write a picture of the page as a PNG file."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
