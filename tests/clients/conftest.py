"""Starts the real supervisor, worker and emulated card for the official clients to talk with."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import openai
import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
OUT = TOP / "target" / "release"
# `cargo test` leaves the emulated runtime here only, `cargo build` here as well.
RUNTIME = OUT / "deps" / "libaxcl_rt.so"
MODEL = pathlib.Path(os.environ.get("LLM8850_DEMO_MODEL", TOP / "build/models/smollm2-135m"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Service:
    """A running supervisor with its worker."""

    def __init__(self, directory, extra="", spoken=None):
        for needed in (OUT / "llm8850-supervisor", RUNTIME, MODEL / "manifest.json"):
            assert needed.exists(), f"{needed} is missing: run `make model` first"
        self.address = f"127.0.0.1:{free_port()}"
        self.base = f"http://{self.address}"
        # As the appliance has Ollama's port besides its own.
        self.second = f"http://127.0.0.1:{free_port()}"
        self.log = directory / "journal.txt"
        config = directory / "config.toml"
        second = self.second.removeprefix("http://")
        fallback = f'[[server.spoken_fallback]]\nlisten = "{second}"\ntext = "{spoken}"\n'
        config.write_text(
            f'[server]\nlisten = ["{self.address}", "{second}"]\n{fallback if spoken else ""}'
            f'[worker]\nruntime = "{RUNTIME}"\n'
            f'[recovery]\nsystem_root = "{directory}"\n'
            f'[model]\ndir = "{MODEL}"\n{extra}'
        )
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [OUT / "llm8850-supervisor", "--config", config], stdout=log, stderr=log
            )
        self.wait_ready()

    def get(self, path, timeout=60):
        with urllib.request.urlopen(self.base + path, timeout=timeout) as reply:
            return json.load(reply)

    def wait_ready(self, limit=120):
        end = time.monotonic() + limit
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            try:
                urllib.request.urlopen(self.base + "/readyz", timeout=5)
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise AssertionError("never ready:\n" + self.log.read_text())

    def worker(self):
        """The worker's process id, or None between two workers."""
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else None

    def client(self, **options):
        options.setdefault("max_retries", 0)
        return openai.OpenAI(base_url=self.base + "/v1", api_key="unused", timeout=300, **options)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(60) == 0, self.log.read_text()


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    running = Service(tmp_path_factory.mktemp("service"))
    yield running
    running.stop()


@pytest.fixture
def client(service):
    return service.client()
