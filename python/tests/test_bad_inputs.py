"""What cannot work says so in one sentence."""

from __future__ import annotations

import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import textwrap

import ipyparallel
import pytest
from ipyparallel import interactive as remote

import apus
from apus import ApusError, program


def script(path: pathlib.Path, text: str, mode: int = 0o755) -> pathlib.Path:
    path.write_text(text)
    path.chmod(mode)
    return path


# A program that cannot be run


def test_a_program_that_is_not_there(fake_program: pathlib.Path, profile: str) -> None:
    with pytest.raises(ApusError, match=r"APUS_PROGRAM names .*/apus, which cannot be used: No such file"):
        apus.Cluster(1, profile_dir=profile).start_cluster_sync()


def test_an_installation_without_its_program(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.delenv("APUS_PROGRAM", raising=False)
    with pytest.raises(ApusError, match="this installation has no program"):
        program.check(str(tmp_path / "missing"))


def test_a_program_that_is_not_executable(fake_program: pathlib.Path, profile: str) -> None:
    script(fake_program, "", mode=0o644)
    with pytest.raises(ApusError, match=r"its file is not executable\. Make it so: chmod \+x"):
        apus.Cluster(1, profile_dir=profile).start_cluster_sync()


def test_a_program_on_a_file_system_that_runs_none(fake_program: pathlib.Path) -> None:
    folder = fake_program.parent / "noexec"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        with pytest.raises(ApusError, match=r"mounted with 'noexec'\. Install apus into an environment on another one"):
            program.check(str(script(folder / "apus", "#!/bin/sh\n")))
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_program_for_another_machine(fake_program: pathlib.Path) -> None:
    script(fake_program, "\x7fELF of another kind")
    with pytest.raises(ApusError, match=f"another kind of machine than this one \\({platform.machine()}\\)"):
        program.check(str(fake_program))


def test_a_program_for_a_newer_c_library(fake_program: pathlib.Path, profile: str) -> None:
    # A true program, which from now on asks for a version of glibc that there is not.
    binary = pathlib.Path("/bin/true").read_bytes()
    wanted = next(version for version in (b"GLIBC_2.34\0", b"GLIBC_2.2.5\0", b"GLIBC_2.17\0") if version in binary)
    fake_program.write_bytes(binary.replace(wanted, wanted.replace(b"GLIBC_2", b"GLIBC_9")))
    fake_program.chmod(0o755)
    with pytest.raises(ApusError, match=r"it needs glibc 2\.31 or later, and this system has glibc 2"):
        apus.Cluster(1, profile_dir=profile).start_cluster_sync()


def test_a_program_without_its_loader(fake_program: pathlib.Path) -> None:
    # As glibc's programs are on Alpine.
    binary = pathlib.Path("/bin/true").read_bytes()
    fake_program.write_bytes(binary.replace(b"/lib64/ld-linux-x86-64.so.2", b"/lib64/xx-linux-x86-64.so.2"))
    fake_program.chmod(0o755)
    if fake_program.read_bytes() == binary:
        pytest.skip("this machine's loader has another name")
    with pytest.raises(ApusError, match="it needs glibc, and this system has"):
        program.check(str(fake_program))


def test_a_program_that_fails(fake_program: pathlib.Path) -> None:
    script(fake_program, "#!/bin/sh\necho out of luck >&2; exit 3\n")
    with pytest.raises(ApusError, match="it ended with status 3: out of luck"):
        program.check(str(fake_program))


def test_the_command_says_it_too(fake_program: pathlib.Path) -> None:
    script(fake_program, "", mode=0o644)
    run = subprocess.run([sys.executable, "-m", "apus", "status"], capture_output=True, text=True)
    assert run.returncode == 126
    assert run.stderr.startswith("apus: ")
    assert "its file is not executable" in run.stderr


def test_a_cluster_that_failed_to_start_can_be_started(fake_program: pathlib.Path, profile: str) -> None:
    cluster = apus.Cluster(1, profile_dir=profile)
    with pytest.raises(ApusError):
        cluster.start_cluster_sync()
    assert cluster.controller is None
    fake_program.symlink_to(shutil.which("true") or "/bin/true")
    # The program is another now, and runs; that it is no controller is another sentence.
    with pytest.raises(ApusError, match="the controller ended before clients could connect"):
        cluster.start_cluster_sync()


# A wrong cluster


def test_two_clusters_with_one_id(profile: str) -> None:
    with apus.Cluster(1, profile_dir=profile, cluster_id="twice") as client:
        for kind in (apus.Cluster, ipyparallel.Cluster):
            second = kind(controller="apus", engines="apus", n=1, profile_dir=profile, cluster_id="twice", delay=0)
            with pytest.raises(
                ApusError, match=r"cluster 'twice' of the profile .* already runs .* give this one another cluster_id"
            ):
                second.start_cluster_sync()
            assert second.controller is None
            if kind is apus.Cluster:
                second.stop_cluster_sync()
        # The first has taken no harm.
        assert client[0].apply_sync(remote(lambda: 1)) == 1
        with ipyparallel.Client(profile_dir=profile, cluster_id="twice") as other:
            assert other.ids == [0]
    # And its name is free again.
    with apus.Cluster(1, profile_dir=profile, cluster_id="twice") as client:
        assert client[0].apply_sync(remote(lambda: 1)) == 1


def test_a_cluster_that_is_not_there(profile: str) -> None:
    with pytest.raises(
        ApusError, match=r"there is no cluster at .*cluster-lost\.json\. No cluster of this profile runs; start one"
    ):
        apus.Cluster.from_file(profile_dir=profile, cluster_id="lost")
    with (
        apus.Cluster(1, profile_dir=profile, cluster_id="other"),
        pytest.raises(ApusError, match="there runs the cluster with the id 'other'"),
    ):
        apus.Cluster.from_file(profile_dir=profile, cluster_id="lost")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"cluster": 3}', '{"cluster": {"class": "nowhere.Cluster"}}'])
