"""Updates: made, signed, checked; what was tampered with is refused."""

import shutil

import pytest
from conftest import TOP, run


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    directory = tmp_path_factory.mktemp("keys") / "ours"
    run(TOP / "scripts/make-keys", directory)
    return directory


def bundle(image, keys, out, keyring=None):
    return run(TOP / "scripts/make-bundle", "--images", image, "--board", "rpi5", "--version", "1.2.3",
               "--key", keys / "signing.key.pem", "--cert", keys / "signing.cert.pem",
               "--keyring", keyring or keys / "keyring.pem", "--out", out, check=False)


@pytest.fixture(scope="module")
def update(image, keys, tmp_path_factory):
    out = tmp_path_factory.mktemp("update") / "update.raucb"
    done = bundle(image, keys, out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def system(keys, tmp_path):
    """The image's own system.conf, with the keyring where the test has it."""
    text = (TOP / "overlay/etc/rauc/system.conf").read_text()
    conf = tmp_path / "system.conf"
    conf.write_text(text.replace("/etc/rauc/keyring.pem", str(keys / "keyring.pem")))
    return conf


def test_a_bundle_is_accepted(update, system):
    told = run("rauc", "--conf", system, "info", "--output-format=shell", update)
    assert "RAUC_MF_COMPATIBLE='llm8850-rpi5'" in told and "RAUC_MF_VERSION='1.2.3'" in told
    assert "RAUC_MF_IMAGES=2" in told


def test_its_images_are_what_was_assembled(update, system, image, tmp_path):
    run("rauc", "--conf", system, "extract", update, tmp_path / "out")
    for name in ("root.img", "boot.vfat"):
        run("cmp", image / name, tmp_path / "out" / name)


@pytest.mark.parametrize("where", ["signature", "manifest"])
def test_a_tampered_bundle_is_refused(where, update, system, tmp_path):
    data = bytearray(update.read_bytes())
    # The signature, with the manifest in it, is last; its length follows it.
    at = data.rindex(b"1.2.3") if where == "manifest" else len(data) - 40
    data[at] ^= 1
    (tmp_path / "bad.raucb").write_bytes(data)
    done = run("rauc", "--conf", system, "info", tmp_path / "bad.raucb", check=False)
    assert done.returncode != 0, done.stdout


def test_a_tampered_payload_is_refused(update, system, tmp_path):
    data = bytearray(update.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.raucb").write_bytes(data)
    done = run("rauc", "--conf", system, "extract", tmp_path / "bad.raucb", tmp_path / "out", check=False)
    assert done.returncode != 0, done.stdout


def test_a_truncated_bundle_is_refused(update, system, tmp_path):
    shutil.copy(update, tmp_path / "short.raucb")
    with open(tmp_path / "short.raucb", "r+b") as file:
        file.truncate(update.stat().st_size // 2)
    assert run("rauc", "--conf", system, "info", tmp_path / "short.raucb", check=False).returncode != 0


def test_another_authoritys_bundle_is_refused(image, system, tmp_path):
    run(TOP / "scripts/make-keys", tmp_path / "theirs")
    done = bundle(image, tmp_path / "theirs", tmp_path / "theirs.raucb")
    assert done.returncode == 0, done.stderr
    assert run("rauc", "--conf", system, "info", tmp_path / "theirs.raucb", check=False).returncode != 0


def test_a_bundle_nobody_would_take_is_not_made(image, keys, tmp_path):
    run(TOP / "scripts/make-keys", tmp_path / "theirs")
    done = bundle(image, tmp_path / "theirs", tmp_path / "wrong.raucb", keyring=keys / "keyring.pem")
    assert done.returncode != 0 and not (tmp_path / "wrong.raucb").exists()
