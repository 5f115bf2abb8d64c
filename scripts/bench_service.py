"""The service and the vendor's call pattern, each with an emulated card of its own, as `bench` measures them."""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

PROGRAMS, DEMO, BUILD = (pathlib.Path(p).resolve() for p in sys.argv[1:4])
ROUNDS = int(os.environ.get("ROUNDS", "5"))


def say(text):
    print(text, file=sys.stderr, flush=True)


def trace(emulator):
    """What the emulated card with this control directory was asked to do."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(emulator / "control.sock"))
        s.sendall(b'{"trace":{}}\n')
        return json.loads(s.makefile().readline())["trace"]


def processor_s(pid, trace):
    """Processor time of a process so far, without what the emulated card in it took."""
    spent = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            if not (task / "comm").read_text().startswith("emu-"):
                spent += int((task / "schedstat").read_text().split()[0])
        except OSError:
            pass  # It ended meanwhile: a thread of the card's control socket.
    return (spent - trace.get("total", {}).get("inside_cpu_ns", 0)) / 1e9


class Vendor:
    """The vendor's call pattern on an emulated card of its own."""

    def __init__(self, model):
        self.folder = tempfile.TemporaryDirectory(prefix="llm8850-bench-")
        self.emulator = pathlib.Path(self.folder.name)
        self.process = subprocess.Popen(
            [PROGRAMS / "examples" / "vendor_pattern", PROGRAMS / "libaxcl_rt.so", model],
            env={**os.environ, "AXCL_EMU_DIR": self.folder.name, "AXCL_EMU_LATENCY": "llm8850"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        # The library prints lines of its own.
        while (line := self.process.stdout.readline()) != "ready\n":
            if not line:
                raise SystemExit("the vendor's pattern does not start")

    def do(self, what, count):
        """(seconds, seconds of processor time, what the card was asked to do)"""
        before = self.processor_s()
        self.process.stdin.write(f"{what} {count}\n")
        self.process.stdin.flush()
        seconds = float(self.process.stdout.readline())
        return seconds, self.processor_s() - before, trace(self.emulator)["requests"][-1]

    def processor_s(self):
        return processor_s(self.process.pid, trace(self.emulator))

    def stop(self):
        self.process.stdin.close()
        self.process.wait(60)


class Service:
    def __init__(self, model, settings="", worker="llm8850-worker", **environment):
        self.folder = tempfile.TemporaryDirectory(prefix="llm8850-bench-")
        folder = pathlib.Path(self.folder.name)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        config = folder / "config.toml"
        config.write_text(
            f'[server]\nlisten = ["127.0.0.1:{self.port}"]\n'
            f'[worker]\nprogram = "{worker}"\nruntime = "{PROGRAMS / "libaxcl_rt.so"}"\nverify = false\n[model]\ndir = "{model}"\n'
            + settings
        )
        self.log = folder / "log"
        self.emulator = folder / "emulator"
        self.emulator.mkdir()
        self.process = subprocess.Popen(
            [PROGRAMS / "llm8850-supervisor", "--config", config],
            env={**os.environ, "AXCL_EMU_DIR": str(self.emulator), **environment},
            stdout=self.log.open("w"), stderr=subprocess.STDOUT,
        )
        began = time.monotonic()
        while self.get("/readyz") != 200:
            if self.process.poll() is not None or time.monotonic() - began > 300:
                raise SystemExit(f"the service does not start:\n{self.log.read_text()}")
            time.sleep(0.05)
        self.ready_s = time.monotonic() - began

    def get(self, path):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return None

    def ask(self, prompt, tokens, **fields):
        """(prompt tokens computed, seconds to the first token, seconds per further token)"""
        messages = [{"role": "system", "content": prompt}, {"role": "user", "content": "Go on."}]
        fields = {"temperature": 0, "logit_bias": self.endless, **fields}
        usage, began, times, _ = self.stream(messages, tokens, **fields)
        computed = usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
        per_token = (times[-1] - times[0]) / max(1, usage["completion_tokens"] - 1)
        return computed, times[0] - began, per_token

    def turn(self, messages, tokens):
        """(prompt tokens, of these known, seconds to the first token, the answer)"""
        usage, began, times, said = self.stream(messages, tokens, temperature=0)
        return usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"], times[0] - began, said

    def stream(self, messages, tokens, **fields):
        body = {"model": "any", "messages": messages, "max_tokens": tokens, "stream": True,
                "stream_options": {"include_usage": True}, **fields}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        began = time.monotonic()
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        reply = connection.getresponse()
        times, usage, said = [], None, ""
        for line in reply:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            usage = chunk.get("usage") or usage
            piece = "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
            if piece:
                times.append(time.monotonic())
                said += piece
        if usage is None:
            raise SystemExit(f"no answer: {reply.status}\n{self.log.read_text()}")
        return usage, began, times, said

    def recover(self):
        """Seconds from the worker's end until another one answers."""
        worker = int(self.children()[0])
        began = time.monotonic()
        os.kill(worker, signal.SIGKILL)
        while self.children() == [str(worker)] or self.get("/readyz") != 200:
            if time.monotonic() - began > 300:
                raise SystemExit(f"no other worker comes:\n{self.log.read_text()}")
            time.sleep(0.02)
        return time.monotonic() - began

    def engines(self):
        """Seconds each load took to have its engines on the card."""
        loads = re.findall(r"on the card .*\bseconds=([\d.]+)", self.log.read_text())
        return [float(seconds) for seconds in loads]

    # The end-of-turn tokens, banned so that every answer has its full length.
    endless = {}

    def trace(self):
        return trace(self.emulator)

    def processor_s(self):
        """Processor time of supervisor and worker so far."""
        return processor_s(self.process.pid, {}) + sum(processor_s(pid, self.trace()) for pid in self.children())

    def worker_mb(self):
        """Megabytes of the worker's anonymous memory; an emulated card's is shared memory and not among it."""
        status = pathlib.Path(f"/proc/{self.children()[0]}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024 / 1e6

    def children(self):
        return pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