def test_a_file_that_describes_no_cluster(tmp_path: pathlib.Path, text: str) -> None:
    file = tmp_path / "cluster.json"
    file.write_text(text)
    with pytest.raises(ApusError, match=r"cluster\.json describes no cluster that can be used"):
        apus.Cluster.from_file(str(file))


def test_a_cluster_whose_processes_are_gone(profile: str) -> None:
    cluster = apus.Cluster(1, profile_dir=profile, cluster_id="gone")
    cluster.start_cluster_sync()
    text = pathlib.Path(cluster.cluster_file).read_text()
    cluster.stop_cluster_sync()
    pathlib.Path(cluster.cluster_file).write_text(text)
    found = apus.Cluster.from_file(profile_dir=profile, cluster_id="gone")
    assert "not running" in repr(found)
    with apus.Cluster(1, profile_dir=profile, cluster_id="gone") as client:
        assert client.ids == [0]


# A wrong option


def test_a_launcher_that_is_not_there() -> None:
    with pytest.raises(ApusError, match=r"no launcher of a cluster's engine named 'swarm'; there are apus, .*: './swarm'"):
        apus.Cluster(engines="swarm")
    with pytest.raises(ApusError, match="no launcher of a cluster's controller named 'swarm'"):
        apus.Cluster(controller="swarm")


def test_fewer_engines_than_none() -> None:
    with pytest.raises(ApusError, match="a cluster cannot have fewer than no engines"):
        apus.Cluster(-1)


def test_engines_of_a_program_that_is_not_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ApusError, match=r"there is no program \./my-program for the engines"):
        apus.Cluster(engines="./my-program")
    with pytest.raises(ApusError, match="is no program that can be run"):
        apus.Cluster(engines=script(tmp_path / "my-program", "", mode=0o644))
    with pytest.raises(ApusError, match="engines is an empty command"):
        apus.Cluster(engines=[])


def test_engines_of_a_program_that_is_no_engine(tmp_path: pathlib.Path, profile: str) -> None:
    other = script(tmp_path / "my-program", "#!/bin/sh\necho hello from another program\n")
    cluster = apus.Cluster(2, engines=other, profile_dir=profile)
    with pytest.raises(
        ApusError, match=r"the engines ended before they were ready \(.*my-program\): .*hello from another program"
    ):
        cluster.start_and_connect_sync()
    assert cluster.controller is None


def test_a_controller_that_refuses_its_options(profile: str) -> None:
    cluster = apus.Cluster(1, profile_dir=profile, controller_args=["--scheme=astrology"])
    with pytest.raises(ApusError, match=r"the controller ended before clients could connect: .*there is no scheme 'astrology'"):
        cluster.start_and_connect_sync()


# An ipyparallel that is too old

SENTENCE = r"apus needs ipyparallel 9\.0 or later, and 8\.8\.0 is installed\. Update it: pip install --upgrade ipyparallel"


@pytest.mark.parametrize("use", ["apus.Cluster", "apus.launchers"])
def test_an_old_ipyparallel(use: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "ipyparallel").mkdir()
    (tmp_path / "ipyparallel" / "__init__.py").write_text("__version__ = '8.8.0'\n")
    code = textwrap.dedent(f"""
        import apus
        try:
            {"import apus.launchers" if use == "apus.launchers" else "apus.Cluster"}
        except ImportError as error:
            print(error)
    """)
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    assert re.fullmatch(SENTENCE, run.stdout.strip()), run.stdout + run.stderr
