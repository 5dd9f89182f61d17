#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What came of the benchmarks.

  report.py DIR KEY=VALUE... MODE=FILE...   add what FILEs have to DIR/results.json,
                                            print the table, draw the plots
  report.py --readme README DIR             put eight lines of the table into README,
                                            the main ones into DIR/README.md
  report.py --compare DIR DIR               how far the medians of two runs are apart
  report.py --record BASELINE KEY=VALUE... FILE...   write down the least, to guard it
  report.py --guard BASELINE KEY=VALUE... FILE...    compare; status 1 if one is 5% off,
                                  77 if the baseline was made with something else

A FILE is the output of tests/bench/bench.c.  KEY=VALUE says what it was made with.
"""
import json
import os
import statistics
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import plot  # noqa: E402

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
GUARD_PERCENT = 5


def read(path):
    """{(row, who, what, size): [a value each round]}"""
    values = {}
    for line in open(path):
        fields = line.rstrip("\n").split("\t")
        if len(fields) == 6:
            row, _, who, what, size, value = fields
            values.setdefault((row, who, what, int(size)), []).append(int(value))
    if not values:
        sys.exit(f"{path}: no figures in it")
    return values


# --- results.json ------------------------------------------------------------

def load(path):
    try:
        with open(path) as f:
            return json.load(f)
    except FileNotFoundError:
        return {"made_with": {"commit": {}}, "modes": {}}


def merge(results, mode, values, commit):
    """A row that was run again replaces what there was of it."""
    rows = {key[0] for key in values}
    results["made_with"]["commit"].update((row, commit) for row in sorted(rows))
    kept = [e for e in results["modes"].get(mode, []) if e["row"] not in rows]
    new = [{"row": row, "who": who, "what": what, "size": size, "rounds": len(v),
            "median": round(statistics.median(v)), "min": min(v), "max": max(v)}
           for (row, who, what, size), v in values.items()]
    results["modes"][mode] = sorted(kept + new, key=lambda e: e["row"])


def save(results, path):
    """One figure a line."""
    with open(path, "w") as f:
        f.write('{"made_with": ' + json.dumps(results["made_with"]) + ',\n"modes": {\n')
        f.write(",\n".join(
            f"{json.dumps(mode)}: [\n" + ",\n".join(json.dumps(e) for e in entries) + "\n]"
            for mode, entries in sorted(results["modes"].items())))
        f.write("\n}}\n")


class Figures:
    def __init__(self, results, mode):
        self.all = {(e["row"], e["who"], e["what"], e["size"]): e
                    for e in results["modes"].get(mode, [])}

    def get(self, row, who, what, size, which="median"):
        entry = self.all.get((row, who, what, size))
        return entry and entry[which]

    def points(self, row, who, what, least=0):
        return [(key[3], e["median"]) for key, e in self.all.items()
                if key[:3] == (row, who, what) and e["median"] > 0 and key[3] >= least]


# --- the table ---------------------------------------------------------------

def size_name(size):
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return str(size)


def plain(ratio):
    """Two digits, or all of a number that has more."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"


