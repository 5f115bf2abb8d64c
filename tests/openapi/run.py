"""Has schemathesis ask the real service whatever /openapi.json allows.

    python tests/openapi/run.py --cases 500
    python tests/openapi/run.py --cases 500 --keys
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "campaign"))

import rig  # noqa: E402

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance"
)
# What always answers 501, as its description says.
REFUSED = "embed|/api/(copy|create|push|delete|blobs)"
# One that may do everything.
KEY = "sk-schemathesis"


def config(address, directory, keys):
    hashed = hashlib.sha256(KEY.encode()).hexdigest()
    key = f'[[access.key]]\nname = "all"\nadmin = true\nsha256 = "{hashed}"\n' if keys else ""
    # A small context bounds how long an answer can get.
    return key + (
        f'[server]\nlisten = ["{address}"]\n'
        f'[worker]\nruntime = "{rig.RUNTIME}"\n'
        f'[recovery]\nsystem_root = "{directory}"\n'
        f'[model]\ndir = "{rig.MODEL}"\ncontext = 64\n'
        "[defaults]\nmax_tokens = 4\n"
    )


def operations(document):
    """How many there are: cases are spread over them."""
    items = [document["components"]["pathItems"][item["$ref"].rsplit("/", 1)[1]] if "$ref" in item else item
             for item in document["paths"].values()]
    return sum(1 for item in items for method in item if method in ("get", "head", "post", "delete"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keys", action="store_true", help="have the service ask for keys")
    arguments = parser.parse_args()
    address = f"127.0.0.1:{rig.free_port()}"
    base = f"http://{address}"
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        (directory / "config.toml").write_text(config(address, directory, arguments.keys))
        journal = (directory / "journal.txt").open("w+")
        service = subprocess.Popen(
            [rig.OUT / "llm8850-supervisor", "--config", directory / "config.toml"], stdout=journal, stderr=journal
        )
        try:
            rig.wait_until(lambda: ready(base), 120, "ready")
            each = max(1, arguments.cases // operations(fetch(base)))
            command = [pathlib.Path(sys.executable).with_name("schemathesis"), "run", f"{base}/openapi.json"]
            command += ["--max-examples", str(each), "--seed", str(arguments.seed), "--checks", CHECKS]
            command += ["--exclude-path-regex", REFUSED]
            # Files are sent in a type of tus' own, which it cannot make: tests/clients does.
            command += ["--exclude-method", "PATCH"]
            if arguments.keys:
                command += ["--header", f"Authorization: Bearer {KEY}"]
            command += ["--phases", "examples,coverage,fuzzing", "--request-timeout", "60", "--no-color"]
            print(f"== about {each} cases for each operation", flush=True)
            code = subprocess.run(command, cwd=directory, check=False).returncode
            status = fetch(base, "/v1/status")
            assert status["counters"]["restarts"] == 0, "a worker had to be replaced"
            return code
        finally:
            service.terminate()
            if service.wait(90) != 0:
                journal.seek(0)
                print(journal.read()[-20_000:])


def fetch(base, path="/openapi.json"):
    with urllib.request.urlopen(base + path, timeout=10) as reply:
        return json.load(reply)


def ready(base):
    try:
        return fetch(base, "/readyz")
    except OSError:
        return None


sys.exit(main())
