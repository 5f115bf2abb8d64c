"""The root overlay and what systemd, udev and others say of it."""

import re
import shutil

import pytest
from conftest import TOP, newer_systemd, run

SYSTEM = "usr/lib/systemd/system"
# What the image's units name, of packages other than ours.
FOREIGN = ["usr/sbin/sshd", "usr/bin/ssh-keygen", "bin/rm", "bin/kill", "bin/sh"]


def systemd(program):
    found = newer_systemd(program)
    if not found:
        pytest.skip(f"NOT TESTED: no newer {program} here: scripts/setup-image unpacks Debian's")
    return found


@pytest.fixture(scope="module")
def root(installed, tmp_path_factory):
    """That root with systemd's own units, and the programs of others that are named."""
    copy = tmp_path_factory.mktemp("root") / "root"
    shutil.copytree(installed, copy, symlinks=True)
    unpacked = TOP / "build/image/systemd/root"
    for directory in ("lib/systemd/system", "usr/lib/systemd/system"):
        if (unpacked / directory).is_dir():
            shutil.copytree(unpacked / directory, copy / SYSTEM, symlinks=True, dirs_exist_ok=True)
    for program in FOREIGN:
        (copy / program).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/true", copy / program)
    # Those of ours again: Debian's package has some of the same names.
    run("cp", "-a", f"{installed}/.", copy)
    return copy


def units():
    return sorted({p.name for d in ("systemd", f"overlay/{SYSTEM}") for p in (TOP / d).glob("*")
                   if p.suffix in (".service", ".socket", ".path", ".timer", ".mount")})


def test_units_are_sound(root):
    done = run(*systemd("systemd-analyze"), f"--root={root}", "verify", "--man=no", "--recursive-errors=no",
               *[u.replace("@.", "@1.") for u in units()], check=False)
    told = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert done.returncode == 0 and not told, "\n".join(told)


def test_a_mistake_in_a_unit_would_be_told(root, tmp_path):
    copy = tmp_path / "root"
    shutil.copytree(root, copy, symlinks=True)
    unit = copy / SYSTEM / "llm8850-judge.service"
    unit.write_text(unit.read_text().replace("Restart=on-failure", "Restrat=on-failure"))
    done = run(*systemd("systemd-analyze"), f"--root={copy}", "verify", "--man=no", "llm8850-judge.service", check=False)
    assert "Restrat" in done.stdout + done.stderr


# Tenths of what systemd-analyze calls exposure; the worker is the service's child.
@pytest.mark.parametrize("unit, most", [("llm8850.service", 20), ("llm8850-card@1.service", 31),
                                        ("llm8850-unload.service", 28), ("llm8850-judge.service", 34),
                                        ("llm8850-overdue.service", 34), ("llm8850-slots.service", 34),
                                        ("llm8850-triple.service", 16)])
def test_exposure_does_not_grow(root, unit, most):
    done = run(*systemd("systemd-analyze"), f"--root={root}", "security", "--offline=true", "--no-pager",
               f"--threshold={most}", unit, check=False)
    assert done.returncode == 0 and "Overall exposure" in done.stdout, (done.stdout + done.stderr).splitlines()[-1]


def test_every_ordering_is_explained():
    """A comment stands above each of them, or above the group it is in."""
    for path in [*(TOP / "systemd").rglob("*"), *(TOP / "overlay" / SYSTEM).rglob("*")]:
        if path.suffix not in (".service", ".socket", ".path", ".timer", ".mount", ".conf"):
            continue
        explained = False
        for line in path.read_text().splitlines():
            ordering = re.match(r"(After|Before|Requires|RequiresMountsFor)=", line)
            # What units do without default dependencies has to be said again; why is said with DefaultDependencies.
            if ordering and not line.startswith("Before=shutdown.target"):
                assert explained, f"{path.name}: no comment above {line}"
            explained = line.startswith("#") or explained and bool(line) and not line.startswith("[")


@pytest.mark.parametrize("rules", ["60-llm8850-zram.rules", "70-llm8850.rules", "90-llm8850-stick.rules"])
def test_udev_rules(rules, installed):
    told = run(*systemd("udevadm"), "verify", "--resolve-names=never", installed / "usr/lib/udev/rules.d" / rules)
    assert "1 udev rules files have been checked" in told and "Success: 1" in told, told


def test_users_and_directories(root, tmp_path):
    """Made in a root that has nothing but them, as at the first start."""
    run("systemd-sysusers", f"--root={root}", root / "usr/lib/sysusers.d/llm8850.conf")
    assert {"llm8850", "gpio"} <= {line.split(":")[0] for line in (root / "etc/group").read_text().splitlines()}
    run("systemd-tmpfiles", f"--root={root}", "--create", root / "usr/lib/tmpfiles.d/llm8850-image.conf")
    for directory in ("llm8850", "llm8850-ssh", "llm8850-slots", "llm8850-rauc", "iwd", "llm8850/orders"):
        assert (root / "var/lib" / directory).is_dir(), directory
    assert (root / "var/lib/llm8850-ssh").stat().st_mode & 0o777 == 0o700
    assert (root / "var/lib/llm8850/model").readlink().as_posix() == "/models/default"


def test_presets_name_what_there_is(root):
    text = (root / "usr/lib/systemd/system-preset/10-llm8850.preset").read_text()
    wanted = re.findall(r"^enable (llm8850\S*|sshd\S*|var.mount)", text, re.M)
    assert wanted
    run(*systemd("systemctl"), f"--root={root}", "preset", *wanted)
    for unit in wanted:
        assert run(*systemd("systemctl"), f"--root={root}", "is-enabled", unit).strip() == "enabled"
    ours = {u for u in units() if re.search(r"^\[Install\]", (root / SYSTEM / u).read_text(), re.M)}
    assert ours == set(wanted), "a unit with [Install] is not in the preset"