def comparisons(f, counted):
    """(row, what, gmemfd's figure, peer, peer's figure, ratio wanted)

    The ratio is the peer's figure by gmemfd's; None: no target.  Rows that lack
    a figure are left out by the caller.
    """
    def secret(size):
        return f.get("a", "memfd_secret", "out and back", size)

    for size in (4 * KIB, 2 * MIB, 64 * MIB, GIB):
        yield ("a", f"out of the direct map and back, {size_name(size)}",
               f.get("a", "gmemfd", "out and back", size), "memfd_secret", secret(size),
               1000 if size == GIB else None)
    yield ("a", "the same, zeroed before and after, 1 GiB",
           f.get("a", "gmemfd", "with zeroing twice", GIB), "memfd_secret", secret(GIB), None)

    for size in (4 * KIB, 64 * KIB, 2 * MIB, 64 * MIB, GIB):
        for way in ("to shared", "to private"):
            ours = f.get("b", "gmemfd, 1 GiB blocks", way, size)
            wanted = (20, 50) if size in (2 * MIB, GIB) else (None, None)
            for who in ("two pools", "two pools, hugetlb"):
                yield ("b", f"range {way}, {size_name(size)}", ours, who,
                       f.get("b", who, way, size), wanted[0])
            yield ("b", f"range {way}, {size_name(size)}, contents kept", ours, "two pools",
                   f.get("b", "two pools", f"{way}, contents kept", size), wanted[1])

    for when, size in (("first time", GIB), ("after a page of it", 2 * MIB)):
        for way in ("to shared", "to private"):
            yield ("b", f"range {way}, {size_name(size)}, {when}",
                   f.get("b", "gmemfd, 1 GiB blocks", f"{way}, {when}", size), "two pools",
                   f.get("b", "two pools", way, size), 20)

    def secret_page(point):
        fault = f.get("c", "memfd_secret", f"fault, {point}", 4 * KIB)
        free = f.get("c", "memfd_secret", "free", 4 * KIB)
        return fault and free and fault + free

    # What bounds those that miss: as much done by others.
    yield ("c", "one page to shared, first in a 1 GiB block",
           f.get("c", "gmemfd", "to shared, first in block", GIB), "hugetlb demotes a page",
           f.get("c-demote", "hugetlb", "demotes a page", GIB), None)
    for case, block, what in (("first in a 2 MiB block", 2 * MIB, "first in block"),
                              ("alone in block, 1 GiB block", GIB, "alone in block, p50")):
        yield ("c", f"one page to shared, {case}",
               f.get("c", "gmemfd", f"to shared, {what}", block),
               "memfd_secret, with split", secret_page("p99"), None)

    for block in (2 * MIB, GIB):
        name = size_name(block)
        for way in ("to shared", "to private"):
            yield ("c", f"one page {way}, first in a {name} block",
                   f.get("c", "gmemfd", f"{way}, first in block", block),
                   "memfd_secret, fault + free", secret_page("p50"), 1)
            for case in ("alone in block", "alone in 2 MiB", "beside others"):
                for point in ("p50", "p99", "max"):
                    yield ("c", f"one page {way}, {case}, {name} block, {point}",
                           f.get("c", "gmemfd", f"{way}, {case}, {point}", block),
                           "memfd_secret, fault + free", secret_page(point), 1)
    for way in ("to shared", "to private"):
        for case in ("alone in 2 MiB", "beside others"):
            yield ("c", f"one page {way}, {case}, 1 GiB block",
                   f.get("c", "gmemfd", f"{way}, {case}, p50", GIB), "in a 2 MiB block",
                   f.get("c", "gmemfd", f"{way}, {case}, p50", 2 * MIB), 1 / 1.2)
        for size in (16 * GIB, 64 * GIB):
            what = f"{way}, alone in 2 MiB, p50"
            yield ("c", f"one page {way}, file of {size_name(size)}",
                   f.get("c-files", "gmemfd", what, size), "file of 1 GiB",
                   f.get("c-files", "gmemfd", what, GIB), 1 / 1.03)

    for key in sorted(k for k in f.all if k[0] == "d" and k[1] == "gmemfd"):
        if "KiB" not in key[2]:
            yield ("d", f"boot pattern, {key[2]}", f.get(*key), "two pools",
                   f.get("d", "two pools", *key[2:]), None)

    for count in (16, 256, 4096, 65536):
        for way in ("to shared", "to private"):
            ours = f.get("e", "gmemfd, one call", way, count)
            yield ("e", f"{count} pages {way} in one call", ours, "in as many calls",
                   f.get("e", "gmemfd, a call each", way, count), None)
            yield ("e", f"{count} pages {way} in one call", ours, "two pools",
                   f.get("e", "two pools", way, count), None)

    if not counted:
        def beside(who, other):
            return f.get("f", "gmemfd", f"{who} beside {other}", 4096)

        for who, wanted in (("converting", 1.8), ("converting 64 pages a call", 1.8),
                            ("converting 2 MiB", 1.8),
                            ("converting without flush", None), ("memfd_secret", None)):
            two = beside(who, who)
            yield ("f", f"two {who}, a step of both", two and two / 2, "one",
                   beside(who, "computing"), wanted)
        for who, other, limit in (("faulting", "converting", 1 / 1.1),
                                  ("converting", "faulting", 1 / 1.1),
                                  ("faulting", "converting another file", None),
                                  ("faulting", "converting without flush", None),
                                  ("faulting", "memfd_secret", None),
                                  ("converting another file", "scrubbing", 1 / 1.2),
                                  ("converting another file", "scrubbing without flush",
                                   None),
                                  ("converting 2 MiB of another file", "scrubbing",
                                   1 / 1.2),
                                  ("converting 2 MiB of another file",
                                   "scrubbing without flush", None),
                                  ("computing", "converting", None),
                                  ("computing", "memfd_secret", None)):
            yield ("f", f"{who} beside {other}", beside(who, other), "beside computing",
                   beside(who, "computing"), limit)

    def whole(who, size):
        parts = [f.get("g", who, what, size) for what in ("allocate", "punch")]
        return None if None in parts else sum(parts)

    for size in (2 * MIB, GIB):
        name = size_name(size)
        for peer in ("hugetlbfs", "tmpfs"):
            yield ("g", f"first touch, {name} block",
                   f.get("g", "gmemfd, shared", "first touch", size), peer,
                   f.get("g", peer, "first touch", size),
                   50 if peer == "hugetlbfs" and size == GIB else None)
            for kind in ("shared", "private"):
                yield ("g", f"whole file, {kind}, allocate and punch, {name} blocks",
                       whole(f"gmemfd, {kind}", size), peer, whole(peer, size),
                       1 / 1.1 if peer == "hugetlbfs" and kind == "shared" else None)

    for what in ("each page for the first time", "nested page faults of that",
                 "each page again", "random pages"):
        for block in ("1 GiB", "2 MiB"):
            ours = f.get("h", f"gmemfd, {block}", what, 256 * MIB)
            for peer in ("guest_memfd", f"hugetlbfs, {block}"):
                yield ("h", f"guest, {what}, {block}", ours, peer,
                       f.get("h", peer, what, 256 * MIB), None)

    fault = f.get("l", "memfd_secret", "fault, p50", 4 * KIB)
    free = f.get("l", "memfd_secret", "free", 4 * KIB)
    peer = fault and free and fault + free
    ours = {way: f.get("l", "gmemfd", f"to {way}, p50", 4 * KIB) for way in ("secret", "private")}
    yield ("l", "private page to secret, first in a 1 GiB block",
           f.get("l", "gmemfd", "to secret, first in block", 4 * KIB),
           "memfd_secret, fault + free", peer, 2)
    yield ("l", "private page to secret and back, 1 GiB block, p50",
           None not in ours.values() and sum(ours.values()) or None,
           "memfd_secret, fault + free", peer, None)
    for way in ("secret", "private"):
        yield ("l", f"1 GiB to {way}", f.get("l", "gmemfd", f"to {way}", GIB),
               "to shared, or back", f.get("b", "gmemfd, 1 GiB blocks",
                                           f"to {'private' if way == 'private' else 'shared'}",
                                           GIB), None)
    yield ("l", "1 GiB secret, allocated", f.get("l", "gmemfd", "populate", GIB),
           "hugetlbfs", f.get("l", "hugetlbfs", "populate", GIB), 1 / 1.02)
    for who in ("hugetlbfs", "memfd_secret"):
        yield ("l", "1 GiB secret, mapped in user space", f.get("l", "gmemfd", "map", GIB),
               who, f.get("l", who, "map", GIB), None)
    for row, what in (("m", "boots"), ("n", "migrates")):
        for kind in ("secret", "shared"):
            yield (row, f"guest of 1 GiB in QEMU {what}, all of it {kind}",
                   f.get(row, f"gmemfd, {kind}", what, GIB),
                   "hugetlbfs", f.get(row, "hugetlbfs", what, GIB),
                   1 / 1.05 if (row, kind) == ("m", "secret") else None)
    if not counted:
        for what, size in (("fill a block by fallocate", GIB), ("fill a block by faults", GIB),
                           ("private and back, in two blocks", 2 * GIB)):
            yield ("l", f"{what}, two CPUs", f.get("l", "gmemfd, two CPUs", what, size),
                   "one", f.get("l", "gmemfd, one CPU", what, size), 1.8)

    for size in (2 * MIB, GIB):
        for way in ("to shared", "to private"):
            ours = f.get("o", "gmemfd", way, size)
            yield ("o", f"typed VM, {size_name(size)} {way}", ours, "two pools",
                   f.get("o", "two pools", way, size), 20)
            yield ("o", f"typed VM, {size_name(size)} {way}, contents kept", ours, "two pools",
                   f.get("o", "two pools", f"{way}, contents kept", size), 50)


