"""What is done with an image once it is there: a list of what is in it, and writing it to a card."""

import importlib.machinery
import importlib.util
import json
import shutil
import sys
import tomllib

import pytest
from conftest import TOP, run


@pytest.fixture(scope="module")
def flash():
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader("flash", str(TOP / "scripts/flash"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("flash", loader))
    loader.exec_module(module)
    return module


def disk(**other):
    return {"path": "/dev/card", "type": "disk", "ro": False, "size": 32_000_000_000, "mountpoints": [None], **other}


@pytest.mark.parametrize("other, why", [
    ({}, None),
    ({"type": "part"}, "no whole disk"),
    ({"ro": True}, "read-only"),
    ({"size": 1000}, "1000 bytes"),
    ({"mountpoints": ["/media"]}, "in use (/media)"),
    ({"children": [disk(path="/dev/card1", type="part", mountpoints=["/"])]}, "/dev/card1 is in use (/)"),
    ({"children": [disk(type="part", children=[disk(type="crypt", mountpoints=["[SWAP]"])])]}, "in use ([SWAP])"),
])
def test_what_is_no_free_card_is_refused(other, why, flash):
    told = flash.objection(disk(**other), 2_500_000_000)
    assert told is None if why is None else why in told


def test_a_file_is_no_card(tmp_path, image):
    done = run(TOP / "scripts/flash", image / "llm8850.img", tmp_path, check=False)
    assert done.returncode != 0 and "is no block device" in done.stderr


def test_what_was_written_is_read_back(flash, image, tmp_path):
    card = tmp_path / "card"
    run("cp", "--sparse=always", image / "llm8850.img", card)
    bmap = image / "llm8850.img.bmap"
    assert flash.differs(card, bmap) is None
    start, length, _ = list(flash.ranges(bmap))[-1]
    with open(card, "r+b") as file:
        file.seek(start + length - 1)
        last = file.read(1)
        file.seek(start + length - 1)
        file.write(bytes([last[0] ^ 1]))
    assert flash.differs(card, bmap) == start


def test_the_list_has_everything(tmp_path):
    if not shutil.which("cargo"):
        pytest.skip("NOT TESTED: no cargo here")
    packages = tmp_path / "packages.json"
    packages.write_text(json.dumps({"rauc": {"type": "target", "version": "1.15.2", "licenses": "LGPL-2.1", "virtual": False},
                                    "host-rauc": {"type": "host", "version": "1.15.2"}}))
    triple = tmp_path / "triple.json"
    triple.write_text(json.dumps({"version": "3.6.5", "library": {"file": "/l.so", "sha256": "1" * 64},
                                  "firmware": [{"file": "/f.pac", "sha256": "2" * 64}]}))
    told = json.loads(run(TOP / "scripts/sbom", "--packages", packages, "--triple", triple))
    assert told["bomFormat"] == "CycloneDX" and told["metadata"]["component"]["name"] == "llm8850"
    names = {(c["name"], c["version"]): c for c in told["components"]}
    locked = tomllib.loads((TOP / "Cargo.lock").read_text())["package"]
    assert {(p["name"], p["version"]) for p in locked} <= set(names), "a crate of Cargo.lock is missing"
    assert len({c["bom-ref"] for c in told["components"]}) == len(told["components"])
    assert ("rauc", "1.15.2") in names and ("host-rauc", "1.15.2") not in names
    assert names["/f.pac", "3.6.5"]["hashes"][0]["content"] == "2" * 64
    hyper = next(c for c in told["components"] if c["name"] == "hyper")
    assert hyper["scope"] == "required" and hyper["hashes"] and hyper["licenses"]
    assert next(c for c in told["components"] if c["name"] == "proptest")["scope"] == "excluded"
