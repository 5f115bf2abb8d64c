"""Models pulled from a catalogue: by Ollama's client, from servers that are well, and others. Root's part is the real program."""

import hashlib
import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import ssl
import subprocess
import threading
import time
import urllib.parse

import ollama
import pytest

from conftest import TOP, Service
from test_uploads import Image

LAYER = os.urandom(3_000_000)
FILES = {"config.json": b"{}", "deep/layer 1.axmodel": LAYER, "deep/empty": b""}
SLOW = "/wall/deep/layer%201.axmodel"


class Server:
    """A web server that has a directory, and knows ranges. `faults` are what it does instead, by path, as often as that is."""

    def __init__(self, directory, context=None):
        self.directory, self.faults, self.asked = directory, {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.asked.append((self.path, self.headers["Range"]))
                fault = outer.faults.get(self.path)
                outer.answer(self, fault.pop(0) if fault else None)

            def log_message(self, *_):
                pass

        class Threads(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                """Clients that leave, or do not believe it."""

        self.http = Threads(("127.0.0.1", 0), Handler)
        if context:
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        self.base = f"http{'s' if context else ''}://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, handler, fault):
        path = self.directory / urllib.parse.unquote(handler.path).lstrip("/")
        if not path.is_file():
            handler.send_error(404)
            return
        content, begin = path.read_bytes(), 0
        ranged = re.fullmatch(r"bytes=(\d+)-", handler.headers["Range"] or "")
        if ranged:
            begin = int(ranged[1])
        handler.send_response(206 if ranged else 200)
        if ranged:
            handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - begin))
        handler.end_headers()
        if fault:
            fault(handler, content[begin:])
        else:
            handler.wfile.write(content[begin:])

    def close(self):
        self.http.shutdown()
        self.http.server_close()


def breaks_off(handler, content):
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True