def others(results):
    """Row j: (what, without the shim, with it)"""
    without, shim = Figures(results, "icount, no shim"), Figures(results, "icount")
    for key in sorted(k for k in without.all if k[0] == "j"):
        if shim.get(*key):
            yield key[2], without.get(*key), shim.get(*key)


def on_stock(results):
    """Row k: (what, pages, without the module, with it, with a file in use)"""
    modes = [Figures(results, m) for m in ("stock", "stock, shim", "stock, in use")]
    for key in sorted(modes[0].all):
        values = [f.get(row, *key[1:], which="min")
                  for f, row in zip(modes, ("j", "j", "j-used"))]
        if all(values):
            yield key[2], key[3] // 4096, *values


def print_stock(results):
    print("\nDebian's kernel, the shim as a module: the least of the rounds, instructions\n")
    for what, pages, without, shim, used in on_stock(results):
        print(f"k  {what:<30} {plot.short(without):>8}  "
              + "  ".join(f"{name} {100 * (value / without - 1):>+7.2f}% "
                          f"({(value - without) / pages:+.1f} a page)"
                          for name, value in (("shim", shim), ("in use", used))))


def print_table(results, mode):
    f = Figures(results, mode)
    unit = "instructions" if mode.startswith("icount") else "ns"
    print(f"\n{mode}: medians, {unit}; ratio: how much more the peer takes\n")
    missed = met = 0
    for row, what, ours, peer, theirs, wanted in comparisons(f, mode.startswith("icount")):
        if not ours or not theirs:
            continue
        verdict = ""
        # Ratios are of instructions, where there are any.
        if wanted and (mode != "wall" or row == "f"):
            ok = theirs / ours >= wanted
            verdict = f"{'met' if ok else 'MISSED'} ({plain(wanted)})"
            met, missed = met + ok, missed + (not ok)
        print(f"{row:<2} {what:<58} {plot.short(ours):>8}  {peer:<27} "
              f"{plot.short(theirs):>8} {plain(theirs / ours):>9}  {verdict}")
    for key, entry in sorted(f.all.items()):
        if key[0] == "i":
            print(f"i  {key[1]}: {key[2]}: {entry['median'] / KIB:.0f} KiB of "
                  f"{size_name(key[3])} ({100 * entry['median'] / key[3]:.3f}%)")
        if key[0] == "d" and "KiB" in key[2]:
            print(f"d  {key[1]}: {key[2]}: {entry['median']}")
    if mode == "icount":
        for what, without, shim in others(results):
            percent = 100 * (shim / without - 1)
            ok = percent <= 0.3
            met, missed = met + ok, missed + (not ok)
            print(f"j  {what:<58} {plot.short(shim):>8}  {'without the shim':<27} "
                  f"{plot.short(without):>8} {percent:>+8.3f}%  "
                  f"{'met' if ok else 'MISSED'} (+0.3%)")
    print(f"{met} targets met, {missed} missed")
    spread = [(100 * (e["max"] - e["min"]) / e["median"], key) for key, e in f.all.items()
              if e["rounds"] > 1 and e["median"] and key[0] != "i"]
    if spread:
        spread.sort()
        print(f"spread of the rounds, (max - min) / median: half of the figures within "
              f"{spread[len(spread) // 2][0]:.2g}%, nine in ten within "
              f"{spread[len(spread) * 9 // 10][0]:.2g}%")


