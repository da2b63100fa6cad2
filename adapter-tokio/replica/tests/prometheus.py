#!/usr/bin/env python3
"""Scrapes four replicas with a Prometheus for a minute, and asks it every query of the dashboard.

Needs `prometheus` (Debian's package of that name) in the path, or where $PROMETHEUS says, and the program,
built:

    cargo build --release -p slotcast-replica
    python3 adapter-tokio/replica/tests/prometheus.py [--replica target/release/slotcast-replica] [--seconds 60]

Exit code 0 if each query has given data.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse

from replicas import REPLICAS, ROOT, free_ports, get, publish, start_replicas, stop

DASHBOARD = ROOT / "core/grafana/dashboard.json"
# Grafana fills these in: the instances that are chosen, and a span of some scrapes.
VARIABLES = {"$instance": ".*", "$__rate_interval": "10s"}


def ask(prometheus, query):
    """The series that a query gives now."""
    url = f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    try:
        answer = json.loads(get(url))
    except urllib.error.HTTPError as error:
        sys.exit(f"{query}\n{error.read().decode()}")
    return answer["data"]["result"]


def start_prometheus(home, program, targets, stack):
    [port] = free_ports(socket.SOCK_STREAM, 1)
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "slotcast", "static_configs": [{"targets": targets}]}],
    }
    # JSON is YAML, too.
    (home / "prometheus.yml").write_text(json.dumps(config))
    log = stack.enter_context(open(home / "prometheus.log", "w", encoding="utf-8"))
    command = [program, f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    stack.callback(stop, subprocess.Popen(command, stdout=log, stderr=log))
    return f"http://127.0.0.1:{port}"


def queries():
    """The title of each panel with its queries."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            yield panel["title"], query


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replica", type=pathlib.Path, default=ROOT / "target/release/slotcast-replica")
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    program = shutil.which(os.environ.get("PROMETHEUS", "prometheus"))
    if program is None:
        sys.exit("there is no Prometheus: install the package `prometheus`, or set $PROMETHEUS")
    replica = arguments.replica.resolve()
    with contextlib.ExitStack() as stack:
        home = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        replicas = start_replicas(home, replica, stack)
        targets = [f"127.0.0.1:{one.port}" for one in replicas]
        prometheus = start_prometheus(home, program, targets, stack)
        publish(home, arguments.seconds)
        up = ask(prometheus, 'sum(up{job="slotcast"})')
        if not up or up[0]["value"][1] != str(REPLICAS):
            sys.exit(f"not all replicas were scraped: {up}\n" + (home / "prometheus.log").read_text()[-2000:])
        empty, count = [], 0
        for title, query in queries():
            series = ask(prometheus, query)
            instances = {one["metric"].get("instance") for one in series}
            numbers = [one["value"][1] for one in series if one["value"][1] != "NaN"]
            count += 1
            print(f"{len(series):4} series, {len(instances)} instances, {len(numbers):4} numbers  {title}: {query}")
            if len(instances) < REPLICAS or not numbers:
                empty.append((title, query))
        text = get(f"http://{targets[0]}/metrics")
    print(f"{count} queries; a scrape has {len(text)} bytes, {text.count(chr(10))} lines")
    for title, query in empty:
        print(f"no data: {title}: {query}", file=sys.stderr)
    sys.exit(1 if empty else 0)


main()
