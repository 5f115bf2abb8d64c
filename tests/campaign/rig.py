"""The appliance under test: emulated machine and card, real supervisor, real processes."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

TOP = pathlib.Path(__file__).resolve().parents[2]
OUT = TOP / "target" / "release"
# `cargo test` leaves the emulated runtime here only, `cargo build` here as well.
RUNTIME = OUT / "deps" / "libaxcl_rt.so"
MODEL = pathlib.Path(os.environ.get("LLM8850_DEMO_MODEL", TOP / "build/models/smollm2-135m"))

# Waits, budgets and deadlines of the ladder are divided by this.
PACE = 600


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(condition, seconds, what):
    """Polls until `condition` gives something; fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise TimeoutError(f"{what}: not within {seconds} s")


def resources(pid):
    """A process's memory, descriptors, threads, and children that nobody waited for."""
    proc = pathlib.Path(f"/proc/{pid}")
    fields = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
    children = (proc / f"task/{pid}/children").read_text().split()
    zombies = 0
    for child in children:
        try:
            zombies += pathlib.Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            pass
    io = dict(line.split(": ") for line in (proc / "io").read_text().splitlines())
    ticks = (proc / "stat").read_text().rsplit(")", 1)[1].split()
    return {
        "rss_kib": int(fields["VmRSS"].split()[0]),
        "peak_kib": int(fields["VmHWM"].split()[0]),
        "fds": len(os.listdir(proc / "fd")),
        "threads": int(fields["Threads"]),
        "zombies": zombies,
        "written": int(io["write_bytes"]),
        "cpu_s": (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK"),
    }


class Machine:
    """The emulated host side of the card."""

    def __init__(self, directory):
        self.directory = directory
        self.process = subprocess.Popen(
            [OUT / "axcl-machine", directory, "--end-with-stdin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline().startswith("ready"), "axcl-machine did not start"

    def ask(self, command):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30)
            s.connect(str(self.directory / "machine.sock"))
            s.sendall(json.dumps(command).encode() + b"\n")
            answer = json.loads(s.makefile().readline())
        assert "error" not in answer, (command, answer)
        return answer

    def events(self, seen):
        """Calls `seen` with each event from now on, in a thread."""
        s = socket.socket(socket.AF_UNIX)
        s.connect(str(self.directory / "machine.sock"))
        s.sendall(b'{"subscribe":{}}\n')
        lines = s.makefile()
        lines.readline()

        def follow():
            for line in lines:
                event = json.loads(line)
                if "event" in event:
                    seen(event)

        threading.Thread(target=follow, daemon=True).start()

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


class Appliance:
    """A supervisor on an emulated machine, restarted with its host."""

    def __init__(self, directory, real_time=False, extra=""):
        for needed in (OUT / "llm8850-supervisor", OUT / "axcl-machine", RUNTIME, MODEL / "manifest.json"):
            assert needed.exists(), f"{needed} is missing: run `make build model` first"
        self.directory = directory
        self.card = directory / "card"
        self.card.mkdir(parents=True)
        (self.card / "faults").mkdir()
        self.state = directory / "state"
        self.state.mkdir()
        self.model = directory / "model"
        shutil.copytree(MODEL, self.model)
        self.machine = Machine(self.card)
        self.address = f"127.0.0.1:{free_port()}"
        self.base = f"http://{self.address}"
        self.journal = directory / "journal.txt"
        self.config = directory / "config.toml"
        compressed = f"pace = {PACE}\nstall_s = 2\ntest_idle_s = 5\n"
        patience = "stop_s = 1\nterm_s = 0.5\nhung_s = 0.3\nhello_s = 10\nload_call_s = 8\ncall_s = 8\n"
        if real_time:
            compressed, patience = "", ""
        self.config.write_text(
            f'[server]\nlisten = ["{self.address}"]\n'
            f'[worker]\nruntime = "{RUNTIME}"\n{patience}env = {{ AXCL_EMU_DIR = "{self.card}" }}\n'
            f'[model]\ndir = "{self.model}"\nname = "demo"\n'
            f'[recovery]\nhelper = "{OUT}/llm8850-card-helper"\nstate_dir = "{self.state}"\n'
            f'system_root = "{self.card}/root"\n{compressed}'
            f'[fallback]\nmodel_dir = "{MODEL}"\nruntime = "{RUNTIME}"\n'
            f"[limits]\nqueue = 64\nkeepalive_comment_s = 1\n{extra}"
        )
        self.restarts = 0
        self.going_down = threading.Event()
        self.machine.events(self.on_event)
        self.supervisor = None
        self.start()

    def start(self):
        with self.journal.open("a") as log:
            self.supervisor = subprocess.Popen(
                [OUT / "llm8850-supervisor", "--config", self.config], stdout=log, stderr=log
            )

    def on_event(self, event):
        if event["event"] != "reboot":
            return
        # The host goes down: everything on it ends, and comes up again.
        self.going_down.set()
        self.supervisor.kill()
        self.supervisor.wait()
        self.restarts += 1
        self.start()
        wait_until(lambda: self.status() is not None, 60, "the supervisor after a reboot")
        self.going_down.clear()

    def get(self, path):
        with urllib.request.urlopen(self.base + path, timeout=10) as reply:
            return json.load(reply)

    def metrics(self):
        with urllib.request.urlopen(self.base + "/metrics", timeout=10) as reply:
            return reply.read().decode()

    def status(self):
        try:
            return self.get("/v1/status")
        except (urllib.error.URLError, OSError):
            return None

    def wait_ready(self, seconds=180):
        def ready():
            status = self.status()
            return status and status["state"] in ("ready", "busy") and status

        return wait_until(ready, seconds, "ready on the card")

    def wait_answered(self):
        """Until the card has answered since it became ready: each fault strikes a working service."""
        answered = self.wait_ready()["counters"]["answered"]

        def working():
            status = self.wait_ready()
            # A restarted supervisor counts anew.
            return 0 < status["counters"]["answered"] != answered and status

        return wait_until(working, 180, "an answer between two faults")

    def worker(self):
        status = self.status()
        return status and status.get("worker_pid")

    def signal_worker(self, number):
        pid = wait_until(self.worker, 60, "a worker")
        os.kill(pid, number)

    def rule(self, rule):
        """Arms a rule for whichever process meets it."""
        waiting = self.card / "rule.tmp"
        waiting.write_text(json.dumps(rule))
        waiting.rename(self.card / "faults" / f"{time.monotonic_ns()}.json")

    def clear_rules(self):
        for rule in (self.card / "faults").glob("*.json"):
            rule.unlink(missing_ok=True)

    def breaks(self, **kind):
        self.machine.ask({"break": kind})

    def heal(self):
        self.machine.ask({"heal": {}})

    def acted(self):
        """When faults acted, in milliseconds since 1970."""
        path = self.card / "acted.jsonl"
        if not path.exists():
            return []
        return [json.loads(line)["unix_ms"] for line in path.read_text().splitlines() if line.endswith("}")]

    def records(self):
        path = self.state / "ledger.jsonl"
        if not path.exists():
            return []
        lines = path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def resources(self):
        return resources(self.supervisor.pid)

    def stop(self):
        if self.supervisor.poll() is None:
            self.supervisor.send_signal(signal.SIGTERM)
            try:
                self.supervisor.wait(60)
            except subprocess.TimeoutExpired:
                self.supervisor.kill()
                self.supervisor.wait()
        self.machine.stop()