# What README.md has of the table: mode, what and peer as comparisons() calls them, and
# the names that README.md gives them.
FRONT_PAGE = [
    ("icount", "out of the direct map and back, 1 GiB", "memfd_secret",
     "1 GiB becomes private and shared again", "memfd_secret: fault 1 GiB in and free it"),
    ("icount", "range to private, 1 GiB, contents kept", "two pools",
     "1 GiB becomes private and keeps its contents", "two pools and a copy"),
    ("icount", "4096 pages to private in one call", "two pools",
     "4096 scattered pages become private in one call", "two pools, page by page"),
    ("icount", "one page to private, beside others, 1 GiB block, p50",
     "memfd_secret, fault + free",
     "one page becomes private beside shared pages",
     "memfd_secret: fault a page in and free it"),
    ("icount", "one page to shared, first in a 1 GiB block", "memfd_secret, fault + free",
     "the first page of a 1 GiB block becomes shared",
     "memfd_secret: fault a page in and free it"),
    ("icount", "boot pattern, shares and joins", "two pools",
     "a guest of 16 GiB boots and shares pages in 622 places", "two pools"),
    ("icount", "guest, each page for the first time, 1 GiB", "guest_memfd",
     "a guest writes 65,024 pages for the first time", "guest_memfd"),
    ("wall", "two converting, a step of both", "one",
     "two CPUs convert single pages at once", "one CPU alone"),
]
# What bench/README.md has of it.
HEADLINES = [
    ("out of the direct map and back, 1 GiB", "memfd_secret"),
    ("range to shared, 1 GiB", "two pools"),
    ("range to private, 1 GiB", "two pools"),
    ("range to shared, 2 MiB", "two pools"),
    ("range to private, 2 MiB", "two pools"),
    ("range to shared, 2 MiB, contents kept", "two pools"),
    ("range to private, 2 MiB, contents kept", "two pools"),
    ("range to shared, 2 MiB, after a page of it", "two pools"),
    ("one page to shared, beside others, 1 GiB block, p50", "memfd_secret, fault + free"),
    ("one page to private, beside others, 1 GiB block, p50", "memfd_secret, fault + free"),
    ("one page to shared, alone in 2 MiB, 1 GiB block, p50", "memfd_secret, fault + free"),
    ("one page to private, alone in 2 MiB, 1 GiB block, p50", "memfd_secret, fault + free"),
    ("one page to shared, alone in block, 1 GiB block, p50", "memfd_secret, fault + free"),
    ("one page to shared, alone in block, 1 GiB block", "memfd_secret, with split"),
    ("one page to shared, first in a 1 GiB block", "memfd_secret, fault + free"),
    ("one page to shared, first in a 1 GiB block", "hugetlb demotes a page"),
    ("boot pattern, shares and joins", "two pools"),
    ("4096 pages to shared in one call", "two pools"),
    ("4096 pages to private in one call", "two pools"),
    ("first touch, 1 GiB block", "hugetlbfs"),
    ("whole file, shared, allocate and punch, 1 GiB blocks", "hugetlbfs"),
    ("guest, each page for the first time, 1 GiB", "guest_memfd"),
    ("guest of 1 GiB in QEMU boots, all of it secret", "hugetlbfs"),
]
# The same, of what was measured in time.
TIMED_HEADLINES = [
    ("two converting, a step of both", "one"),
    ("two converting 64 pages a call, a step of both", "one"),
    ("two converting 2 MiB, a step of both", "one"),
    ("two converting without flush, a step of both", "one"),
    ("two memfd_secret, a step of both", "one"),
    ("faulting beside converting", "beside computing"),
    ("faulting beside converting without flush", "beside computing"),
    ("faulting beside memfd_secret", "beside computing"),
    ("converting beside faulting", "beside computing"),
    ("converting another file beside scrubbing", "beside computing"),
    ("converting 2 MiB of another file beside scrubbing", "beside computing"),
]


