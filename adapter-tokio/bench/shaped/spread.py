#!/usr/bin/env python3
"""One artifact to all members over links of a given rate: replicas in network namespaces of their own.

    cargo build --release -p slotcast-replica
    python3 adapter-tokio/bench/shaped/spread.py [--nodes 13] [--bytes 4194304] [--rate 100] [--uplink 0.98]

Every replica has a network namespace with one interface. The interfaces meet at a bridge, in another
namespace. A token bucket (tbf) limits each link in both directions, so that a member has an uplink and
a downlink of the given rate. One replica publishes; what the others' logs say of when they received it
is printed as a multiple of S/B: S are the artifact's bytes, B is the rate. How much a node has sent, all
headers included, is read from the token buckets, and printed in copies of S.

With --uplink, the replicas are configured with that part of B as their uplinks' rate: they keep their queues
to themselves, and nothing is dropped.

Thirteen replicas share the processors. Of a slower link (--rate 25) they are not the bound.

The first round is cold: nothing but handshakes went over the connections before. Later rounds are warm.

No namespace is connected with the machine's network. All of them, the files and the processes live in
namespaces of processes and mounts that belong to this script, and end with it, even if it is killed. It
needs Linux, Python 3.8, iproute2 (`ip`, `tc`), util-linux (`unshare`), and either root or namespaces for
users without privileges.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

# What is inside the namespaces looks for this, and does not make them again.
INSIDE = "SLOTCAST_SHAPED_INSIDE"

# In the private mount namespace these are empty, and in memory.
NAMESPACES = "/run/netns"
HOME = "/run/shaped"

HUB = "hub"
PORT = 7000

# Between two looks at the logs.
LOOK_S = 0.02

# Processes start and shake hands, n * (n - 1) / 2 times, on few cores.
CONNECT_S = 60

LINE = re.compile(r"\[(\d+\.\d+)\] (.*)")


class Failure(Exception):
    """The measurement could not be made, for a reason that a person can act on."""


def arguments():
    summary, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = os.path.dirname(os.path.abspath(__file__))
    built = os.path.normpath(os.path.join(here, "../../../target/release/slotcast-replica"))
    parser.add_argument("--nodes", type=int, default=13, help="replicas (default 13)")
    parser.add_argument("--bytes", type=int, default=4 << 20, help="S (default 4 MiB)")
    parser.add_argument("--rate", type=float, default=100, help="B in Mbit/s (default 100)")
    parser.add_argument("--rounds", type=int, default=2, help="artifacts, one after the other (default 2)")
    parser.add_argument("--queue", type=float, default=50,
                        help="ms that a packet may wait at a link before packets are dropped (default 50: "
                             "half a megabyte at 100 Mbit/s, about what a port of a switch has)")
    parser.add_argument("--uplink", type=float, metavar="PART",
                        help="part of B that each replica is told as its uplink's rate (default: not told)")
    parser.add_argument("--runtime", choices=["tokio", "smol"], default="tokio")
    parser.add_argument("--limit", type=float, default=300, help="seconds for everything (default 300)")
    parser.add_argument("--replica", default=built, metavar="PATH", help=f"default {built}")
    parser.add_argument("--logs", action="store_true", help="print the replicas' logs in the end")
    options = parser.parse_args()
    positive = [options.bytes, options.rate, options.rounds, 1 if options.uplink is None else options.uplink]
    if not 2 <= options.nodes <= 200 or min(positive) <= 0:
        parser.error("--nodes is 2 to 200; --bytes, --rate, --rounds and --uplink are above 0")
    return options


# Outside: what is missing, and the namespaces.

def what_is_missing(options):
    if not sys.platform.startswith("linux"):
        return "network namespaces are a feature of Linux"
    for program, package in [("ip", "iproute2"), ("tc", "iproute2"), ("unshare", "util-linux")]:
        if not shutil.which(program, path=search_path()):
            return f"there is no `{program}`: install {package}"
    if not os.access(options.replica, os.X_OK):
        return (f"there is no {options.replica}: "
                "cargo build --release -p slotcast-replica")
    trial = subprocess.run(unshare() + ["true"], capture_output=True, text=True)
    if trial.returncode != 0:
        return f"namespaces cannot be made, not even as root of one's own: {trial.stderr.strip()}"
    return None


def search_path():
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def unshare():
    """Everything inside ends with the process that this starts, however that ends."""
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return command if os.geteuid() == 0 else command + ["--user", "--map-root-user"]


def go_inside(options):
    missing = what_is_missing(options)
    if missing:
        raise Failure(missing)
    environment = dict(os.environ, **{INSIDE: "1", "PATH": search_path()})
    script = [sys.executable, os.path.abspath(__file__)]
    # The pipe breaks when this process ends, even if it is killed, and then all of the inside ends.
    child = subprocess.Popen(unshare() + script + sys.argv[1:], env=environment, stdin=subprocess.PIPE)

    def stop(number, _):
        child.kill()
        child.wait()
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    # The limit is kept inside; this is for the case that something hangs there.
    try:
        return child.wait(options.limit + 30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        raise Failure("it hangs")


# Inside.

def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"`{' '.join(command)}` fails: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def make_private_folders():
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "shaped", "/run")
    os.mkdir(NAMESPACES)
    os.mkdir(HOME)


def shape(namespace, interface, options):
    """Holds what leaves through an interface to the rate.

    The bucket takes what the rate brings in two milliseconds, and at least two batches of segments (GSO)
    that replicas hand over at once: timers are late by some part of a millisecond, and with a smaller bucket
    the rate would not be reached. It is far below the artifact, so that it gives nothing away."""
    burst = max(int(options.rate * 1e6 / 8 * 0.002), 32 << 10)
    run("tc", "-n", namespace, "qdisc", "add", "dev", interface, "root", "tbf",
        "rate", f"{options.rate}mbit", "burst", f"{burst}b", "latency", f"{options.queue}ms")


def make_network(nodes, options):
    run("ip", "netns", "add", HUB)
    run("ip", "-n", HUB, "link", "add", "bridge", "type", "bridge")
    run("ip", "-n", HUB, "link", "set", "bridge", "up")
    for node in nodes:
        run("ip", "netns", "add", node.name)
        run("ip", "-n", HUB, "link", "add", node.name, "type", "veth",
            "peer", "name", "uplink", "netns", node.name)
        run("ip", "-n", HUB, "link", "set", node.name, "master", "bridge", "up")
        run("ip", "-n", node.name, "address", "add", f"{node.address}/16", "dev", "uplink")
        run("ip", "-n", node.name, "link", "set", "uplink", "up")
        shape(node.name, "uplink", options)
        shape(HUB, node.name, options)


class Node:
    def __init__(self, at, options):
        self.name = f"node{at}"
        self.address = f"10.77.{at >> 8}.{(at & 255) + 1}"
        self.home = os.path.join(HOME, self.name)
        self.options = options
        self.process = None
        # What its log says: pairs of time and text.
        self.lines = []
        self.log = None
        os.mkdir(self.home)
        os.mkdir(self.path("publish"))
        self.id = run(options.replica, "keygen", self.path("key")).strip()

    def path(self, name):
        return os.path.join(self.home, name)

    def configuration(self):
        """The arguments with which it is told its uplink's rate."""
        if self.options.uplink is None:
            return []
        rate = int(self.options.rate * 1e6 / 8 * self.options.uplink)
        with open(self.path("replica.toml"), "w") as file:
            file.write(f"[[node.channels]]\nid = 1\n[node.transport]\nuplink = {rate}\n")
        return ["--config", self.path("replica.toml")]

    def start(self, topology):
        log = open(self.path("log"), "w")
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, self.options.replica, "run", "--key", self.path("key"),
             "--listen", f"{self.address}:{PORT}", "--topology", topology,
             "--publish", self.path("publish"), "--received", self.path("received"),
             "--runtime", self.options.runtime, "--relay", "spread", "--log-times", "unix", *self.configuration()],
            stdin=subprocess.DEVNULL, stderr=log)
        self.log = open(self.path("log"))

    def read_log(self):
        if self.process.poll() is not None:
            raise Failure(f"{self.name} has ended:\n{open(self.path('log')).read()}")
        while True:
            position = self.log.tell()
            line = self.log.readline()
            if not line.endswith("\n"):
                self.log.seek(position)
                return
            match = LINE.match(line)
            if match:
                self.lines.append((float(match[1]), match[2]))

    def count(self, text):
        return sum(text in line for _, line in self.lines)

    def time_of(self, text):
        return next((at for at, line in self.lines if line.startswith(text)), None)

    def bytes_sent(self):
        """All that has left the node, with the headers of IP and Ethernet, and the packets dropped."""
        shown = json.loads(run("tc", "-n", self.name, "-s", "-j", "qdisc", "show", "dev", "uplink"))
        bucket = next(qdisc for qdisc in shown if qdisc["kind"] == "tbf")
        return bucket["bytes"], bucket["drops"]


