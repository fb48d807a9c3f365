"""A headless Chromium that tests open pages in, driven over a pipe by its own protocol: nothing to install but it."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SECONDS = 60  # that an answer may take on a machine with much else to do


def find_browser():
    """The browser's path: that of PYWS_BROWSER or the first known name that is installed; None where there is none."""
    return next(filter(None, map(shutil.which, filter(None, [os.environ.get("PYWS_BROWSER"), *NAMES]))), None)


class Browser:
    """A browser with one page. ``errors`` collects what the page complains of: exceptions, refused content."""

    def __init__(self, profile, width=1280, height=900):
        self._from_us, ours = os.pipe()
        theirs, self._to_us = os.pipe()
        self._write, self._read = ours, theirs
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe",
                   f"--user-data-dir={profile}", f"--window-size={width},{height}"]  # fmt: skip
        # the protocol is spoken on descriptors 3 (to the browser) and 4 (from it)
        command = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", command, "bash", str(self._from_us), str(self._to_us), find_browser(), *options],
            pass_fds=(self._from_us, self._to_us), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(self._from_us)
        os.close(self._to_us)
        self._buffer, self._number, self._events, self._session = b"", 0, [], None
        self.errors = []
        target = self._say("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._say("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._say("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._say(f"{domain}.enable")

    def open(self, page, anchor=""):
        """Load a page from disk and wait until it has loaded."""
        # by way of an empty page: another anchor of the same page would load nothing
        for address in ("about:blank", Path(page).resolve().as_uri() + anchor):
            self._events.clear()
            self.errors.clear()
            self._say("Page.navigate", url=address)
            end = time.monotonic() + SECONDS
            while "Page.loadEventFired" not in self._events:
                self._take(end)

    def run(self, expression):
        """The value of a JavaScript expression; a promise is waited for."""
        found = self._say("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"].get("exception", {}).get("description"))
        return found["result"].get("value")

    def until(self, expression):
        """Wait until an expression is true."""
        end = time.monotonic() + SECONDS
        while not self.run(f"!!({expression})"):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.02)

    def press(self, key, code=0):
        """A key, as a person presses it."""
        for kind in ("keyDown", "keyUp"):
            self._say("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                      text="\r" if key == "Enter" and kind == "keyDown" else "")  # fmt: skip

    def type(self, letter):
        """A letter into what has the focus."""
        self._say("Input.insertText", text=letter)

    def click(self, selector):
        """The middle of an element, where the pointer would hit it, once nothing on the page moves it any more."""
        x, y = self.run(
            f"(async () => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "for (let before = '', still = 0; ; ) {"
            "  await new Promise(requestAnimationFrame);"
            "  const r = e.getBoundingClientRect(), at = [r.x + r.width / 2, r.y + r.height / 2];"
            "  still = String(at) === before && e.contains(document.elementFromPoint(...at)) ? still + 1 : 0;"
            "  before = String(at);"
            "  if (still === 5) return at; } })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._say("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def emulate(self, **features):
        """Media features, such as prefers_color_scheme="dark"."""
        named = [
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items() if name != "media"
        ]
        self._say("Emulation.setEmulatedMedia", media=features.get("media", ""), features=named)

    def picture(self, path, whole=False):
        """A screenshot as PNG, of what is in view or of the whole page."""
        data = self._say("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def megabytes(self):
        """What the page's JavaScript heap takes."""
        return self._say("Runtime.getHeapUsage")["usedSize"] / 2**20

    def close(self):
        os.close(self._write)
        os.close(self._read)
        self._process.terminate()
        self._process.wait()

    def _say(self, method, **parameters):
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + SECONDS
        while True:
            answer = self._take(end)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _take(self, end):
        """The next message; events are kept, and what the page complains of."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._read, 1 << 20)
            assert part, "the browser ended"
            self._buffer += part
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(raw)
        name, about = message.get("method"), message.get("params", {})
        if name:
            self._events.append(name)
        if name == "Runtime.exceptionThrown":
            self.errors.append(about["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif name == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.errors.append(about["entry"]["text"])
        return message