def figure(mode, value):
    return plot.short(value) if mode == "icount" else f"{value / 1000:.3g} µs"


def found(results):
    """{(mode, what, peer): (gmemfd's figure, the peer's, ratio wanted)}"""
    return {(mode, what, peer): (ours, theirs, wanted)
            for mode in ("icount", "wall")
            for _, what, ours, peer, theirs, wanted
            in comparisons(Figures(results, mode), mode == "icount") if ours and theirs}


def front_page(figures):
    table = ["| | gmemfd | what else does it | | ratio |", "|---|--:|---|--:|--:|"]
    for mode, what, peer, name, peer_name in FRONT_PAGE:
        if (mode, what, peer) in figures:
            ours, theirs, _ = figures[mode, what, peer]
            table.append(f"| {name} | {figure(mode, ours)} | {peer_name} | "
                         f"{figure(mode, theirs)} | {plain(theirs / ours)} |")
    return table


def full_table(figures):
    table = ["| | gmemfd | | peer | ratio | wanted |", "|---|--:|---|--:|--:|---|"]
    for mode, headlines in (("icount", HEADLINES), ("wall", TIMED_HEADLINES)):
        for what, peer in headlines:
            if (mode, what, peer) not in figures:
                continue
            ours, theirs, wanted = figures[mode, what, peer]
            ratio = theirs / ours
            verdict = "" if not wanted else plain(wanted) + (
                "" if ratio >= wanted else ": **missed**")
            table.append(f"| {what.replace(', p50', '')} | {figure(mode, ours)} | {peer} | "
                         f"{figure(mode, theirs)} | {plain(ratio)} | {verdict} |")
    return table


