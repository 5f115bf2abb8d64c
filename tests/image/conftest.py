"""What the tests of the image share: where things are, a root with everything of ours in it, and an image made of it."""

import os
import pathlib
import shutil
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
TOOLS = TOP / "build/image"
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def run(*command, check=True, **options):
    """Runs a program; its output. A failure tells all it said."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True,
                          env={**os.environ, "PATH": PATH, **options.pop("env", {})}, **options)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout if check else done


def newer_systemd(program):
    """A program of the newest systemd that apt knows, or None."""
    root = TOOLS / "systemd/root"
    for place in ("bin", "usr/bin", "usr/sbin"):
        if (root / place / program).exists():
            libraries = [str(p.parent) for p in root.rglob("libsystemd-shared-*.so")]
            return ["env", f"LD_LIBRARY_PATH={':'.join(libraries)}", str(root / place / program)]
    return None


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """Stands for target/release: what the image installs, as programs that do nothing."""
    directory = tmp_path_factory.mktemp("programs")
    for name in ("supervisor", "worker", "card-helper", "provision", "boot-slot"):
        shutil.copy("/bin/true", directory / f"llm8850-{name}")
    (directory / "libaxcl_rt.so").write_bytes(b"stands for the runtime\n")
    return directory


@pytest.fixture(scope="session")
def installed(programs, tmp_path_factory):
    """A root with everything of ours that the image has."""
    root = tmp_path_factory.mktemp("installed")
    run(TOP / "scripts/install-files", "--image", programs, root)
    return root


@pytest.fixture(scope="session")
def boot(tmp_path_factory):
    """The Raspberry Pi's boot files, with a placeholder for the kernel."""
    directory = tmp_path_factory.mktemp("boot")
    for name in ("config.txt", "cmdline.txt"):
        shutil.copy(TOP / "buildroot/board/rpi5" / name, directory)
    (directory / "Image").write_bytes(b"stands for the kernel\n" * 50_000)
    (directory / "overlays").mkdir()
    run("dtc", "-@", "-q", "-I", "dts", "-O", "dtb", "-o", directory / "overlays/llm8850-leds.dtbo",
        TOP / "buildroot/board/rpi5/llm8850-leds.dts")
    return directory


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models")
    (directory / "small").mkdir()
    for name in ("manifest.json", "config.json", "layer.axmodel"):
        (directory / "small" / name).write_text(name * 1000)
    (directory / "default").symlink_to("small")
    return directory


def assemble(root, boot, models, out):
    run(TOP / "scripts/assemble-image", "--root", root, "--boot", boot, "--models", models, "--out", out)
    return out


@pytest.fixture(scope="session")
def image(installed, boot, models, tmp_path_factory):
    """The directory scripts/assemble-image filled."""
    return assemble(installed, boot, models, tmp_path_factory.mktemp("image"))
