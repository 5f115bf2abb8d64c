"""The service on this machine, to be compared with: what it answers, the machine in the machine must answer, too."""

import contextlib
import json
import pathlib
import subprocess
import tempfile
import time
import tomllib
import urllib.error
import urllib.request

from machine import free_port

TOP = pathlib.Path(__file__).resolve().parents[2]
RELEASE = TOP / "target/release"
# What the image's service goes by where a request says nothing.
DEFAULTS = tomllib.loads((TOP / "overlay/usr/lib/llm8850/config.toml").read_text())["defaults"]
LIMIT = 120


@contextlib.contextmanager
def service(model):
    """This machine's own service with that model; its address."""
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory) / "config.toml"
        values = {"server": {"listen": [address]}, "model": {"dir": str(model)}, "defaults": DEFAULTS,
                  "worker": {"runtime": str(RELEASE / "deps/libaxcl_rt.so")}, "recovery": {"state_dir": f"{directory}/state"}}  # fmt: skip
        config.write_text("".join(f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
                                  for section, keys in values.items()))  # fmt: skip
        with (pathlib.Path(directory) / "log").open("w+") as log:
            process = subprocess.Popen([RELEASE / "llm8850-supervisor", "--config", config], stdout=log, stderr=log)
            try:
                until = time.monotonic() + LIMIT
                while not ready(address):
                    assert process.poll() is None and time.monotonic() < until, (log.seek(0), log.read()[-2000:])
                    time.sleep(0.1)
                yield f"http://{address}"
            finally:
                process.terminate()
                process.wait()


def ready(address):
    try:
        return urllib.request.urlopen(f"http://{address}/readyz", timeout=5).status == 200
    except (OSError, urllib.error.URLError):
        return False