def put(path, table):
    """Between the two marks, which are there already."""
    begin, end = "<!-- bench -->\n", "<!-- /bench -->\n"
    with open(path) as f:
        before, _, rest = f.read().partition(begin)
    if not rest:
        sys.exit(f"{path}: no place for the table")
    with open(path, "w") as f:
        f.write(before + begin + "\n".join(table) + "\n" + end + rest.partition(end)[2])


def readme(path, out):
    figures = found(load(f"{out}/results.json"))
    put(path, front_page(figures))
    put(f"{out}/README.md", full_table(figures))


def compare(ours, theirs):
    """Rows and modes that both have."""
    for mode in sorted(ours["modes"].keys() & theirs["modes"].keys()):
        a, b = Figures(ours, mode).all, Figures(theirs, mode).all
        apart = sorted((100 * abs(a[key]["median"] / b[key]["median"] - 1), key)
                       for key in a.keys() & b.keys() if b[key]["median"] > 0)
        for percent, key in apart:
            if percent > 3:
                print(f"{mode}: {percent:.1f}%: {key}: "
                      f"{b[key]['median']}, then {a[key]['median']}")
        within = sum(percent <= 3 for percent, _ in apart)
        print(f"{mode}: {within} of {len(apart)} medians within 3%")
    return 0


# --- plots -------------------------------------------------------------------

def draw(results, out):
    f = Figures(results, "icount")
    series = [
        ("gmemfd, to shared", f.points("b", "gmemfd, 1 GiB blocks", "to shared")),
        ("gmemfd, to private", f.points("b", "gmemfd, 1 GiB blocks", "to private")),
        ("two pools, to shared", f.points("b", "two pools", "to shared")),
        ("two pools, to private", f.points("b", "two pools", "to private")),
        ("two pools, hugetlb, to shared", f.points("b", "two pools, hugetlb", "to shared")),
        ("memfd_secret, fault and free", f.points("a", "memfd_secret", "out and back")),
    ]
    if any(points for _, points in series):
        plot.lines(f"{out}/convert.svg", "Converting a range of a 1 GiB block",
                   "size of the range", "instructions", series, size_name)

    series = [(f"{who}, {way}", f.points("e", who, way))
              for who in ("gmemfd, one call", "gmemfd, a call each", "two pools")
              for way in ("to shared", "to private")]
    if any(points for _, points in series):
        plot.lines(f"{out}/ranges.svg", "Converting scattered 4 KiB pages",
                   "number of pages", "instructions", series, lambda x: f"{x:,}")

    groups = []
    for way in ("to shared", "to private"):
        rows = []
        for block in (2 * MIB, GIB):
            for case in ("first in block", "alone in block", "alone in 2 MiB",
                         "beside others"):
                what = f"{way}, {case}"
                typical = f.get("c", "gmemfd", what + ", p50", block)
                worst = f.get("c", "gmemfd", what + ", max", block)
                once = f.get("c", "gmemfd", what, block)
                name = f"gmemfd, {size_name(block)}, {case}"
                if typical:
                    rows.append((name, typical,
                                 f"{plot.short(typical)}, max {plot.short(worst)}"))
                elif once:
                    rows.append((name, once, ""))
        typical = f.get("c", "two pools", f"{way}, any page, p50", 4 * KIB)
        if typical:
            rows.append(("two pools", typical, ""))
        fault, free = (f.get("c", "memfd_secret", what, 4 * KIB)
                       for what in ("fault, p50", "free"))
        if fault and free:
            rows.append(("memfd_secret, fault + free", fault + free, ""))
        groups.append((f"One 4 KiB page {way}", rows))
    if all(rows for _, rows in groups):
        plot.bars(f"{out}/page.svg", "Converting one page: median", "instructions (logarithmic)", groups)

    groups = []
    for what, parts in (("First touch of a 1 GiB block", ["first touch"]),
                        ("1 GiB file: allocate and punch", ["allocate", "punch"])):
        rows = []
        for who in ("gmemfd, shared", "gmemfd, private", "hugetlbfs", "tmpfs"):
            values = [f.get("g", who, part, GIB) for part in parts]
            if None not in values:
                rows.append((who, sum(values), ""))
        groups.append((what, rows))
    for what in ("shares", "shares and joins"):
        rows = []
        for who in ("gmemfd", "two pools"):
            rows += [(who, v, "") for _, v in f.points("d", who, what)]
        groups.append((f"16 GiB guest boots: {what}", rows))
    groups = [group for group in groups if group[1]]
    if groups:
        plot.bars(f"{out}/file.svg", "Whole files", "instructions (logarithmic)", groups)


