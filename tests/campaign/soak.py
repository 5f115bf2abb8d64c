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


def state_writes(appliance):
    """Bytes in the state directory: what wears the SD card."""
    return sum(path.stat().st_size for path in appliance.state.iterdir())


def run(arguments, directory):
    appliance = rig.Appliance(directory)
    load = requests.Load(appliance, arguments.threads)
    struck = [kind for kind in catalogue.KINDS if not kind.host]
    chance = random.Random(arguments.seed)
    samples, faults, outcome = [], 0, campaign.Outcome()
    try:
        appliance.wait_ready()
        load.learn()
        load.start()
        time.sleep(5)
        began = time.monotonic()
        idle = appliance.resources()
        next_fault = began + arguments.fault_every
        next_line = began + 600
        while time.monotonic() < began + arguments.hours * 3600:
            time.sleep(SAMPLE_S if arguments.hours > 0.1 else 2)
            samples.append(appliance.resources() | {"state_bytes": state_writes(appliance)})
            if time.monotonic() >= next_fault:
                campaign.strike(appliance, chance.choice(struck), outcome)
                faults += 1
                next_fault = time.monotonic() + arguments.fault_every
            if time.monotonic() >= next_line:
                next_line += 600
                minutes = (time.monotonic() - began) / 60
                print(f"{minutes:4.0f} min: {load.counts} {samples[-1]}", flush=True)
        took = time.monotonic() - began
        counts = load.stop()
    finally:
        load.stopping.set()
        appliance.stop()
    latencies = sorted(load.latencies)
    tenth = max(1, len(samples) // 10)
    first = statistics.median(s["rss_kib"] for s in samples[:tenth])
    last = statistics.median(s["rss_kib"] for s in samples[-tenth:])
    fds = (samples[0]["fds"], max(s["fds"] for s in samples), samples[-1]["fds"])
    cpu = (samples[-1]["cpu_s"] - idle["cpu_s"]) / took * 100
    print(f"\n{took / 3600:.2f} h, {faults} faults, emulated; requests: {counts}")
    print(
        f"latency of answers in s: median {statistics.median(latencies):.2f}, "
        f"p95 {campaign.p95(latencies):.2f}, max {latencies[-1]:.2f}"
    )
    print(f"supervisor: memory {first / 1024:.1f} MiB at first, {last / 1024:.1f} MiB at last; "
          f"descriptors {fds[0]} at first, {fds[1]} at most, {fds[2]} at last; "
          f"{cpu:.1f} % of a core under load; zombies {samples[-1]['zombies']}")
    print(f"state directory: {samples[-1]['state_bytes']} bytes")
    for problem in load.problems[:20]:
        print("  " + problem)
    failures = []
    if counts["lost"] or counts["altered"] or counts["ended"] or counts["interrupted"]:
        failures.append("answers were lost, altered or cut short")
    if last > first * 1.25 + 1024 or last > 20 * 1024:
        failures.append("the supervisor's memory grew")
    if fds[2] > fds[0] + 8 or samples[-1]["zombies"]:
        failures.append("descriptors or zombies grew")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--fault-every", type=float, default=120, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llm8850-soak-") as scratch:
        failures = run(arguments, pathlib.Path(scratch) / "appliance")
    for failure in failures:
        print("FAILED: " + failure)
    print("soak: " + ("FAILED" if failures else "nothing lost, nothing altered, nothing grew"))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
