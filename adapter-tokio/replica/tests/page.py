#!/usr/bin/env python3
"""Looks at the status page of a replica in a headless browser.

Four replicas publish and abort; the page of one has to show what its /metrics says, without an error of
JavaScript and without a request to anywhere else, to show that a member has gone, and that the replica has.

Needs `chromium` (Debian's package of that name) in the path, or where $CHROMIUM says, and the program, built:

    cargo build --release -p slotcast-replica
    python3 adapter-tokio/replica/tests/page.py [--replica target/release/slotcast-replica] [--screenshots DIR]
"""

import argparse
import base64
import contextlib
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error

from replicas import REPLICAS, ROOT, get, publish, start_replicas, stop

PATIENCE = 30


class Browser:
    """One page of a Chromium, by the protocol of its developer tools over a pair of pipes."""

    def __init__(self, program, home, stack):
        ours, theirs_out = os.pipe()
        theirs_in, self.commands = os.pipe()
        self.answers, self.rest, self.turn = ours, b"", 0
        self.errors, self.requests = [], []
        # The protocol is at the file descriptors 3 and 4.
        wrapper = ["sh", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "sh"]
        command = [program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"]
        command += ["--no-first-run", "--hide-scrollbars", f"--user-data-dir={home}/browser"]
        log = stack.enter_context(open(home / "browser.log", "w", encoding="utf-8"))
        process = subprocess.Popen(wrapper + command, pass_fds=(theirs_in, theirs_out), stdout=log, stderr=log)
        stack.callback(stop, process)
        os.close(theirs_in)
        os.close(theirs_out)
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self.turn += 1
        message = {"id": self.turn, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.turn:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]

    def read(self):
        """The next message; what it says of errors and requests is kept."""
        while b"\0" not in self.rest:
            if not select.select([self.answers], [], [], PATIENCE)[0]:
                sys.exit("the browser does not answer")
            more = os.read(self.answers, 1 << 16)
            if not more:
                sys.exit("the browser has ended")
            self.rest += more
        one, self.rest = self.rest.split(b"\0", 1)
        message = json.loads(one)
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(params["exceptionDetails"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.errors.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
        return message

    def evaluate(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in result:
            sys.exit(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def cell(self, table, key, column):
        return self.evaluate(
            f'document.querySelector(`#{table} [data-key="{key}"] [data-column="{column}"]`)?.textContent'
        )

    def screenshot(self, path, scheme, width):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        png = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(png))


def wait_until(what, is_so):
    end = time.monotonic() + PATIENCE
    while not (last := is_so()):
        if time.monotonic() > end:
            sys.exit(f"not within {PATIENCE} s: {what}")
        time.sleep(0.1)
    return last


def metrics(url):
    """Values by name with labels."""
    lines = (line for line in get(f"{url}/metrics").splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def are_up(url):
    try:
        return total(metrics(url), "slotcast_peer_up{") == REPLICAS - 1
    except urllib.error.URLError:
        return False  # It does not listen yet.


def total(values, name, *labels):
    return sum(value for key, value in values.items() if key.startswith(name) and all(one in key for one in labels))


def number(text):
    return int(text.split(" ")[0].replace(",", ""))


def check_numbers(browser, url):
    """What stands still when nobody publishes is the same on the page and in the metrics."""

    def differences():
        values = metrics(url)
        tile = 'document.querySelector(`[data-key="connected"] b`).textContent'
        pairs = {
            "members": (number(browser.evaluate(tile)), total(values, "slotcast_peer_up{")),
            "delivered": (
                number(browser.cell("channels", 1, "delivered")),
                total(values, "slotcast_channel_events_total", 'channel="1"', '"delivered"'),
            ),
            "expired": (
                number(browser.cell("channels", 1, "expired")),
                total(values, "slotcast_channel_events_total", 'channel="1"', '"expired"'),
            ),
            "active": (
                number(browser.cell("channels", 1, "active")),
                total(values, "slotcast_channel_active_artifacts{", 'channel="1"'),
            ),
        }
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}, pairs

    wait_until("the page shows what the metrics say", lambda: not differences()[0])
    pairs = differences()[1]
    assert pairs["members"][0] == REPLICAS - 1 and pairs["delivered"][0] > 0, pairs
    print("the same on the page and in the metrics:", {name: pair[0] for name, pair in pairs.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replica", type=pathlib.Path, default=ROOT / "target/release/slotcast-replica")
    parser.add_argument("--screenshots", type=pathlib.Path)
    arguments = parser.parse_args()
    program = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if program is None:
        sys.exit("there is no Chromium: install the package `chromium`, or set $CHROMIUM")
    with contextlib.ExitStack() as stack:
        home = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shots = arguments.screenshots or home / "screenshots"
        shots.mkdir(parents=True, exist_ok=True)
        replicas = start_replicas(home, arguments.replica.resolve(), stack)
        url = f"http://127.0.0.1:{replicas[0].port}"
        wait_until("all are up", lambda: are_up(url))
        assert get(f"{url}/healthz") == "ok\n"
        browser = Browser(program, home, stack)
        browser.call("Page.navigate", url=f"{url}/")
        state = 'document.getElementById("state").textContent'
        wait_until("the page is there", lambda: browser.evaluate("document.readyState") == "complete")
        wait_until("it runs", lambda: browser.evaluate(state) == "running")

        publish(home, 12)
        rates = 'document.querySelector(`[data-key="received"] b`).textContent'
        assert browser.evaluate(rates) not in ("–", "0 B/s"), "no rate is shown"
        browser.screenshot(shots / "light.png", "light", 1280)
        browser.screenshot(shots / "dark.png", "dark", 1280)
        browser.screenshot(shots / "narrow.png", "light", 420)
        check_numbers(browser, url)

        stop(replicas[1].process)
        gone = replicas[1].id
        wait_until("the page shows that a member has gone",
                   lambda: browser.cell("peers", gone, "state") == "not connected")
        browser.screenshot(shots / "gone.png", "light", 1280)
        assert not browser.errors, browser.errors
        strangers = [one for one in browser.requests if not one.startswith((url + "/", "data:"))]
        assert not strangers, strangers
        print(f"{len(browser.requests)} requests, all to the replica; no errors")

        stop(replicas[0].process)
        wait_until("the page says that nobody answers", lambda: browser.evaluate(state) == "no answer")
        browser.screenshot(shots / "ended.png", "dark", 1280)


main()
