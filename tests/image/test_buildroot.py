"""The external tree: as far as that goes without Buildroot, and with one (BUILDROOT_DIR)."""

import json
import os
import pathlib
import re
import sys

import pytest
from conftest import TOOLS, TOP, run

TREE = TOP / "buildroot"
DEFCONFIGS = ["llm8850_rpi5", "llm8850_qemu_aarch64"]


def scripts():
    found = [p for p in run("git", "-C", TOP, "ls-files", "-co", "--exclude-standard").split()]
    return [TOP / p for p in found if (TOP / p).is_file() and re.match(rb"#!.*\bbash\b", (TOP / p).open("rb").readline())]


def test_scripts_pass_shellcheck():
    found = scripts()
    assert TOP / "scripts/assemble-image" in found
    run("shellcheck", "-x", "-P", TOP, "--severity=warning", *found, TOP / "buildroot/board/options.sh")


def test_defconfigs_are_what_the_fragments_make():
    run(TOP / "scripts/defconfigs", "--check")


def test_no_symbol_is_said_twice():
    for name in DEFCONFIGS:
        symbols = re.findall(r"^(?:# )?(BR2_\w+)", (TREE / f"configs/{name}_defconfig").read_text(), re.M)
        assert len(symbols) == len(set(symbols)), sorted(s for s in set(symbols) if symbols.count(s) > 1)
    for path in TREE.rglob("*.fragment"):
        symbols = re.findall(r"^(?:# )?(CONFIG_\w+)", path.read_text(), re.M)
        assert symbols and len(symbols) == len(set(symbols)), path


def test_files_that_are_named_exist():
    for path in [*TREE.rglob("*.config"), TREE / "Config.in", *TREE.rglob("*.mk")]:
        for name in re.findall(r"\$\(?BR2_EXTERNAL_LLM8850_PATH\)?/([\w./-]+)", path.read_text()):
            assert name.startswith("../build/") or (TREE / name).exists(), f"{path}: {name}"


def test_no_cma_anywhere():
    for path in TREE.rglob("*"):
        if path.is_file():
            assert b"cma=" not in path.read_bytes(), path


def test_a_kernel_for_each_promise():
    """What overlay, units and command line rely on is built in, since there is no initramfs."""
    text = (TREE / "board/linux.fragment").read_text() + (TREE / "board/rpi5/linux.fragment").read_text()
    for symbol in ("EROFS_FS EROFS_FS_ZIP SQUASHFS OVERLAY_FS DM_VERITY DM_INIT EFI_PARTITION BLK_DEV_LOOP PCIE_BRCMSTB "
                   "FW_LOADER BCM2835_WDT ZRAM PSTORE_RAM LEDS_TRIGGER_PATTERN LEDS_GPIO NET_NS CGROUPS").split():
        assert f"CONFIG_{symbol}=y\n" in text, symbol
    assert "CONFIG_I6300ESB_WDT=y" in (TREE / "board/qemu/linux.fragment").read_text()


def test_kernel_options_are_no_typing_errors():
    """Unknown ones vanish silently. Debian's arm64 kernel has an opinion on each, except where that hangs on another choice."""
    found = sorted((TOOLS / "headers/root/usr/src").glob("linux-headers-*-arm64/.config"))
    if not found:
        pytest.skip("NOT TESTED: no headers of an arm64 kernel here: scripts/setup-image unpacks Debian's")
    known = set(re.findall(r"^(?:# )?(CONFIG_\w+)(?:=| is not set)", found[-1].read_text(), re.M))
    named = {s for path in TREE.rglob("*.fragment") for s in re.findall(r"^(?:# )?(CONFIG_\w+)", path.read_text(), re.M)}
    # Only offered where the device mapper is built in; Debian's is a module.
    assert named - known == {"CONFIG_DM_INIT"}


@pytest.fixture(scope="module")
def upstream():
    directory = os.environ.get("BUILDROOT_DIR")
    if not directory:
        pytest.skip("NOT TESTED: no Buildroot here: BUILDROOT_DIR= names a checkout of 2026.02.3")
    return pathlib.Path(directory)


@pytest.fixture(scope="module", params=DEFCONFIGS)
def configured(request, upstream, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param)
    run("make", "-s", "-C", upstream, f"O={out}", f"BR2_EXTERNAL={TREE}", f"{request.param}_defconfig", env={"MAKEFLAGS": ""})
    return out, TREE / f"configs/{request.param}_defconfig"


def test_each_symbol_is_accepted(configured, upstream):
    out, defconfig = configured
    run(sys.executable, upstream / "support/scripts/check-dotconfig.py", out / ".config", defconfig)
    assert "BR2_LEGACY=y" not in (out / ".config").read_text()


def test_saved_again_it_is_the_same(configured, upstream):
    out, defconfig = configured
    saved = out / "saved"
    run("make", "-s", "-C", upstream, f"O={out}", f"BR2_DEFCONFIG={saved}", "savedefconfig", env={"MAKEFLAGS": ""})
    assert sorted(saved.read_text().splitlines()) == sorted(defconfig.read_text().splitlines())


def test_what_is_on_by_default_is_relied_on(configured):
    text = (configured[0] / ".config").read_text()
    for symbol in ("SYSTEMD_NETWORKD", "SYSTEMD_RESOLVED", "SYSTEMD_TIMESYNCD", "SYSTEMD_PSTORE", "KMOD_TOOLS", "LIBSECCOMP"):
        assert f"BR2_PACKAGE_{symbol}=y" in text, symbol


def test_packages_are_known(configured, upstream):
    """With the vendor's package switched on, but named by nobody: what lists packages must not fail for that."""
    out, _ = configured
    with open(out / ".config", "a", encoding="utf-8") as file:
        file.write("BR2_PACKAGE_AXCL_HOST=y\n")
    run("make", "-s", "-C", upstream, f"O={out}", "olddefconfig", env={"MAKEFLAGS": ""})
    info = json.loads(run("make", "-s", "-C", upstream, f"O={out}", "show-info", env={"MAKEFLAGS": ""}))
    assert info["llm8850"]["licenses"].startswith("Apache-2.0 or MIT")
    assert "host-rustc" in info["llm8850"]["dependencies"]
    assert info["axcl-host"]["redistributable"] is False
    assert info["rauc"]["version"] == "1.15.2" and info["systemd"]["version"].startswith("258")


def test_style(upstream):
    files = run("git", "-C", TOP, "ls-files", "-co", "--exclude-standard", "buildroot").split()
    run(sys.executable, upstream / "utils/check-package", "-b", *[TOP / f for f in files], cwd=upstream)