def wait_for(what, nodes, limit_s, is_done):
    end = time.monotonic() + limit_s
    while True:
        for node in nodes:
            node.read_log()
        if is_done():
            return
        if time.monotonic() > end:
            raise Failure(f"not within {limit_s:.0f} s: {what}")
        time.sleep(LOOK_S)


def start_all(nodes):
    topology = os.path.join(HOME, "topology.toml")
    with open(topology, "w") as file:
        file.write("version = 1\n")
        for node in nodes:
            file.write(f'[[member]]\nid = "{node.id}"\naddress = "{node.address}:{PORT}"\n')
    for node in nodes:
        node.start(topology)
    others = len(nodes) - 1
    wait_for("all are connected", nodes, CONNECT_S,
             lambda: all(node.count(" is up") >= others for node in nodes))


def publish(nodes, number, options):
    """One round: the seconds until each of the others had it, and what each node has sent and dropped."""
    publisher, others = nodes[0], nodes[1:]
    name, file = f"artifact{number}", publisher.path(f"publish/artifact{number}")
    before = [node.bytes_sent() for node in nodes]
    with open(publisher.path("part"), "wb") as part:
        part.write(os.urandom(options.bytes))
    os.rename(publisher.path("part"), file)
    # As long as it takes to send all copies one after the other, three times over.
    seconds = options.bytes * 8 / (options.rate * 1e6)
    wait_for("all have it", nodes, 10 + 3 * seconds * len(others),
             lambda: all(node.time_of(f'received "{name}"') for node in others))
    begun = publisher.time_of(f'published "{name}"')
    took = sorted(node.time_of(f'received "{name}"') - begun for node in others)
    # The last acknowledgements have left.
    time.sleep(0.5)
    after = [node.bytes_sent() for node in nodes]
    os.remove(file)
    wait_for("all have heard of the abort", nodes, 10,
             lambda: all(node.time_of(f'expired "{name}"') for node in others))
    spent = [tuple(now - then for now, then in zip(*pair)) for pair in zip(after, before)]
    return took, spent


