"""What others see: s3cmd lists and fetches what our writers put, and what it puts under a log's name is read."""
import os
import shutil
import subprocess
import warnings

import pytest

from conftest import BUILD, HERE

TOP = HERE.parents[1] / BUILD
WRITER = str((TOP / "tests/archive_tool").resolve())
VARVE = str((TOP / "varve").resolve())


@pytest.fixture(params=["tiny", "rgw"])
def endpoint(request):
    if not shutil.which("s3cmd"):
        warnings.warn("s3cmd is not installed: nobody but varve looks at its objects")
        pytest.skip("s3cmd is not installed (tools/deps s3)")
    if request.param == "tiny":
        return request.getfixturevalue("tiny").endpoint
    return request.getfixturevalue("rgw")[0]


@pytest.fixture
def s3cmd(endpoint, tmp_path):
    config = tmp_path / "s3cfg"
    host = endpoint.split("//")[1]
    config.write_text("[default]\naccess_key = test\nsecret_key = testtest\nuse_https = False\nsignature_v2 = False\n"
                      f"bucket_location = us-east-1\nhost_base = {host}\nhost_bucket = {host}\n")

    def run(*words):
        r = subprocess.run(["s3cmd", "-c", str(config), "--no-progress", *map(str, words)], capture_output=True,
                           text=True, timeout=120)
        assert r.returncode == 0, r.stderr
        return r.stdout

    return run


def read(endpoint, log, *options):
    env = {**os.environ, "VARVE_S3_ACCESS_KEY": "test", "VARVE_S3_SECRET_KEY": "testtest", "VARVE_S3_ENDPOINT": endpoint,
           "VARVE_S3_PATH_STYLE": "true"}
    r = subprocess.run([VARVE, "log", "read", f"s3://varve/{log}", *options], capture_output=True, text=True, env=env,
                       timeout=120)
    assert r.returncode == 0, r.stderr
    return r.stdout.splitlines()


def records(data):
    """(offset, bytes) of each record of a data object, taken apart as docs/FORMATS.md says."""
    out, at = [], 0
    while at < len(data):
        offset = int.from_bytes(data[at:at + 8], "little")
        length = int.from_bytes(data[at + 32:at + 36], "little")
        out.append((offset, data[at + 36:at + 36 + length]))
        assert int.from_bytes(data[at + 36 + length:at + 40 + length], "little") == 36 + length
        at += 40 + length
    return out


def test_lists_fetches_and_puts(endpoint, s3cmd, tmp_path):
    for kind, label in (("direct", "a"), ("batching", "b")):
        r = subprocess.run([WRITER, endpoint, "varve", "s3cmd/", kind, label, "0", "300", "9"], timeout=120)
        assert r.returncode == 0
    want = [f"a-{i}" for i in range(300)] + [f"b-{i}" for i in range(300)]
    listed = {}
    for line in s3cmd("ls", "--recursive", "s3://varve/s3cmd/ks/key/").splitlines():
        _, _, size, name = line.split(None, 3)
        listed[name.removeprefix("s3://varve/s3cmd/ks/key/")] = int(size)
    data = sorted(n for n in listed if n.startswith("data_"))
    assert data and all(listed[n] == int(n.split("_s")[1].split("_p")[0]) for n in data)
    assert "s3://varve/s3cmd/ks/" in s3cmd("ls", "s3://varve/s3cmd/")

    folder = tmp_path / "fetched" / "ks" / "key"
    folder.mkdir(parents=True)
    for name in listed:
        s3cmd("get", f"s3://varve/s3cmd/ks/key/{name}", folder / name)
        assert (folder / name).stat().st_size == listed[name]
    rows = [row for n in data for row in records((folder / n).read_bytes())]
    assert rows == [(i + 1, text.encode()) for i, text in enumerate(want)]
    # A directory of what was fetched is a store, too.
    r = subprocess.run([VARVE, "log", "read", f"dir://{tmp_path}/fetched/ks/key"], capture_output=True, text=True)
    assert r.stdout.splitlines() == want, r.stderr

    for name in data:
        s3cmd("put", folder / name, f"s3://varve/s3cmd/ks/copied/{name}")
    assert read(endpoint, "s3cmd/ks/copied") == want
    assert read(endpoint, "s3cmd/ks/copied", "--start", "offset:450", "--limit", "3", "--backwards") == want[449:446:-1]