class Stall:
    """Half of it, and the rest when it is let go."""

    def __init__(self):
        self.go = threading.Event()

    def __call__(self, handler, content):
        handler.wfile.write(content[: len(content) // 2])
        self.go.wait(60)
        handler.wfile.write(content[len(content) // 2 :])


def certificate(directory):
    """An authority of one's own, and what it says of 127.0.0.1."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=our own", "-days", "2")
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    (directory / "names").write_text("subjectAltName = IP:127.0.0.1\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.pem", *signed)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    return context


class Appliance(Image):
    """The service on an image, whose catalogue can be changed."""

    def __init__(self, directory):
        super().__init__(directory)
        self.settings = directory / "service"
        self.settings.mkdir()
        self.service = Service(self.settings, f"#catalogue\n[limits]\nbody_s = 2\n{self.sections}")
        self.template = (self.settings / "config.toml").read_text()

    def catalogue(self, address, authority=None):
        """Has it use another one, and waits until it does."""
        lines = f"catalogue = {json.dumps(address)}\n"
        if authority:
            lines += f"catalogue_ca = {json.dumps(str(authority))}\n"
        (self.settings / "config.toml").write_text(self.template.replace("#catalogue\n", lines))
        before = self.read_again()
        self.service.process.send_signal(signal.SIGHUP)
        while self.read_again() == before:
            time.sleep(0.01)

    def read_again(self):
        return self.service.log.read_text().count("was read again")

    def client(self):
        return ollama.Client(host=self.service.base, headers={"Authorization": f"Bearer {self.key}"})

    def pull(self, model):
        return list(self.client().pull(model, stream=True))

    def refused(self, model):
        """What is said, within the stream as well as without."""
        with pytest.raises(ollama.ResponseError) as told:
            self.pull(model)
        with pytest.raises(ollama.ResponseError) as again:
            self.client().pull(model)
        assert again.value.status_code >= 400
        # How much is free changes.
        assert re.sub(r"\d+", "N", again.value.error) == re.sub(r"\d+", "N", told.value.error)
        return told.value.error

    def present(self):
        return sorted(path.name for path in (self.root / "models").iterdir() if not path.name.startswith("."))


@pytest.fixture(scope="module")
def appliance(tmp_path_factory):
    running = Appliance(tmp_path_factory.mktemp("appliance"))
    yield running
    running.service.stop()
    running.listener.close()


def make_catalogue(directory, *names):
    made = subprocess.run([TOP / "scripts/make-catalogue", *(directory / name for name in names)], capture_output=True, text=True,
                          check=False)
    assert made.returncode == 0, made.stderr


@pytest.fixture
def shelf(tmp_path, appliance):
    """A directory with packages and their catalogue."""
    for name in ("wall", "floor"):
        for path, content in FILES.items():
            (tmp_path / "www" / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "www" / name / path).write_bytes(content)
    make_catalogue(tmp_path / "www", "wall", "floor")
    yield tmp_path / "www"
    for path in (appliance.root / "models").glob("*"):
        path.unlink() if path.is_symlink() else shutil.rmtree(path)
    shutil.rmtree(appliance.root / "models/.incoming", ignore_errors=True)


@pytest.fixture
def server(shelf, appliance):
    running = Server(shelf)
    appliance.catalogue(running.base + "/catalogue.json")
    yield running
    running.close()


def change(shelf, deed):
    path = shelf / "catalogue.json"
    catalogue = json.loads(path.read_text())
    deed(catalogue)
    path.write_text(json.dumps(catalogue))


def test_over_tls_with_an_authority_of_ones_own(appliance, shelf, tmp_path):
    server = Server(shelf, certificate(tmp_path))
    address = server.base + "/catalogue.json"
    try:
        appliance.catalogue(address)
        assert "UnknownIssuer" in appliance.refused("wall") and "model.catalogue_ca" in appliance.refused("wall")
        appliance.catalogue(address, tmp_path / "ca.pem")
        steps = appliance.pull("wall")
        appliance.catalogue(address, (tmp_path / "ca.pem").read_text())
        assert appliance.client().pull("floor:latest").status == "success"
        # A name that the certificate does not tell.
        appliance.catalogue(address.replace("127.0.0.1", "localhost"), tmp_path / "ca.pem")
        assert "certificate" in appliance.refused("wall")
    finally:
        server.close()
    statuses = [step.status for step in steps]
    assert statuses[0] == "pulling manifest" and statuses[-2:] == ["writing manifest", "success"]
    assert "verifying sha256 digest" in statuses
    digest = hashlib.sha256(LAYER).hexdigest()
    (last,) = [step for step in steps if step.digest == f"sha256:{digest}" and step.completed == step.total][-1:]
    assert last.status == f"pulling {digest[:12]}" and last.total == len(LAYER)
    assert appliance.installed("wall") == appliance.installed("floor")
    assert appliance.installed("wall") == {name: content for name, content in FILES.items() if not name.endswith(".json")}
    assert appliance.present() == ["default", "floor", "wall"]
    manifest = json.loads((appliance.root / "models/wall/manifest.json").read_text())
    assert manifest["files"]["deep/layer 1.axmodel"]["sha256"] == digest
    # It is there: nothing is fetched again, nor is it taken from who asks once more.
    assert not (appliance.root / "models/.incoming/wall").exists()


def test_what_is_there_is_not_fetched_again(appliance, server):
    assert appliance.client().pull("wall").status == "success"
    server.asked.clear()
    assert [step.status for step in appliance.pull("wall")][-1] == "success"
    assert server.asked == [("/catalogue.json", None)]
    assert not (appliance.root / "models/.incoming/wall").exists()


def test_a_client_that_leaves_ends_it_and_the_next_goes_on(appliance, server):
    stall = Stall()
    server.faults[SLOW] = [stall]
    first = appliance.client().pull("wall", stream=True)
    half = next(step for step in first if step.completed and step.total == len(LAYER)).completed
    # One at a time; and whoever asks for an answer gets it.
    with pytest.raises(ollama.ResponseError, match="is being pulled") as other:
        appliance.client().pull("floor")
    assert other.value.status_code == 423
    said = appliance.client().chat(model="any", messages=[{"role": "user", "content": "Hi"}], options={"num_predict": 3})
    assert said.message.content
    first.close()
    while "nobody pulls it any more" not in appliance.service.log.read_text():
        time.sleep(0.01)
    stall.go.set()
    server.asked.clear()
    assert appliance.client().pull("wall").status == "success"
    (ranged,) = [wanted for path, wanted in server.asked if path == SLOW]
    assert half <= int(ranged.removeprefix("bytes=").removesuffix("-")) < len(LAYER)
    assert appliance.installed("wall")["deep/layer 1.axmodel"] == LAYER


def test_a_server_that_breaks_off_or_stalls_is_asked_for_the_rest(appliance, server):
    stalls = Stall()
    server.faults[SLOW] = [breaks_off, stalls, breaks_off]
    assert appliance.client().pull("wall").status == "success"
    stalls.go.set()
    wanted = [wanted for path, wanted in server.asked if path == SLOW]
    assert len(wanted) == 4 and wanted[0] is None and len(set(wanted)) == 4
    assert appliance.installed("wall")["deep/layer 1.axmodel"] == LAYER

    nothing = [lambda handler, content: setattr(handler, "close_connection", True)] * 2
    server.faults["/floor/deep/layer%201.axmodel"] = nothing
    assert "broke off" in appliance.refused("floor")
    assert appliance.present() == ["default", "wall"]


def test_what_is_damaged_is_named_and_alone_fetched_again(appliance, server, shelf):
    damaged = shelf / "wall/deep/layer 1.axmodel"
    damaged.write_bytes(LAYER[::-1])
    assert "layer 1.axmodel: CRC-32" in appliance.refused("wall")

    # What has the right CRC-32.
    def forge(catalogue):
        for file in catalogue["packages"][0]["files"]:
            file["sha256"] = hashlib.sha256(b"other").hexdigest()

    damaged.write_bytes(LAYER)
    whole = (shelf / "catalogue.json").read_text()
    change(shelf, forge)
    assert "SHA-256" in appliance.refused("wall")
    assert appliance.present() == []
    (shelf / "catalogue.json").write_text(whole)
    server.asked.clear()
    damaged.write_bytes(LAYER[::-1])
    assert "CRC-32" in appliance.refused("wall")
    damaged.write_bytes(LAYER)
    server.asked.clear()
    assert appliance.client().pull("wall").status == "success"
    assert [path for path, _ in server.asked] == ["/catalogue.json", SLOW]


def test_a_catalogue_that_is_wrong_is_told(appliance, server, shelf):
    whole = (shelf / "catalogue.json").read_text()

    def first(key, value):
        return lambda catalogue: catalogue["packages"][0]["files"][2].update({key: value})

    def many(catalogue):
        big = {"bytes": 60 << 30, "crc32": "00000000", "sha256": "0" * 64, "url": "x"}
        catalogue["packages"][0]["files"] = [{"path": str(n), **big} for n in range(100)]

    for deed, told in (
        (lambda catalogue: catalogue.update(version=2), "version 2"),
        (lambda catalogue: catalogue.update(packages=7), "is no catalogue"),
        (first("path", "../../etc/passwd"), "leads out"),
        (first("bytes", 1 << 50), "is the most"),
        (first("bytes", 7), "and the catalogue says 7"),
        (first("url", "file:///etc/passwd"), "leads from http to file"),
        (first("url", "wall/none"), "404"),
        (many, "MiB are free"),
        (lambda catalogue: catalogue.update(more="x" * (1 << 20)), "longer than"),
    ):
        change(shelf, deed)
        assert told in appliance.refused("wall"), told
        assert appliance.present() == []
        (shelf / "catalogue.json").write_text(whole)
    assert "it has wall, floor" in appliance.refused("door")
    appliance.catalogue(server.base + "/none.json")
    assert "404" in appliance.refused("wall")
    gone = Server(shelf)
    gone.close()
    appliance.catalogue(gone.base + "/catalogue.json")
    assert "look at the appliance's network" in appliance.refused("wall")
    silent = Server(shelf)
    silent.answer = lambda *_: time.sleep(5)
    appliance.catalogue(silent.base + "/catalogue.json")
    assert "did not answer within 2 s" in appliance.refused("wall")
    silent.close()
    # What the appliance came with is there, whatever the catalogue has.
    appliance.catalogue(server.base + "/catalogue.json")
    assert appliance.client().pull("smollm2-135m").status == "success"


def test_a_key_is_needed_and_nothing_else_is_disturbed(appliance, server):
    with pytest.raises(ollama.ResponseError) as told:
        ollama.Client(host=appliance.service.base).pull("wall")
    assert told.value.status_code == 401
    assert server.asked == []
    status = http.client.HTTPConnection(appliance.service.address)
    status.request("GET", "/v1/status", headers={"Authorization": f"Bearer {appliance.key}"})
    assert json.loads(status.getresponse().read())["counters"]["restarts"] == 0


def test_the_script_says_what_is_wrong(tmp_path):
    def make(*arguments):
        return subprocess.run([TOP / "scripts/make-catalogue", *arguments], capture_output=True, text=True, check=False)

    package = tmp_path / "wall"
    package.mkdir()
    (package / "config.json").write_text("{}")
    assert make(package, "--describe", "wall", "a line").returncode == 0
    (listed,) = json.loads((tmp_path / "catalogue.json").read_text())["packages"]
    assert listed["description"] == "a line" and listed["files"][0]["url"] == "wall/config.json"
    (package / "config.json").write_text("[]")
    changed = make(package)
    assert changed.returncode and "is not what its manifest says" in changed.stderr
    (tmp_path / "default").mkdir()
    (tmp_path / "deep/other").mkdir(parents=True)
    for wrong in (tmp_path / "default", pathlib.Path("/nowhere")):
        assert make(wrong).returncode == 2
    assert "side by side" in make(package, tmp_path / "deep/other").stderr
