"""Lets the appliance answer for hours, with a fault now and then, and reports how it fared.

    python tests/campaign/soak.py --hours 2

Ends with failure where an answer was lost or altered, or memory or descriptors grew.
"""

import argparse
import pathlib
import random
import statistics
import sys
import tempfile
import time

import campaign
import kinds as catalogue
import load as requests
import rig

SAMPLE_S = 30
LINE_S = 600


def watch(arguments, appliance, load, samples):
    """Strikes and samples until the time is over; gives the number of faults and the time taken."""
    struck = [kind for kind in catalogue.KINDS if not kind.host]
    chance = random.Random(arguments.seed)
    faults, outcome = 0, campaign.Outcome()
    began = time.monotonic()
    next_fault, next_line = began + arguments.fault_every, began + LINE_S
    pause = min(SAMPLE_S, arguments.hours * 60)
    while time.monotonic() < began + arguments.hours * 3600:
        time.sleep(pause)
        samples.append(appliance.resources())
        if time.monotonic() >= next_fault:
            campaign.strike(appliance, chance.choice(struck), outcome)
            faults += 1
            next_fault = time.monotonic() + arguments.fault_every
        if time.monotonic() >= next_line:
            next_line += LINE_S
            minutes = (time.monotonic() - began) / 60
            print(f"{minutes:4.0f} min: {faults} faults, {load.counts} {samples[-1]}", flush=True)
    return faults, time.monotonic() - began


def run(arguments, directory):
    appliance = rig.Appliance(directory)
    load = requests.Load(appliance, arguments.threads, arguments.think)
    samples = []
    try:
        appliance.wait_ready()
        load.learn()
        load.start()
        samples.append(appliance.resources())
        faults, took = watch(arguments, appliance, load, samples)
        counts = load.stop()
        state = sum(path.stat().st_size for path in appliance.state.iterdir())
        journal = appliance.journal.stat().st_size
        records = len(appliance.records())
    finally:
        load.stopping.set()
        appliance.stop()
    return report(load, counts, samples, faults, took) + [
        f"state directory: {state} bytes, {records} records; journal: {journal} bytes",
    ], failures(counts, samples)


def tenths(samples, what):
    """Medians of the first and the last tenth."""
    tenth = max(1, len(samples) // 10)
    ends = samples[:tenth], samples[-tenth:]
    return [statistics.median(sample[what] for sample in end) for end in ends]


def report(load, counts, samples, faults, took):
    latencies = sorted(load.latencies)
    first, last = tenths(samples, "rss_kib")
    fds = [sample["fds"] for sample in samples]
    cpu = (samples[-1]["cpu_s"] - samples[0]["cpu_s"]) / took * 100
    written = samples[-1]["written"] - samples[0]["written"]
    return [
        f"{took / 3600:.2f} h, {faults} faults, emulated; requests: {counts}",
        f"latency of answers in s: median {statistics.median(latencies):.2f}, "
        f"p95 {campaign.p95(latencies):.2f}, max {latencies[-1]:.2f}",
        f"supervisor: memory {first / 1024:.1f} MiB at first, {last / 1024:.1f} MiB at last; "
        f"descriptors {fds[0]} at first, {max(fds)} at most, {fds[-1]} at last; {cpu:.1f} % of a core; "
        f"{written / 1024 / (took / 3600):.0f} KiB per hour written to disk, the journal's included",
    ] + ["  " + problem for problem in load.problems[:20]]


def failures(counts, samples):
    first, last = tenths(samples, "rss_kib")
    found = []
    if counts["lost"] or counts["altered"] or counts["ended"] or counts["interrupted"]:
        found.append("answers were lost, altered or cut short")
    if last > first * 1.25 + 1024 or last > 20 * 1024:
        found.append("the supervisor's memory grew")
    if samples[-1]["fds"] > samples[0]["fds"] + 8 or samples[-1]["zombies"]:
        found.append("descriptors or zombies grew")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--think", type=float, default=5, help="seconds between a thread's requests")
    parser.add_argument("--fault-every", type=float, default=120, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llm8850-soak-") as scratch:
        lines, failed = run(arguments, pathlib.Path(scratch) / "appliance")
    print("\n" + "\n".join(lines))
    for failure in failed:
        print("FAILED: " + failure)
    print("soak: " + ("FAILED" if failed else "nothing lost, nothing altered, nothing grew"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
