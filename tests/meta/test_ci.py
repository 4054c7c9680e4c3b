"""The workflows of GitHub Actions run the scripts of .ci/, with least privilege; how those scripts fail."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DEFAULT_LANES = ("tests", "engines")
AS_ROOT = 'sudo -E env "PATH=$PATH" '
BASE = "base"  # a branch
DOCKER = """#!/bin/sh
printf '%s\\n' docker "$@" end >>"$DOCKER_LOG"
"""
WITH_DEVICES = """
mount -t tmpfs tmpfs /dev
mkdir /dev/dri && touch /dev/null /dev/kfd /dev/dri/renderD128
exec "$@"
"""
needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0
    or subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs root and private mounts",
)


def jobs():
    """Return each job of each workflow, with its workflow."""
    found = [yaml.safe_load(path.read_text()) for path in WORKFLOWS]
    return [(workflow, job) for workflow in found for job in workflow["jobs"].values()]


def steps():
    """Return each step of each job."""
    return [step for _, job in jobs() for step in job["steps"]]


def commands():
    """Return the words of each command of the workflows."""
    return [step["run"].removeprefix(AS_ROOT).split() for step in steps() if "run" in step]


def run(*words, cwd=ROOT, **environment):
    """Run a script."""
    return subprocess.run(words, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False)


def test_workflows_run_scripts_of_this_repository_only():
    """So whatever a job does can be repeated on another machine."""
    scripts = {word for words in commands() for word in words if word.startswith(".ci/")}
    assert all(words[0] in scripts for words in commands())
    assert all(os.access(ROOT / script, os.X_OK) for script in scripts)
    assert scripts == {".ci/run", ".ci/with-rocm", ".ci/judge"}


def test_every_lane_has_a_job():
    """The lanes are the functions of .ci/run that its list of lanes names."""
    lanes = re.search(r"^    ([a-z |]+)\) ;;$", (ROOT / ".ci/run").read_text(), re.MULTILINE)[1].split(" | ")
    assert {words[1] for words in commands() if words[0] == ".ci/run"} == set(lanes) >= set(DEFAULT_LANES)


def test_both_engines_are_judged_by_the_same_script():
    """The gate runs on MIGraphX's ref target what the ROCm job runs on a GPU."""
    assert ".ci/with-migraphx .ci/judge migraphx:ref" in (ROOT / ".ci/run").read_text()
    assert [".ci/with-rocm", ".ci/judge", "migraphx:gpu"] in [words[:3] for words in commands()]


def test_actions_are_pinned_by_hash():
    """A tag can be moved; the comment names the version."""
    uses = [line for path in WORKFLOWS for line in path.read_text().splitlines() if "uses:" in line]
    assert uses
    assert all(re.fullmatch(r"\s*(- )?uses: [\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line) for line in uses)


def test_jobs_have_least_privilege():
    """Read-only token that no step finds on disk, a time limit, one run of a branch at a time."""
    for workflow, job in jobs():
        assert workflow["permissions"] == {"contents": "read"}
        assert "permissions" not in job
        assert workflow["concurrency"]["group"].endswith("${{ github.ref }}")
        assert job["timeout-minutes"] <= 120
    checkouts = [step for step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == len(jobs())
    assert not any(step["with"]["persist-credentials"] for step in checkouts)
    assert not any("secrets." in path.read_text() for path in WORKFLOWS)


def test_pull_request_of_a_fork_never_reaches_a_self_hosted_runner():
    """A pull request could run commands there."""
    own = "github.event.pull_request.head.repo.full_name == github.repository"
    guarded = [job for _, job in jobs() if "self-hosted" in job["runs-on"]]
    assert guarded
    assert all(job["if"] == f"github.event_name != 'pull_request' || {own}" for job in guarded)
    assert not any("pull_request_target" in path.read_text() for path in WORKFLOWS)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([".ci/run", "gpu"], "no lane 'gpu'"),
        ([".ci/judge", "migraphx:ref"], "usage:"),
        ([".ci/with-rocm"], "no command"),
        ([".ci/with-rocm", "--base", "no-such-branch", "true"], "'no-such-branch' pins no ROCm"),
    ],
)
def test_wrong_use_of_a_script_ends_with_code_2(words, says):
    done = run(*words)
    assert done.returncode == 2
    assert says in done.stderr


def test_judge_passes_on_the_exit_code_of_pytest(tmp_path):
    """Here 4: an engine that is unknown."""
    place = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = run(".ci/judge", "no:engine", str(tmp_path / "new"), PATH=place)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no:engine" in done.stderr


@pytest.fixture
def copy(tmp_path):
    """A repository with the scripts; its branch ``base`` pins ROCm 1.2.3, and it has no docker of its own."""
    folder = tmp_path / "copy"
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@localhost"]
    (folder / ".ci" / "rocm-version").write_text("1.2.3\n")
    for words in (["init", "--quiet", "-b", BASE], ["add", "."], ["commit", "--quiet", "-m", "x"]):
        subprocess.run([*git, *words], cwd=folder, check=True)
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    return folder


def with_rocm(copy, *words):
    """Run .ci/with-rocm with devices and a docker that writes its words down; return both."""
    log = copy.parent / "log"
    place = {
        "PATH": f"{copy.parent}/bin:{os.environ['PATH']}",
        "DOCKER_LOG": str(log),
        "NFNET_CACHE_DIR": f"{copy}/cache",
    }
    done = run("unshare", "--mount", "sh", "-euc", WITH_DEVICES, "sh", ".ci/with-rocm", *words, cwd=copy, **place)
    calls = log.read_text().split("end\n") if log.exists() else []
    return done, [call.split("\n")[:-1] for call in calls[:-1]]


@needs_mounts
def test_container_has_the_devices_and_no_more_rights_than_the_caller(copy):
    done, (build, ran) = with_rocm(copy, ".ci/judge", "migraphx:gpu", "results")
    assert done.returncode == 0, done.stderr
    assert {"ROCM=1.2.3", "BASE_ROCM=1.2.3", "judge"} <= set(build)
    assert ran[-4:] == ["nfnet-migraphx:1.2.3", ".ci/judge", "migraphx:gpu", "results"]
    assert {"/dev/kfd", "/dev/dri", "no-new-privileges", f"{os.getuid()}:{os.getgid()}", f"{copy}:{copy}"} <= set(ran)
    assert "--privileged" not in ran


@needs_mounts
def test_base_branch_with_another_rocm_adds_it_to_the_image(copy):
    """It is the other side of --ab."""
    (copy / ".ci" / "rocm-version").write_text("4.5.6\n")
    done, (build, ran) = with_rocm(copy, "--base", BASE, "true")
    assert done.returncode == 0, done.stderr
    assert {"ROCM=4.5.6", "BASE_ROCM=1.2.3", "ab"} <= set(build)
    assert ran[-2:] == ["nfnet-migraphx:4.5.6-ab-1.2.3", "true"]


@needs_mounts
def test_base_branch_with_the_same_rocm_has_nothing_to_compare(copy):
    done, calls = with_rocm(copy, "--base", BASE, "false")
    assert done.returncode == 0, done.stderr
    assert not calls
    assert "nothing to compare" in done.stderr
