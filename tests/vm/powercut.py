"""make powercut N=: powercut.py STOCK MODEL N. Cuts the power N times, each kind of activity in turn, and starts what every cut left.

SEED= chooses other moments. FIRST=, a multiple of 40, leaves out the cuts before: a run that was ended is gone on with. Prints a line for each cut, then a table, and `N passed, N failed`.
"""

import collections
import concurrent.futures
import os
import pathlib
import random
import shutil
import sys
import time
import traceback

import faults
import power
from appliance import Bench

# So many cuts are made of one record.
EACH = 10


def one(bench, record, kind, number, seed):
    """One cut, and its start."""
    name = f"{kind}_{number}"
    try:
        card, told = power.cut(bench, record, name, random.Random(f"{seed} {name}"))
        took = power.started(bench, card, f"{name}_on")
    except Exception as error:
        traceback.print_exc()
        print(f"FAILED  {name}: {error}", flush=True)
        return kind, None
    for part in (name, f"{name}_on"):
        shutil.rmtree(bench.work / part, ignore_errors=True)
    print(f"ok      {name}: {told}; answers after {took:.0f} s", flush=True)
    return kind, took


def main():
    stock, count = pathlib.Path(sys.argv[1]), int(sys.argv[3])
    seed, begin = os.environ.get("SEED", "1"), int(os.environ.get("FIRST", "0"))
    bench = Bench(stock, sys.argv[2], stock / "powercut")
    shutil.rmtree(bench.work, ignore_errors=True)
    began = time.monotonic()
    print(f"the machine is up: {faults.boot(bench)}", flush=True)
    kinds, results = list(power.ACTIVITIES), []
    block = EACH * len(kinds)
    assert begin % block == 0, f"FIRST is no multiple of {block}"
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("LANES", "2"))) as lanes:
        for first in range(begin, count, block):
            share = [range(first + kind, min(first + block, count), len(kinds)) for kind in range(len(kinds))]
            records = lanes.map(lambda kind: power.recorded(bench, f"{kind}_{first}", power.ACTIVITIES[kind]), kinds)
            jobs = [(record, kind, number) for record, kind, numbers in zip(records, kinds, share) for number in numbers]
            results += lanes.map(lambda job: one(bench, *job, seed), jobs)
            for log in bench.work.glob("*.log"):
                log.unlink()
    print(f"\n{'during':10} {'cuts':>5} {'came back':>10} {'slowest':>8}")
    by_kind = collections.defaultdict(list)
    for kind, took in results:
        by_kind[kind].append(took)
    for kind, times in by_kind.items():
        good = [took for took in times if took is not None]
        print(f"{kind:10} {len(times):5} {len(good):10} {max(good, default=0):6.0f} s")
    failed = sum(took is None for _, took in results)
    print(f"{(time.monotonic() - began) / 60:.0f} minutes")
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
