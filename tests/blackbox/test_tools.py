"""tools/test counts what does not come to its end as failed."""
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def counts(tmp_path, script):
    """What the functions of tools/test count for a script that calls them: [passed, failed], and all it printed."""
    functions = (ROOT / "tools/test").read_text().split("\ntools/build debug")[0]
    functions = functions.split('cd "$(dirname "$0")/.."')[1]
    run = subprocess.run(["bash", "-uo", "pipefail", "-c",
                          f'{functions}\n{script}\necho "$passed $failed"', "tools/test"],
                         cwd=tmp_path, capture_output=True, text=True)
    return [int(n) for n in run.stdout.splitlines()[-1].split()], run.stdout


def test_a_suite_that_ends_early_fails(tmp_path):
    suite = tmp_path / "tests" / "early"
    suite.mkdir(parents=True)
    (suite / "test_early.py").write_text(
        "import pytest\ndef test_a(): pass\ndef test_b(): pytest.exit('over', returncode=3)\ndef test_c(): assert 0\n")
    got, out = counts(tmp_path, "pytests early none")
    assert got == [1, 1] and "FAIL  early" in out


def test_a_lane_that_dies_fails(tmp_path):
    assert counts(tmp_path, """
        good() { check one true; check two false; }
        leaves() { check one true; exit 0; }
        killed() { check one true; kill -KILL $BASHPID; }
        aside good; aside leaves; aside killed; collect""")[0] == [1, 3]