def report(number, took, spent, options):
    ideal = options.bytes * 8 / (options.rate * 1e6)
    copies = [sent / options.bytes for sent, _ in spent]
    relays = sorted(copies[1:])
    first, median, last = took[0], took[len(took) // 2], took[-1]
    print(f"round {number} ({'cold' if number == 1 else 'warm'}): first {first / ideal:.2f}, "
          f"median {median / ideal:.2f}, last {last / ideal:.2f} x S/B ({last:.3f} s); "
          f"sent, in copies of S: publisher {copies[0]:.2f}, "
          f"others {relays[0]:.2f} to {relays[-1]:.2f}, all {sum(copies):.2f}; "
          f"packets dropped at uplinks: {sum(dropped for _, dropped in spent)}", flush=True)
    return last / ideal, copies[0]


def measure(options):
    make_private_folders()
    nodes = [Node(at, options) for at in range(options.nodes)]
    make_network(nodes, options)
    try:
        start_all(nodes)
        ideal = options.bytes * 8 / (options.rate * 1e6)
        print(f"{options.nodes} replicas ({options.runtime}), S = {options.bytes} bytes, B = {options.rate:g} "
              f"Mbit/s both ways, S/B = {ideal:.3f} s, queues of {options.queue:g} ms, "
              f"uplinks' rate {f'told: {options.uplink:g} B' if options.uplink else 'not told'}", flush=True)
        for number in range(1, options.rounds + 1):
            took, spent = publish(nodes, number, options)
            report(number, took, spent, options)
        warnings = {line for node in nodes for _, line in node.lines if line.startswith("warning")}
        print("".join(f"{line}\n" for line in sorted(warnings)), end="")
    finally:
        if options.logs:
            for node in nodes:
                if node.log:
                    print(f"--- {node.name}\n{open(node.path('log')).read()}", end="")


def end_with_the_outside():
    os.read(0, 1)
    # This is the first process of its namespace: all others are killed.
    os._exit(1)


def inside(options):
    threading.Thread(target=end_with_the_outside, daemon=True).start()

    def late(*_):
        raise Failure(f"not done within {options.limit:.0f} s")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, options.limit)
    measure(options)


def main():
    options = arguments()
    try:
        if INSIDE not in os.environ:
            return go_inside(options)
        inside(options)
        return 0
    except Failure as failure:
        print(f"cannot measure: {failure}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
