"""A headless Chromium, driven through the DevTools protocol over a pair of pipes.

This module runs the browser's process. It has the few commands that a test needs: open a page, evaluate an
expression, move the mouse, take a picture. It is independent of any page. Chromium ends when its pipe closes,
so it cannot outlive the test.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.ports import wait_until
from tests.support.server import need

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    # WebGL in software: viewers draw volumes and segmentations with it.
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-dev-shm-usage",
    # Only the page may use the network.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--remote-debugging-pipe",
)
# DevTools reads commands from file descriptor 3 and answers on 4, each message ended by a zero byte.
_LAUNCH = 'read_fd=$1 write_fd=$2; shift 2; eval "exec \\"\\$@\\" 3<&$read_fd 4>&$write_fd"'
_FIRST_FREE_FD = 10
_GLIDE_STEPS = 6
# Windows virtual key codes, which DevTools needs.
_KEY_CODES = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}


class PageError(RuntimeError):
    """A script in the page threw an exception, or the browser refused a command."""


class Chromium:
    """One browser with one page.

    Parameters
    ----------
    folder
        An empty folder of the browser's own, for profile and log.
    width, height
        Size of the page in CSS pixels; a CSS pixel is a pixel of a picture.

    Attributes
    ----------
    complaints
        Errors that the page logged or threw since it was opened.
    """

    def __init__(self, folder: Path, width: int = 1400, height: int = 900) -> None:
        (program,) = need("chromium")
        self.complaints: list[str] = []
        self._last_id = 0
        self._session = ""
        self._buffer = b""
        self._mouse = (0.0, 0.0)
        command_end, self._to = _pipe()
        self._from, answer_end = _pipe()
        browser = [
            str(program),
            *_FLAGS,
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},{height}",
            "about:blank",
        ]
        launch = ["bash", "-c", _LAUNCH, "chromium", str(command_end), str(answer_end), *browser]
        with (folder / "chromium.log").open("ab") as log:
            self._process = subprocess.Popen(
                launch,
                pass_fds=(command_end, answer_end),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        os.close(command_end)
        os.close(answer_end)
        self._attach(width, height)

    def open(self, url: str) -> None:
        """Start to load a page; return before the page is complete."""
        self.complaints.clear()
        self.command("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """Return the JSON value of a JavaScript expression in the page; a promise is awaited.

        Raises
        ------
        PageError
            The expression threw.
        """
        answer = self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise PageError(_text_of(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait_for(self, expression: str, what: str, timeout_s: float = 60.0) -> Any:
        """Poll a JavaScript expression until it is true, and return its value.

        Raises
        ------
        TimeoutError
            The expression was not true within `timeout_s`. The text has `what` and the page's errors.
        """
        found: list[Any] = []

        def holds() -> bool:
            found[:] = [self.evaluate(expression)]
            return bool(found[0])

        try:
            wait_until(holds, what, timeout_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; the page says {self.complaints[-5:]}") from None
        return found[0]

    def move(self, x: float, y: float) -> None:
        """Move the mouse, no button pressed, to a point in CSS pixels.

        It moves in small steps, since menus close under a mouse that jumps.
        """
        from_x, from_y = self._mouse
        for step in range(1, _GLIDE_STEPS + 1):
            part = step / _GLIDE_STEPS
            between = {"x": from_x + (x - from_x) * part, "y": from_y + (y - from_y) * part}
            self.command("Input.dispatchMouseEvent", type="mouseMoved", **between)
        self._mouse = (x, y)

    def click(self, x: float, y: float, count: int = 1) -> None:
        """Click (twice for `count` 2) with the left button at a point in CSS pixels."""
        self.move(x, y)
        for number in range(1, count + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.command(
                    "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=number
                )

    def press(self, key: str) -> None:
        """Press and release a key by its DOM name (``Enter``, ``ArrowLeft``) where the focus is."""
        code = _KEY_CODES.get(key, ord(key[0].upper()))
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        for kind, more in (("keyDown", text), ("keyUp", {})):
            self.command(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more
            )

    def drag(self, points: Sequence[tuple[float, float]]) -> None:
        """Press the left button at the first point, move over the other points, release it at the last."""
        (x, y), (last_x, last_y) = points[0], points[-1]
        self.move(x, y)
        button = {"button": "left", "clickCount": 1}
        self.command("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, buttons=1, **button)
        for x, y in points[1:]:
            self.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
        self.command("Input.dispatchMouseEvent", type="mouseReleased", x=last_x, y=last_y, **button)
        self._mouse = (last_x, last_y)

    def wheel(self, x: float, y: float, steps: int) -> None:
        """Turn the wheel at a point, downwards for positive `steps`."""
        for _ in range(abs(steps)):
            delta = 100 if steps > 0 else -100
            self.command("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=delta)

    def screenshot(self) -> bytes:
        """Return the page as a PNG."""
        return base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"])

    def command(self, method: str, /, timeout_s: float = 60.0, **parameters: Any) -> dict[str, Any]:
        """Send one DevTools command and return its result.

        Raises
        ------
        PageError
            The browser refused the command, or has ended.
        TimeoutError
            The browser did not answer within `timeout_s`.
        """
        self._last_id += 1
        message: dict[str, Any] = {"id": self._last_id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        try:
            os.write(self._to, json.dumps(message).encode() + b"\0")
        except BrokenPipeError:
            raise PageError("the browser has ended") from None
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self._receive(method, deadline)
            if answer.get("id") == self._last_id:
                break
            self._note(answer)
        if "error" in answer:
            raise PageError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def close(self) -> None:
        """End the browser."""
        for end in (self._to, self._from):
            with suppress(OSError):
                os.close(end)
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10.0)

    def _attach(self, width: int, height: int) -> None:
        targets = self.command("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.command("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        self.command("Page.enable")
        self.command("Runtime.enable")
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def _receive(self, method: str, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"the browser did not answer {method}")
            part = os.read(self._from, 1 << 20)
            if not part:
                raise PageError("the browser has ended")
            self._buffer += part
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(_text_of(parameters["exceptionDetails"]))
        if event.get("method") == "Runtime.consoleAPICalled" and parameters["type"] == "error":
            parts = (part.get("value") or part.get("description", "") for part in parameters["args"])
            self.complaints.append(" ".join(map(str, parts))[:500])
        if event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(parameters["entry"]["text"][:500])  # once Log is enabled


def _pipe() -> tuple[int, int]:
    """Return reading and writing end of a pipe. Their numbers are above the descriptors of DevTools."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE_FD) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]


def _text_of(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details.get("text", ""))[:500]
