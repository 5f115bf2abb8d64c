"""The cases of tests/vm/run: cases.py STOCK MODEL. CASES="boot slot_b" runs only these; LANES=2 machines run beside each other;
AGAIN=1 tries once more, one at a time, what failed beside others.

Each case prints one line with what it measured. What waits for an event has a limit, longer by PATIENCE (machine.py).
"""

import concurrent.futures
import os
import pathlib
import shutil
import sys
import time
import traceback

import faults
import power
import updates
from appliance import Bench

STOCK, MODEL = map(pathlib.Path, sys.argv[1:3])
CASES = [*faults.CASES, *updates.CASES, *power.CASES]


def outcome(case, bench):
    """One line on how the case ended, and whether that is as it should be."""
    what, began = (case.__doc__ or case.__name__).split("\n")[0], time.monotonic()
    try:
        told, good = case(bench), True
    except Exception as error:
        traceback.print_exc()
        told, good = str(error).split("\n")[0][:400], False
    print(f"{'ok    ' if good else 'FAILED'}  {case.__name__}: {what}: {told} ({time.monotonic() - began:.0f} s)", flush=True)
    return case.__name__, good


def main():
    wanted = os.environ.get("CASES", "").split()
    bench = Bench(STOCK, MODEL, STOCK / "run")
    shutil.rmtree(bench.work, ignore_errors=True)
    began = time.monotonic()
    # All others go on from what the first one keeps.
    results = [outcome(faults.boot, bench)]
    if results[0][1]:
        cases = [case for case in CASES if not wanted or case.__name__ in wanted]
        with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("LANES", "2"))) as lanes:
            results += lanes.map(lambda case: outcome(case, bench), cases)
    failed = [name for name, good in results if not good]
    # A host too busy for a machine's limits is no fault of the appliance's; one that is comes again.
    if failed and bench.kept and os.environ.get("AGAIN") == "1":
        print(f"== once more, alone: {', '.join(failed)}", flush=True)
        failed = [name for case in CASES if case.__name__ in failed for name, good in [outcome(case, bench)] if not good]
    if not failed:
        shutil.rmtree(bench.work)
    print(f"\n{len(results)} cases in {time.monotonic() - began:.0f} s; failed: {', '.join(failed) or 'none'}")
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
