"""Models sent to the image: by a client of tus, and by scripts/send-model. Root's part is the real program, started for each
connection as systemd does."""

import os
import socket
import subprocess
import threading
import zlib

import pytest
import requests
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

from conftest import OUT, TOP, Service
from test_keys import make_key

LAYER = os.urandom(3_000_000)
FILES = {"config.json": b"{}", "deep/layer 1.axmodel": LAYER, "deep/empty": b""}


class Image:
    """What of the appliance's image takes models in."""

    def __init__(self, directory):
        self.root = directory / "root"
        for below in ("models", "run/llm8850-appliance", "usr/bin"):
            (self.root / below).mkdir(parents=True)
        self.socket = directory / "models.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.socket))
        self.listener.listen()
        threading.Thread(target=self.take_in, daemon=True).start()
        self.key, entry = make_key("technician")
        self.sections = (
            f'{entry}admin = true\n[appliance]\ndir = "{self.root}/run/llm8850-appliance"\nmodels = "{self.socket}"\n'
        )

    def take_in(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                subprocess.Popen([OUT / "llm8850-provision", "--system-root", self.root, "take-in"], stdin=connection)

    def installed(self, name):
        package = self.root / "models" / name
        return {str(p.relative_to(package)): p.read_bytes() for p in package.rglob("*") if p.is_file() and p.suffix != ".json"}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    image = Image(tmp_path_factory.mktemp("image"))
    yield image
    image.listener.close()


@pytest.fixture
def service(image, tmp_path):
    running = Service(tmp_path, image.sections)
    yield running
    running.stop()


@pytest.fixture
def package(tmp_path):
    directory = tmp_path / "wall"
    for name, content in FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    return directory


def ask(service, image, method, path, **more):
    reply = requests.request(method, service.base + path, headers={"Authorization": f"Bearer {image.key}"}, timeout=60, **more)
    assert reply.ok, reply.text
    return reply.json()


def manifest():
    entry = {name: {"bytes": len(content), "crc32": f"{zlib.crc32(content):08x}"} for name, content in FILES.items()}
    return {"version": 1, "files": entry}


def tus(service, image):
    return TusClient(service.base + "/v1/models/uploads", headers={"Authorization": f"Bearer {image.key}"})


def test_tus_goes_on_after_the_service_was_started_anew(image, package, tmp_path):
    path = "deep/layer 1.axmodel"
    options = {"file_path": str(package / path), "chunk_size": 700_000, "retries": 3, "retry_delay": 1}
    metadata = {"model": "tus", "path": path}
    (tmp_path / "one").mkdir()
    first = Service(tmp_path / "one", image.sections)
    try:
        begun = ask(first, image, "POST", "/v1/models/installs", json={"model": "tus", "manifest": manifest()})
        uploader = tus(first, image).uploader(metadata=metadata, **options)
        uploader.upload(stop_at=1_400_000)
        assert uploader.offset == 1_400_000
        with pytest.raises(TusCommunicationError):
            tus(first, image).uploader(file_path=str(package / path), metadata={"model": "tus", "path": "none"}).upload()
    finally:
        first.stop()
    (tmp_path / "two").mkdir()
    second = Service(tmp_path / "two", image.sections)
    try:
        url = next(file["url"] for file in begun["files"] if file["path"] == path)
        again = tus(second, image).uploader(url=second.base + url, **options)
        assert again.offset == 1_400_000
        again.upload()
        config = {"model": "tus", "path": "config.json"}
        tus(second, image).uploader(file_path=str(package / "config.json"), metadata=config).upload()
        ask(second, image, "POST", "/v1/models/installs/tus")
        while (told := ask(second, image, "GET", "/v1/models/installs")["last"])["state"] == "checking":
            pass
        assert told["state"] == "installed", told
    finally:
        second.stop()
    assert image.installed("tus")[path] == LAYER


def test_the_script_sends_a_model_and_goes_on(service, image, package):
    def send(*more):
        return subprocess.run([TOP / "scripts/send-model", package, service.base, *more], capture_output=True, text=True,
                              env={**os.environ, "LLM8850_KEY": image.key}, check=False)

    ask(service, image, "POST", "/v1/models/installs", json={"model": "wall", "manifest": manifest()})
    sent = requests.patch(service.base + "/v1/models/uploads/wall/deep/layer%201.axmodel", LAYER[:1000], timeout=60, headers={
        "Authorization": f"Bearer {image.key}", "Tus-Resumable": "1.0.0", "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream"})
    assert sent.headers["Upload-Offset"] == "1000"
    done = send()
    assert done.returncode == 0 and "wall is installed" in done.stdout, done.stdout + done.stderr
    assert image.installed("wall") == {name: content for name, content in FILES.items() if not name.endswith(".json")}
    assert ask(service, image, "GET", "/v1/status")["appliance"]["models"]["state"] == "installed"
    again = send()
    assert "is installed already" in again.stdout and again.returncode == 0
    assert ask(service, image, "GET", "/v1/models/installs")["incoming"] == []

    (package / "deep/layer 1.axmodel").write_bytes(LAYER[::-1])
    damaged = send("--name", "other")
    assert damaged.returncode and "layer 1.axmodel: CRC-32" in damaged.stderr, damaged.stdout + damaged.stderr
    refused = send("--name", "default")
    assert refused.returncode and "cannot be called" in refused.stderr, refused.stderr


def test_a_key_is_needed(service, package):
    done = subprocess.run([TOP / "scripts/send-model", package, service.base], capture_output=True, text=True,
                          env={**os.environ, "LLM8850_KEY": "sk-wrong"}, check=False)
    assert done.returncode and "Incorrect API key" in done.stderr, done.stderr
