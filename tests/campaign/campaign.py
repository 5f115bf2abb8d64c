"""Breaks the appliance again and again under load, and reports what became of it.

    python tests/campaign/campaign.py --faults 60

Ends with failure where an answer was lost or altered, or the appliance did not come back.
"""

import argparse
import collections
import pathlib
import random
import signal
import statistics
import sys
import tempfile
import time

import kinds as catalogue
import load as requests
import rig

COMES_BACK_S = 300
DETECTED_S = 60


def millis():
    return time.time_ns() // 1_000_000


class Outcome:
    def __init__(self):
        self.detected, self.recovered = [], []
        self.rungs = collections.Counter()
        self.resumed = 0
        self.count = 0


def after(records, since, *whats):
    return next((r for r in records if r["unix_ms"] >= since and r["what"] in whats), None)


def strike(appliance, kind, outcome):
    """Injects one fault and follows it until the card answers again."""
    status = appliance.wait_answered()
    resumes = status["counters"]["resumes"]
    acted = len(appliance.acted())
    known = len(appliance.records())
    restarts = appliance.restarts
    began = millis()
    kind.inject(appliance)
    if kind.quiet:
        rig.wait_until(lambda: len(appliance.acted()) > acted, DETECTED_S, f"{kind.name}: acts")
        time.sleep(0.3)
        outcome.count += 1
        outcome.rungs["R0"] += 1
        appliance.wait_ready()
        return

    def noticed():
        return after(appliance.records()[known:], began, "heat" if kind.heat else "incident")

    first = rig.wait_until(noticed, DETECTED_S, f"{kind.name}: noticed")
    when = appliance.acted()[acted:]
    # What acts later than it was injected is measured from its act.
    start = min((t for t in when if t <= first["unix_ms"]), default=began, key=lambda t: first["unix_ms"] - t)
    outcome.detected.append((first["unix_ms"] - start) / 1000)
    if kind.mend:
        time.sleep(kind.lasts)
        kind.mend(appliance)

    def healed():
        if kind.heat:
            return next((r for r in appliance.records()[known:] if r["what"] == "heat" and not r["hot"]), None)
        recovered = after(appliance.records()[known:], first["unix_ms"], "recovered")
        # Over a restart of the host the incident is forgotten; the card answers all the same. Any
        # fault may lead there, where the budgets of the lower rungs are used up.
        return recovered or (appliance.restarts > restarts and ready_since(appliance, first["unix_ms"]))

    last = rig.wait_until(healed, COMES_BACK_S, f"{kind.name}: recovered")
    outcome.recovered.append((last["unix_ms"] - first["unix_ms"]) / 1000)
    rungs = [r["rung"] for r in appliance.records()[known:] if r["what"] == "rung"]
    outcome.rungs["hold" if kind.heat else rungs[-1] if rungs else "retry"] += 1
    outcome.count += 1
    status = appliance.wait_ready()
    outcome.resumed += max(0, status["counters"]["resumes"] - resumes)
    appliance.clear_rules()


def ready_since(appliance, since):
    """A host's restart ended: the supervisor's own record, once the card answers."""
    rebooted = [r for r in appliance.records() if r["what"] == "boot" and r["unix_ms"] >= since]
    status = appliance.status()
    if rebooted and status and status["state"] in ("ready", "busy"):
        return {"unix_ms": millis()}
    return None


def p95(values):
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)]


def seconds(values):
    if not values:
        return f"{'–':>7} {'–':>7} {'–':>7}"
    return f"{statistics.median(values):7.2f} {p95(values):7.2f} {max(values):7.2f}"


def table(outcomes):
    lines = [
        f"{'kind':32} {'count':>5}  {'detected in s':^23}  {'recovered in s':^23}  {'resumed':>7}  healed by",
        f"{'':32} {'':>5}  {'median':>7} {'p95':>7} {'max':>7}  {'median':>7} {'p95':>7} {'max':>7}",
    ]
    for name, o in outcomes.items():
        rungs = ", ".join(f"{rung} {count}" for rung, count in sorted(o.rungs.items()))
        lines.append(f"{name:32} {o.count:5}  {seconds(o.detected)}  {seconds(o.recovered)}  {o.resumed:7}  {rungs}")
    return "\n".join(lines)


def plan(faults, seed):
    """Every kind about equally often, in random order; the host's restarts are few, as their budget is."""
    chosen = [kind for kind in catalogue.KINDS if not kind.host]
    hosts = [kind for kind in catalogue.KINDS if kind.host]
    rounds = -(-(faults - len(hosts)) // len(chosen))
    rest = (chosen * rounds)[: faults - len(hosts)]
    random.Random(seed).shuffle(rest)
    every = max(1, len(rest) // (len(hosts) + 1))
    for number, host in enumerate(hosts):
        rest.insert((number + 1) * every + number, host)
    return rest


def run(arguments, directory):
    appliance = rig.Appliance(directory)
    load = requests.Load(appliance, arguments.threads)
    outcomes = collections.OrderedDict((kind.name, Outcome()) for kind in catalogue.KINDS)
    failures = []
    try:
        appliance.wait_ready()
        load.learn()
        load.start()
        time.sleep(2)
        before = appliance.resources()
        began = time.monotonic()
        order = plan(arguments.faults, arguments.seed)
        for number, kind in enumerate(order, 1):
            try:
                strike(appliance, kind, outcomes[kind.name])
            except TimeoutError as problem:
                failures.append(str(problem))
                print(f"!! {problem}\n   status: {appliance.status()}", flush=True)
                break
            print(f"[{number}/{len(order)}] {kind.name}", flush=True)
        took = time.monotonic() - began
        time.sleep(1)
        restarted = appliance.restarts
        counts = load.stop()
        after_all = appliance.resources()
    finally:
        load.stopping.set()
        appliance.stop()
    print()
    print(table(outcomes))
    faults = sum(o.count for o in outcomes.values())
    used = sum(1 for o in outcomes.values() if o.count)
    print(f"\n{faults} faults of {used} kinds in {took:.0f} s, emulated; the ladder's waits, budgets and")
    print(f"deadlines divided by {rig.PACE}, a stall's floor 2 s instead of 10 s, {restarted} restarts of the host")
    print(f"requests: {counts}")
    print(f"supervisor before: {before}\nsupervisor after:  {after_all} (pid may differ after a host's restart)")
    for problem in load.problems[:20]:
        print("  " + problem)
    if counts["interrupted"] > arguments.threads * restarted:
        failures.append("answers were interrupted without a restart of the host")
    if counts["lost"] or counts["altered"] or counts["ended"]:
        failures.append("answers were lost, altered or cut short")
    if after_all["zombies"] or after_all["fds"] > before["fds"] + 8:
        failures.append("file descriptors or zombies grew")
    if after_all["rss_kib"] > 20 * 1024:
        failures.append("the supervisor's memory exceeds 20 MiB")
    if faults < arguments.faults:
        failures.append(f"only {faults} of {arguments.faults} faults")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", help="directory for journal and ledger, kept")
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="llm8850-campaign-") as scratch:
        directory = pathlib.Path(arguments.keep or scratch) / "appliance"
        failures = run(arguments, directory)
    for failure in failures:
        print("FAILED: " + failure)
    if not failures:
        print("campaign: 0 lost, 0 altered, 0 interventions")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
