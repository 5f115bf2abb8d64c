"""The card's image, read back."""

import hashlib
import json
import re
import shutil

import pytest
from conftest import TOP, assemble, run

MIB = 1024 * 1024
# As docs/image.md has them; the last is as large as its contents.
LAYOUT = [("setup", 64), ("boot-a", 128), ("boot-b", 128), ("root-a", 512), ("root-b", 512), ("state", 1024), ("models", None)]


@pytest.fixture(scope="session")
def partitions(image):
    table = json.loads(run("sfdisk", "-J", image / "llm8850.img"))["partitiontable"]
    assert table["label"] == "gpt"
    return {p["name"]: p for p in table["partitions"]}


@pytest.fixture(scope="session")
def part(image, partitions, tmp_path_factory):
    """part(LABEL): that partition as a file of its own."""
    directory = tmp_path_factory.mktemp("parts")

    def cut(label):
        path = directory / label
        if not path.exists():
            p = partitions[label]
            run("dd", f"if={image / 'llm8850.img'}", f"of={path}", "bs=1M", "conv=sparse", "status=none",
                f"skip={p['start'] // 2048}", f"count={p['size'] // 2048}")
        return path

    return cut


def test_partitions_are_as_documented(partitions):
    assert [(name, LAYOUT[i][1] and p["size"] * 512 // MIB) for i, (name, p) in enumerate(partitions.items())] == LAYOUT
    assert all(p["start"] % 2048 == 0 for p in partitions.values()), "not all begin at a MiB"
    text = (TOP / "docs/image.md").read_text()
    for name, size in LAYOUT:
        row = next(line for line in text.splitlines() if f"`{name}`" in line and line.startswith("|"))
        wanted = {64: "64 MiB", 128: "128 MiB", 512: "512 MiB", 1024: "1 GiB", None: "the rest"}[size]
        assert wanted in row, row


def test_autoboot_is_one_sector_and_names_slot_a(part):
    text = run("mtype", "-i", part("setup"), "::autoboot.txt")
    assert len(text) == 512
    assert text.split() == ["[all]", "tryboot_a_b=1", "boot_partition=2", "[tryboot]", "boot_partition=3"]


def test_setup_has_no_kernel(part):
    names = run("mdir", "-b", "-i", part("setup"), "::").split()
    assert "::/READ-ME.txt" in names
    assert not [n for n in names if n.endswith(("config.txt", "Image"))], names


@pytest.mark.parametrize("slot", ["a", "b"])
def test_each_command_line_names_its_own_root(slot, part, partitions, image):
    verity = json.loads((image / "verity.json").read_text())
    boot = part(f"boot-{slot}")
    line = run("mtype", "-i", boot, f"::cmdline-{slot}.txt")
    assert line.count("\n") == 1, "the firmware takes one line"
    device = f"PARTUUID={partitions['root-' + slot]['uuid'].lower()}"
    table = re.search(r'dm-mod.create="root,,,ro,(.*)"', line).group(1).split()
    blocks = verity["data_blocks"]
    assert table == ["0", str(blocks * 8), "verity", "1", device, device, "4096", "4096", str(blocks), str(blocks + 1),
                     "sha256", verity["root_hash"], verity["salt"]]
    assert f"dm-mod.waitfor={device}" in line and f"rauc.slot={slot}" in line and "root=/dev/dm-0 ro" in line
    assert line.startswith((TOP / "buildroot/board/rpi5/cmdline.txt").read_text().strip())
    assert "cma=" not in line + run("mtype", "-i", boot, "::config.txt")


def test_config_chooses_the_command_line_by_partition(part):
    chosen, here = {}, None
    for line in run("mtype", "-i", part("boot-a"), "::config.txt").splitlines():
        if line.startswith("["):
            here = line
        elif line.startswith("cmdline="):
            chosen[here] = line.removeprefix("cmdline=")
    assert chosen == {"[boot_partition=2]": "cmdline-a.txt", "[boot_partition=3]": "cmdline-b.txt"}
    names = run("mdir", "-b", "-/", "-i", part("boot-a"), "::").split()
    assert {f"::/{name}" for name in (*chosen.values(), "Image", "overlays/llm8850-leds.dtbo")} <= set(names)


@pytest.mark.parametrize("slot", ["a", "b"])
def test_the_root_is_what_its_hash_says(slot, part, image):
    verity = json.loads((image / "verity.json").read_text())
    root = part(f"root-{slot}")
    offset = verity["data_blocks"] * 4096
    run("veritysetup", "verify", root, root, verity["root_hash"], f"--hash-offset={offset}")
    run("fsck.erofs", root)


def test_a_changed_root_is_noticed(image, tmp_path):
    verity = json.loads((image / "verity.json").read_text())
    root = tmp_path / "root.img"
    data = bytearray((image / "root.img").read_bytes())
    data[5000] ^= 1
    root.write_bytes(data)
    done = run("veritysetup", "verify", root, root, verity["root_hash"],
               f"--hash-offset={verity['data_blocks'] * 4096}", check=False)
    assert done.returncode != 0, "a changed byte was not noticed"


def test_data_partitions_are_sound(part, models):
    for label in ("state", "models"):
        run("e2fsck", "-fn", part(label))
        assert f"Filesystem volume name:   {label}" in run("dumpe2fs", "-h", part(label))
    content = run("debugfs", "-R", "cat /small/layer.axmodel", part("models"))
    assert content == (models / "small/layer.axmodel").read_text()
    assert 'Fast link dest: "small"' in run("debugfs", "-R", "stat /default", part("models"))


def test_checksums(image):
    run("sha256sum", "--check", "SHA256SUMS", cwd=image)
    assert "llm8850.img.bmap" in (image / "SHA256SUMS").read_text()


def test_bmap_writes_the_image(image, tmp_path):
    """bmaptool compares what it reads with the sums in the bmap; what it wrote has the whole table, at both ends."""
    card = tmp_path / "card"
    run("bmaptool", "copy", "--bmap", image / "llm8850.img.bmap", image / "llm8850.img", card)
    run("sfdisk", "--verify", card)
    assert run("sfdisk", "-d", card).split("\n", 3)[3].replace(str(card), "") \
        == run("sfdisk", "-d", image / "llm8850.img").split("\n", 3)[3].replace(str(image / "llm8850.img"), "")


def test_twice_is_identical(installed, boot, models, image, tmp_path):
    """Again, of copies whose files were made in another order and at another time. The bmap has the sums of the image."""
    copies = []
    for source in (installed, boot, models):
        copy = tmp_path / source.name
        copy.mkdir()
        for path in sorted(source.rglob("*"), reverse=True):
            target = copy / path.relative_to(source)
            if path.is_dir() and not path.is_symlink():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target, follow_symlinks=False)
        for path in sorted(source.rglob("*")):
            if not path.is_symlink():
                (copy / path.relative_to(source)).chmod(path.stat().st_mode & 0o777)
        copies.append(copy)
    again = assemble(*copies, tmp_path / "again")
    for name in ("root.img", "boot.vfat", "verity.json", "llm8850.img.bmap", "SHA256SUMS"):
        sums = [hashlib.sha256((d / name).read_bytes()).hexdigest() for d in (image, again)]
        assert sums[0] == sums[1], f"{name} differs"


def test_models_grow_to_the_cards_end(image, installed, tmp_path):
    card = tmp_path / "card.img"
    run("cp", "--sparse=always", image / "llm8850.img", card)
    with open(card, "r+b") as file:
        file.truncate(8 * 1024 * MIB)
    before = json.loads(run("sfdisk", "-J", image / "llm8850.img"))["partitiontable"]["partitions"]
    run("systemd-repart", f"--definitions={installed}/usr/lib/repart.d", "--dry-run=no", card)
    after = json.loads(run("sfdisk", "-J", card))["partitiontable"]["partitions"]
    assert len(after) == len(before)
    for old, new in zip(before[:-1], after[:-1]):
        del old["node"], new["node"]
        assert old == new
    assert after[-1]["start"] == before[-1]["start"]
    assert (after[-1]["start"] + after[-1]["size"]) * 512 > 8 * 1024 * MIB - 2 * MIB
    assert after[-1]["uuid"] == before[-1]["uuid"], "the partition has another UUID now"


def test_too_large_a_root_is_refused(boot, tmp_path):
    with open(tmp_path / "root.erofs", "wb") as file:
        file.truncate(510 * MIB)
    done = run(TOP / "scripts/assemble-image", "--root", tmp_path / "root.erofs", "--boot", boot, "--out", tmp_path / "out",
               check=False)
    assert done.returncode != 0 and "its partition has" in done.stderr, done.stderr
