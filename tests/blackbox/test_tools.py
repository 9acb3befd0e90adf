"""tools/test counts what does not come to its end, or does not start, as failed, and runs what it is asked for; a build
that obeys the tests' environment is not one to install."""
import os
import pathlib
import re
import subprocess
import sys

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


KAFKA = ROOT / "tests/kafka/kafka"


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/usr/bin/env bash\n" + text)
    path.chmod(0o755)


def peers(tmp_path, kafka):
    """What suite `peers` counts and prints where tests/kafka/kafka is this script, and there is no Ceph."""
    script(tmp_path / "tests/kafka/kafka", kafka)
    (tmp_path / "tests/kafka/pytest.ini").write_text("[pytest]\nmarkers =\n    peers: .\n")
    (tmp_path / "tests/kafka/test_it.py").write_text(
        "import os, pytest\n@pytest.mark.peers\ndef test_it(): assert os.environ['VARVE_TEST_KAFKA'] == 'a:1'\n")
    return counts(tmp_path, "has_ceph() { false; }\npeers")


def test_a_peer_that_cannot_be_had_is_skipped(tmp_path):
    for status in (3, 124):
        got, out = peers(tmp_path, f'[ $1 = stop ] || {{ echo "kafka: no java" >&2; exit {status}; }}')
        assert got == [0, 0] and "SKIPPED: no test runs against Apache Kafka: kafka: n" in out and "FAIL" not in out


def test_a_peer_that_does_not_start_fails(tmp_path):
    for verb, status in [("fetch", 1), ("start", 1), ("start", 3), ("start", 124)]:
        got, out = peers(tmp_path, f'if [ $1 = {verb} ]; then echo "it is broken" >&2; exit {status}; fi')
        assert got == [0, 1] and "FAIL  peers: Apache Kafka" in out and "it is broken" in out, (verb, status)
        assert "SKIPPED: no test runs against Apache Kafka" not in out


def test_a_peer_that_starts_is_used(tmp_path):
    got, out = peers(tmp_path, 'if [ $1 = start ]; then mkdir "$2"; echo b:2 >"$2/login"; echo a:1; fi')
    assert got == [1, 0] and "ok    peers" in out


def test_what_counts_as_kafka_that_cannot_be_had(tmp_path):
    """Its own fetch, with a Maven that says and returns what Maven does."""
    tests, bin = tmp_path / "tests/kafka", tmp_path / "bin"
    script(tests / "kafka", KAFKA.read_text())
    script(bin / "java", "")
    for said, wait, status in [
            ("[ERROR] Could not transfer artifact org.apache.kafka:kafka_2.13:pom:3.9.1", 0, 3),
            ("[ERROR] Plugin org.apache or one of its dependencies could not be resolved", 0, 3),
            ("", 5, 3),
            ("[ERROR] Non-parseable POM pom.xml", 0, 1),
            ("Error: JAVA_HOME is not defined correctly", 0, 1)]:
        script(bin / "mvn", f'echo "{said}"\nsleep {wait}\nexit 1\n')
        run = subprocess.run([tests / "kafka", "fetch"], capture_output=True, text=True, cwd=tmp_path,
                             env={"PATH": f"{bin}:/usr/bin:/bin", "VARVE_TEST_KAFKA_FETCH_S": "2" if wait else "60"})
        assert run.returncode == status and (said or "not get it in time") in run.stderr, (said, run)


def test_ceph_that_does_not_start_fails(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import sys, warnings\n"
        f"sys.path.insert(0, {str(ROOT / 'tests/s3')!r})\n"
        "import ceph\n"
        "def test_it(monkeypatch):\n"
        f"    monkeypatch.setattr(ceph, 'RGW', {str(tmp_path / 'rgw')!r})\n"
        "    with ceph.gateway(): pass\n")
    for status, outcome in [(1, "1 failed"), (3, "1 skipped")]:
        script(tmp_path / "rgw", f'[ $1 = stop ] || {{ echo "why not" >&2; exit {status}; }}')
        run = subprocess.run([sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "test_it.py"],
                             cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "VARVE_TEST_RGW": "1"})
        assert outcome in run.stdout and "why not" in run.stdout, run.stdout


def test_ceph_that_is_not_installed(tmp_path):
    bin = tmp_path / "bin"
    for name in ("bash", "ls", "dirname"):
        bin.mkdir(exist_ok=True)
        (bin / name).symlink_to(f"/bin/{name}")
    run = subprocess.run([ROOT / "tests/s3/rgw", "start", tmp_path / "ceph"], capture_output=True, text=True,
                         env={"PATH": str(bin)})
    assert run.returncode == 3 and "there is no ceph (tools/deps s3)" in run.stderr, run


def test_unknown_suites_are_refused():
    text = (ROOT / "tools/test").read_text()
    lists = {mode: set(names.split()) for mode, names in re.findall(r'^(\w+)\) suites="(.*?)"', text, re.M)}
    for mode, bad in [("default", "blackboks"), ("nightly", "lint"), ("s3", "unit")]:
        run = subprocess.run([ROOT / "tools/test", mode, *sorted(lists.get(mode, ()))[:1], bad],
                             capture_output=True, text=True)
        assert run.returncode == 2 and run.stdout == ""
        assert f'{mode} has no suite "{bad}"' in run.stderr
        assert all(name in run.stderr for name in lists.get(mode, ["none"]))
    asked = set(re.findall(r"want ([a-z][\w-]*)", text)) | {"unit", "fuzz-replay", "asan", "tsan", "clang"}
    assert asked == lists["default"] | lists["nightly"]
    documented = re.search(r"One suite: `tools/test default crash` \((.*?)\)", (ROOT / "docs/OPERATIONS.md").read_text())
    assert set(documented[1].split(", ")) == lists["default"]


def test_a_build_with_tests_is_not_for_release(tmp_path):
    for buildtype in ("release", "plain", "minsize", "custom"):
        run = subprocess.run(["meson", "setup", tmp_path / buildtype, ROOT, "-Dtests=true", "--buildtype", buildtype],
                             capture_output=True, text=True)
        assert run.returncode != 0 and "obeys VARVE_BUG" in run.stdout
