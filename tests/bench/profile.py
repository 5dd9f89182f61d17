#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Where a row's instructions go: profile.py SOCKET LOG TREE MODULES

Stops the machine behind QEMU's monitor SOCKET now and then and asks where it is.
LOG is the output of tests/bench/bench.c so far: a sample counts for the figure
that is told next, so what prepares a figure is in it, too.  Symbols are those of
the kernel in TREE and of the modules in directory MODULES.
"""
import bisect
import collections
import json
import os
import re
import socket
import subprocess
import sys
import time

INTERVAL = 0.004
LEAST_SAMPLES = 30
FUNCTIONS = 8


class Monitor:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.1)
        self.file = self.socket.makefile("rw")
        self.file.readline()
        self.ask("qmp_capabilities")

    def ask(self, what, **arguments):
        self.file.write(json.dumps({"execute": what, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            answer = self.file.readline()
            if not answer:
                raise EOFError
            answer = json.loads(answer)
            if "return" in answer or "error" in answer:
                return answer.get("return")

    def where(self):
        """The first CPU's instruction pointer and privilege level."""
        self.ask("stop")
        text = self.ask("human-monitor-command", **{"command-line": "info registers"})
        self.ask("cont")
        rip, level = (re.search(p, text) for p in (r"RIP=([0-9a-f]+)", r"CPL=(\d)"))
        return rip and level and (int(rip.group(1), 16), int(level.group(1)))


def sample(path, log):
    samples = []
    monitor = Monitor(path)
    try:
        while True:
            time.sleep(INTERVAL)
            at = monitor.where()
            if at:
                samples.append((os.path.getsize(log),) + at)
    except (EOFError, OSError, ValueError):
        return samples


def symbols(text, tree, modules):
    found = []
    with open(f"{tree}/System.map") as f:
        for line in f:
            address, kind, name = line.split()[:3]
            if kind in "tTwW":
                found.append((int(address, 16), name))
    for name, base in re.findall(r"^# (\S+) \d+ \d+ \S+ \S+ (0x[0-9a-f]+)", text, re.M):
        paths = [f"{modules}/{name}.ko", f"{tree}/arch/x86/kvm/{name.replace('_', '-')}.ko"]
        for path in filter(os.path.exists, paths):
            for line in subprocess.check_output(["nm", path], text=True).splitlines():
                fields = line.split()
                if len(fields) == 3 and fields[1] in "tT":
                    found.append((int(base, 16) + int(fields[0], 16), f"{fields[2]} [{name}]"))
    return sorted(found)


def main(path, log, tree, modules):
    samples = sample(path, log)
    with open(log) as f:
        text = f.read()
    table = symbols(text, tree, modules)
    addresses = [address for address, _ in table]
    lines = text.splitlines(keepends=True)
    ends, end = [], 0
    for line in lines:
        end += len(line)
        ends.append(end)
    figures = collections.defaultdict(collections.Counter)
    for size, rip, level in samples:
        n = bisect.bisect_right(ends, size)
        fields = lines[n].rstrip("\n").split("\t") if n < len(lines) else []
        if len(fields) == 6:
            at = max(bisect.bisect_right(addresses, rip) - 1, 0)
            figures["  ".join((fields[0], *fields[2:5]))][
                "user space" if level == 3 else table[at][1]] += 1
    for figure, counter in figures.items():
        total = sum(counter.values())
        if total < LEAST_SAMPLES:
            continue
        print(f"{figure}: {total} samples")
        for name, n in counter.most_common(FUNCTIONS):
            print(f"    {100 * n / total:5.1f}%  {name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
