"""Four replicas on loopback, for the scripts beside this one."""

import contextlib
import os
import pathlib
import socket
import subprocess
import time
import typing
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
REPLICAS = 4


def free_ports(kind, count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, kind)) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


class Replica(typing.NamedTuple):
    id: str
    # Where it is seen over HTTP.
    port: int
    process: subprocess.Popen


def start_replicas(home, replica, stack):
    """Starts them, one under tokio and the next under smol."""
    udp, tcp = free_ports(socket.SOCK_DGRAM, REPLICAS), free_ports(socket.SOCK_STREAM, REPLICAS)
    topology, ids, started = "version = 1\n", [], []
    for n in range(REPLICAS):
        key = subprocess.run([replica, "keygen", home / f"key{n}"], check=True, capture_output=True, text=True)
        ids.append(key.stdout.strip())
        topology += f'[[member]]\nid = "{ids[n]}"\naddress = "127.0.0.1:{udp[n]}"\n'
    (home / "topology.toml").write_text(topology)
    for n in range(REPLICAS):
        (home / f"publish{n}").mkdir()
        log = stack.enter_context(open(home / f"log{n}", "w", encoding="utf-8"))
        command = [replica, "run", "--key", home / f"key{n}", "--listen", f"127.0.0.1:{udp[n]}"]
        command += ["--topology", home / "topology.toml", "--publish", home / f"publish{n}"]
        command += ["--received", home / f"received{n}", "--metrics", f"127.0.0.1:{tcp[n]}"]
        command += ["--runtime", ["tokio", "smol"][n % 2]]
        process = subprocess.Popen(command, stderr=log)
        stack.callback(stop, process)
        started.append(Replica(ids[n], tcp[n], process))
    return started


def stop(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def publish(home, seconds):
    """Some load: short files and long ones, which come and go."""
    end, turn = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        folder = home / f"publish{turn % REPLICAS}"
        (folder / "short").write_text(f"turn {turn}")
        (folder / "long").write_bytes(os.urandom(1 << 20))
        turn += 1
        time.sleep(0.5)