# --- the guard ---------------------------------------------------------------

def guarded(args):
    """What it was made with, a line each; {row, who, what and size: the least}"""
    made_with, least = [], {}
    for arg in args:
        if not os.path.exists(arg):
            made_with.append(f"# {arg.replace('=', ': ', 1)}")
            continue
        for (row, who, what, size), v in read(arg).items():
            # The worst of many is the timer's doing as often as not.
            if not what.endswith((", max", ", p99")):
                least["\t".join((row, who, what, str(size)))] = min(v)
    return made_with, least


def record(baseline, args):
    made_with, least = guarded(args)
    with open(baseline, "w") as f:
        for line in made_with:
            f.write(f"{line}\n")
        for key, value in least.items():
            f.write(f"{key}\t{value}\n")


def guard(baseline, args):
    made_with, least = guarded(args)
    lines = open(baseline).read().splitlines()
    recorded_with = [line for line in lines if line.startswith("#")]
    if recorded_with != made_with:
        print("the baseline is of", ", ".join(line[2:] for line in recorded_with))
        return 77
    off, worst = 0, 0
    lines = [line.rpartition("\t") for line in lines if not line.startswith("#")]
    for key, _, before in lines:
        value = least.pop(key, None)
        percent = None if value is None else 100 * (value / int(before) - 1)
        if percent is None:
            print(f"gone: {key}")
            off += 1
        elif abs(percent) > GUARD_PERCENT:
            print(f"{percent:+.1f}%: {key}: {before} in the baseline, now {value}")
            off += 1
        if percent is not None:
            worst = max(worst, abs(percent))
    for key in least:
        print(f"not in the baseline: {key}")
        off += 1
    print(f"{len(lines)} instruction counts, {off} off; the furthest {worst:.1f}%")
    return 1 if off else 0


def main(args):
    if args[0] == "--record":
        return record(args[1], args[2:])
    if args[0] == "--guard":
        return guard(args[1], args[2:])
    if args[0] == "--readme":
        return readme(args[1], args[2])
    if args[0] == "--compare":
        return compare(*(load(f"{d}/results.json") for d in args[1:3]))
    out = args[0]
    os.makedirs(out, exist_ok=True)
    results = load(f"{out}/results.json")
    commit = "unknown"
    for arg in args[1:]:
        key, _, value = arg.partition("=")
        if os.path.exists(value):
            merge(results, key, read(value), commit)
        elif key == "commit":
            commit = value
        else:
            results["made_with"][key] = value
    save(results, f"{out}/results.json")
    draw(results, out)
    for mode in sorted(results["modes"]):
        if mode.startswith("stock"):
            continue
        if mode != "icount, no shim":
            print_table(results, mode)
    if "stock" in results["modes"]:
        print_stock(results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
