"""Detection and recovery in real time: no deadline, wait or budget is compressed.

    python tests/campaign/bars.py --rounds 4

Each round is a fresh appliance and three faults, as many as its budget of workers allows.
"""

import argparse
import pathlib
import sys
import tempfile
import time

import campaign
import kinds as catalogue
import load as requests
import rig

ROUND = ["worker killed", "exit in a call", "hang in execute"]
IDLE_S = 30
# From the issue of the fault to its record, and from there to the card's answer without the load.
EXIT_S, STALL_S, BACK_S = 0.2, 12.0, 3.0


def strike(appliance, kind, outcome):
    known = len(appliance.records())
    campaign.strike(appliance, kind, outcome)
    ready = appliance.wait_ready()
    recovered = campaign.after(appliance.records()[known:], 0, "recovered")
    return recovered["ms"] / 1000 - ready["model"]["load_ms"] / 1000


def run(arguments, directory):
    by_name = {kind.name: kind for kind in catalogue.KINDS}
    outcomes = {name: campaign.Outcome() for name in ROUND}
    back, idle = [], []
    for number in range(arguments.rounds):
        appliance = rig.Appliance(directory / str(number), real_time=True)
        load = requests.Load(appliance, 2)
        try:
            appliance.wait_ready()
            before = appliance.resources()
            time.sleep(IDLE_S)
            after = appliance.resources()
            idle.append((after["rss_kib"] / 1024, (after["cpu_s"] - before["cpu_s"]) / IDLE_S * 100))
            load.learn()
            load.start()
            for name in ROUND:
                back.append(strike(appliance, by_name[name], outcomes[name]))
                print(f"[{number + 1}/{arguments.rounds}] {name}", flush=True)
        finally:
            load.stop()
            appliance.stop()
    print()
    print(campaign.table(outcomes))
    exits = outcomes["worker killed"].detected + outcomes["exit in a call"].detected
    stalls = outcomes["hang in execute"].detected
    rss, cpu = max(r for r, _ in idle), max(c for _, c in idle)
    bars = [
        ("an exit is noticed", max(exits), EXIT_S, "s"),
        ("a stall is noticed", max(stalls), STALL_S, "s"),
        ("R1 until ready, without the load, p95", campaign.p95(back), BACK_S, "s"),
        ("supervisor's memory", rss, 20, "MiB"),
        ("supervisor idle", cpu, 1, "% of a core"),
    ]
    print()
    for what, value, bar, unit in bars:
        print(f"{what:40} {value:7.2f} {unit:12} bar {bar} {'ok' if value <= bar else 'MISSED'}")
    return all(value <= bar for _, value, bar, _ in bars)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llm8850-bars-") as scratch:
        return 0 if run(arguments, pathlib.Path(scratch)) else 1


if __name__ == "__main__":
    sys.exit(main())