def test_nothing_leads_to_an_emergency_shell(root):
    drop_in = (root / SYSTEM / "local-fs.target.d/10-llm8850.conf").read_text()
    assert re.search(r"^OnFailure=$", drop_in, re.M)
    for line in (TOP / "overlay/etc/fstab").read_text().splitlines():
        if line.startswith("/dev/"):
            assert "nofail" in line and "x-systemd.device-timeout=" in line, line


@pytest.fixture(scope="module")
def mounts(root, tmp_path_factory):
    """What systemd makes of fstab at the start."""
    unpacked = TOP / "build/image/systemd/root"
    found = list(unpacked.rglob("systemd-fstab-generator"))
    if not found:
        pytest.skip("NOT TESTED: no systemd-fstab-generator here: scripts/setup-image unpacks Debian's")
    libraries = ":".join(str(p.parent) for p in unpacked.rglob("libsystemd-shared-*.so"))
    directory = tmp_path_factory.mktemp("mounts")
    places = [directory / name for name in ("normal", "early", "late")]
    for place in places:
        place.mkdir()
    run(found[0], *places, env={"SYSTEMD_FSTAB": str(root / "etc/fstab"), "LD_LIBRARY_PATH": libraries,
                                "SYSTEMD_PROC_CMDLINE": "root=/dev/dm-0 ro", "SYSTEMD_IN_INITRD": "0"})
    return places[0]


def test_fstab_becomes_the_mounts_that_are_meant(root, mounts):
    text = (mounts / "models.mount").read_text()
    assert "What=/dev/disk/by-partlabel/models" in text
    assert "After=llm8850-disks.service" in text
    assert "Before=local-fs.target" in text and "errors=remount-ro" in text
    assert not (mounts / "local-fs.target.requires/models.mount").exists()
    assert not (mounts / "var.mount").exists(), "it would go before the image's own"
    assert "[Install]\nWantedBy=sysinit.target" in (root / SYSTEM / "llm8850-disks.service").read_text()


def test_var_never_fails(root):
    """Its unit stands in for `state`: what keeps something there requires it."""
    unit = (root / SYSTEM / "var.mount").read_text()
    for line in ("After=llm8850-disks.service", "ConditionPathIsMountPoint=!/var", "What=tmpfs"):
        assert re.search(f"^{re.escape(line)}$", unit, re.M), line


def whole_start(root, mounts, copy):
    """What systemd says of the whole start, with everything enabled and mounted that the image has."""
    shutil.copytree(root, copy, symlinks=True)
    shutil.copytree(mounts, copy / SYSTEM, symlinks=True, dirs_exist_ok=True)
    run(*systemd("systemctl"), f"--root={copy}", "preset-all")
    done = run(*systemd("systemd-analyze"), f"--root={copy}", "verify", "--man=no", "sysinit.target", "multi-user.target",
               "llm8850-judge.service", "llm8850-overdue.timer", "shutdown.target", check=False)
    return done.stdout + done.stderr


def test_nothing_waits_for_itself(root, mounts, tmp_path):
    told = whole_start(root, mounts, tmp_path / "root")
    assert "cycle" not in told, told


def test_what_waits_for_itself_would_be_told(root, mounts, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(mounts, changed, symlinks=True)
    unit = changed / "models.mount"
    unit.write_text(unit.read_text().replace("[Mount]", "Before=systemd-repart.service\n[Mount]"))
    assert "cycle" in whole_start(root, changed, tmp_path / "root")


def test_overlay_holds_what_it_should():
    """Nothing stray, nothing executable, no program of a shell's; what is a link leads where the documentation says."""
    for path in (TOP / "overlay").rglob("*"):
        if path.is_symlink() or path.is_dir():
            continue
        assert path.stat().st_mode & 0o111 == 0, f"{path} is executable"
        assert not re.search(r"~$|\.(orig|rej|swp|bak|pyc|key\.pem)$", path.name), f"{path} is stray"
        assert not path.read_bytes().startswith(b"#!"), f"{path} is a script"
    links = {str(p.relative_to(TOP / "overlay")): str(p.readlink()) for p in (TOP / "overlay").rglob("*") if p.is_symlink()}
    assert links == {"etc/llm8850/config.toml": "/run/llm8850-config/config.toml",
                     "etc/localtime": "../run/llm8850-config/localtime", "etc/iwd/main.conf": "/run/llm8850-config/iwd.conf",
                     "etc/resolv.conf": "../run/systemd/resolve/stub-resolv.conf",
                     "etc/systemd/system/getty@.service": "/dev/null", "etc/systemd/system/serial-getty@.service": "/dev/null"}


def test_a_debian_gets_a_plain_configuration(programs, tmp_path):
    run(TOP / "scripts/install-files", programs, tmp_path)
    config = tmp_path / "etc/llm8850/config.toml"
    assert config.is_file() and not config.is_symlink()
    assert not (tmp_path / "etc/fstab").exists() and not (tmp_path / "usr/bin/llm8850-provision").exists()


def test_ssh_asks_for_a_key():
    text = (TOP / "overlay/etc/ssh/sshd_config").read_text()
    assert re.search(r"^PasswordAuthentication no$", text, re.M) and re.search(r"^AuthenticationMethods publickey$", text, re.M)
    path = re.search(r"^AuthorizedKeysFile (\S+)$", text, re.M).group(1)
    unit = (TOP / "overlay" / SYSTEM / "sshd.service").read_text()
    assert f"ConditionPathExists={path}" in unit
