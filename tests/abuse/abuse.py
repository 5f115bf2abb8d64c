"""Hostile and broken clients beside well-behaved ones, who must not notice.

    python tests/abuse/abuse.py --seconds 2

Ends with failure where an answer was lost or altered, the service was not ready, or it kept anything.
"""

import argparse
import json
import pathlib
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "campaign"))

import hostile  # noqa: E402
import load as requests  # noqa: E402
import rig  # noqa: E402

MEMORY_KIB = 32 << 10
# A client that comes while all this goes on is let in and answered within this: it does not wait
# until those that idle are sent away (`limits.header_s`, 30 s).
NEWCOMER_S = 5
# What is told of requests that were taken; everything else is silent.
TOLD = re.compile(r" INFO .*request=\d+")


class Service:
    """A supervisor with the emulated card, as [`requests.Load`] asks it."""

    def __init__(self, directory):
        for needed in (rig.OUT / "llm8850-supervisor", rig.RUNTIME, rig.MODEL / "manifest.json"):
            assert needed.exists(), f"{needed} is missing: run `make build model` first"
        self.address = f"127.0.0.1:{rig.free_port()}"
        self.base = f"http://{self.address}"
        self.going_down, self.restarts = threading.Event(), 0
        self.journal = directory / "journal.txt"
        config = directory / "config.toml"
        config.write_text(
            f'[server]\nlisten = ["{self.address}"]\n'
            f'[worker]\nruntime = "{rig.RUNTIME}"\nverify = false\n'
            f'[recovery]\nsystem_root = "{directory}"\n'
            f'[model]\ndir = "{rig.MODEL}"\nname = "demo"\n'
            "[limits]\nqueue = 64\n"
        )
        with self.journal.open("w") as journal:
            self.process = subprocess.Popen(
                [rig.OUT / "llm8850-supervisor", "--config", config], stdout=journal, stderr=journal
            )
        rig.wait_until(self.ready, 120, "ready")

    def ready(self):
        assert self.process.poll() is None, self.journal.read_text()
        try:
            return self.get("/readyz")
        except OSError:
            return None

    def get(self, path):
        with urllib.request.urlopen(self.base + path, timeout=60) as reply:
            return reply.read()

    def status(self):
        return json.loads(self.get("/v1/status"))

    def resources(self):
        return rig.resources(self.process.pid)

    def told(self):
        """Lines of the journal, without those that tell of a request."""
        return [line for line in self.journal.read_text().splitlines() if not TOLD.search(line)]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(90) == 0, self.journal.read_text()[-20_000:]


class Newcomer:
    """Asks for readiness again and again, each time by a new connection."""

    def __init__(self, service):
        self.service, self.slowest, self.count, self.problems = service, 0, 0, []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        while not self.stopping.is_set():
            began = time.monotonic()
            try:
                self.service.get("/readyz")
            except OSError as error:
                self.problems.append(f"/readyz: {error!r}")
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.count += 1
            self.stopping.wait(0.05)

    def stop(self):
        self.stopping.set()
        self.thread.join(60)


def endure(service, target, kind, seconds, expected):
    """One kind of abuse beside well-behaved clients; a line of the table, and what was wrong."""
    clients = requests.Load(service, 4, think=0.02)
    clients.expected = expected
    clients.start()
    newcomer = Newcomer(service)
    problems = []
    try:
        saw = kind(target, seconds)
    except AssertionError as problem:
        saw = "FAILED"
        problems.append(f"{kind.__name__}: {problem}")
    newcomer.stop()
    counts = clients.stop()
    problems += [f"{kind.__name__}: {problem}" for problem in clients.problems + newcomer.problems]
    if any(counts[what] for what in ("lost", "altered", "ended", "refused", "interrupted")) or not counts["answered"]:
        problems.append(f"{kind.__name__}: {counts}")
    if newcomer.slowest > NEWCOMER_S:
        problems.append(f"{kind.__name__}: a newcomer waited {newcomer.slowest:.1f} s")
    used = service.resources()
    print(
        f"{kind.__name__:36} {counts['answered']:8} {max(clients.latencies, default=0):8.2f} {newcomer.count:6} "
        f"{newcomer.slowest:8.2f} {used['peak_kib'] / 1024:8.1f}  {saw}",
        flush=True,
    )
    return problems


def run(arguments, directory):
    service = Service(directory)
    # Only here, so that the service runs with what it is given elsewhere.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        learning = requests.Load(service, 0)
        learning.learn()
        prompt = requests.PROMPTS[0]
        question = requests.body(prompt, False)
        target = hostile.Target(service.address, question, learning.expected[prompt][0])
        before, told = service.resources(), len(service.told())
        print(f"{'':36} {'answered':>8} {'slowest':>8} {'new':>6} {'slowest':>8} {'peak MiB':>8}")
        problems = []
        for kind in hostile.KINDS:
            if arguments.kind in ("", kind.__name__):
                problems += endure(service, target, kind, arguments.seconds, learning.expected)
        try:
            rig.wait_until(lambda: service.resources()["fds"] <= before["fds"], 30, "descriptors")
        except TimeoutError as problem:
            problems.append(f"{problem}: {before} -> {service.resources()}")
        status, after = service.status(), service.resources()
        print(f"\nbefore: {before}\nafter:  {after}\ncounters: {status['counters']}")
        if after["zombies"] or after["threads"] > before["threads"] + 8:
            problems.append("children nobody waited for, or threads, are left")
        if after["peak_kib"] > MEMORY_KIB:
            problems.append(f"the supervisor's memory was {after['peak_kib'] / 1024:.1f} MiB at most")
        if status["state"] not in ("ready", "busy") or status["counters"]["restarts"]:
            problems.append(f"not as before: {status}")
        problems += [f"the journal: {line}" for line in service.told()[told:][:10]]
    finally:
        service.stop()
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2, help="how long each kind goes on")
    parser.add_argument("--kind", default="", help="one kind only")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="llm8850-abuse-") as directory:
        problems = run(arguments, pathlib.Path(directory))
    for problem in problems[:40]:
        print(f"FAILED: {problem[:2000]}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
