"""A headless Chromium for the tests, driven over its DevTools protocol."""

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from tornado.websocket import websocket_connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
PATIENCE = 60


class Page:
    """One tab: what it shows, and what went wrong in it."""

    def __init__(self, address):
        self._loop = asyncio.new_event_loop()
        self._socket = self._run(websocket_connect, address, max_message_size=2**26)
        self._numbers = itertools.count(1)
        self.errors, self.requests = [], []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _run(self, function, *args, **options):
        async def bounded():
            return await asyncio.wait_for(function(*args, **options), PATIENCE)

        return self._loop.run_until_complete(bounded())

    def call(self, method, **params):
        """Call a method of the protocol, taking note of events meanwhile."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        self._run(self._socket.write_message, json.dumps(message))
        while True:
            found = json.loads(self._run(self._socket.read_message))
            self._note(found)
            if found.get("id") == number:
                assert "error" not in found, found
                return found["result"]

    def _note(self, event):
        kind, params = event.get("method"), event.get("params", {})
        if kind == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"])
        elif kind == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append([arg.get("value", arg.get("description")) for arg in params["args"]])
        elif kind == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"])
        elif kind == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def open(self, url, width=1280, height=900, dark=False):
        """Go to an address, in a window of some size, and wait until it is loaded."""
        self.errors.clear()
        self.requests.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call("Emulation.setScrollbarsHidden", hidden=True)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)
        self.wait("location.href != 'about:blank' && document.readyState == 'complete'")

    def js(self, expression):
        """Return the value of an expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression):
        """Wait until an expression is true."""
        until = time.monotonic() + PATIENCE
        while not self.js(expression):
            assert time.monotonic() < until, f"{expression} did not come true: {self.errors}"
            time.sleep(0.05)

    def overflow(self):
        """Return by how many pixels the page is wider than its window."""
        return self.js("document.documentElement.scrollWidth - window.innerWidth")

    def picture(self, path):
        """Write a screenshot of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(found["data"]))

    def close(self):
        async def close():  # tornado wants a loop that runs
            self._socket.close()

        self._run(close)
        self._loop.close()


@contextmanager
def browser():
    """Start Chromium, and yield a page of it."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [
                CHROMIUM,
                "--headless=new",
                "--no-sandbox",  # containers, whose root it would refuse to run as
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--no-first-run",
                "--remote-debugging-port=0",
                f"--user-data-dir={folder}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield from _pages(Path(folder) / "DevToolsActivePort", process)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _pages(file, process):
    until = time.monotonic() + PATIENCE
    while not (file.exists() and len(file.read_text().splitlines()) == 2):
        assert process.poll() is None, f"{CHROMIUM} ended with {process.returncode}"
        assert time.monotonic() < until, f"{CHROMIUM} did not start"
        time.sleep(0.05)
    port = file.read_text().splitlines()[0]
    with urlopen(f"http://127.0.0.1:{port}/json", timeout=PATIENCE) as answer:
        tabs = [target for target in json.load(answer) if target["type"] == "page"]
    page = Page(tabs[0]["webSocketDebuggerUrl"])
    try:
        yield page
    finally:
        page.close()
