#!/usr/bin/env python3
"""Real input: the Debian package index, loaded by examples/load-packages with the server killed by SIGKILL
half way and once more, the loader killed too, the load resumed, every record read back and compared."""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from conftest import Server, lasting_address  # noqa: E402

LOADER = str(pathlib.Path(__file__).resolve().parents[2] / "examples" / "load-packages")


def keys(server):
    """How many keys there are, by listing them all."""
    import json
    import urllib.parse
    import urllib.request
    n, after = 0, ""
    while True:
        url = server.http + "/v1/keys?limit=5000&after=" + urllib.parse.quote(after)
        page = json.load(urllib.request.urlopen(url))
        n += len(page["keys"])
        if not page["more"]:
            return n
        after = page["keys"][-1]["key"]


def main():
    if not subprocess.run(["apt-cache", "dumpavail"], capture_output=True).stdout:
        subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=subprocess.DEVNULL)
    total = subprocess.run(["apt-cache", "dumpavail"], capture_output=True).stdout.count(b"\nPackage: ")
    home = pathlib.Path(tempfile.mkdtemp(prefix="varve-packages-"))
    address = lasting_address()  # the loader comes back to it
    s = Server(home / "data", "--http", address, "--storage-memory-limit", "64m", "--storage-max-block-size", "4m")
    load = [sys.executable, LOADER, "--server", address]
    killed = 0
    loader = subprocess.Popen(load)
    while killed < 3 and loader.poll() is None:
        there = keys(s)
        if killed < 2 and there > total * (killed + 1) // 3:
            s.kill()
            time.sleep(0.3)
            s.start()
            assert keys(s) >= there, "records that were there are gone"
            killed += 1
            print(f"server killed with {there} of {total} records")
        elif killed == 2 and there > total * 3 // 4:
            loader.send_signal(signal.SIGKILL)
            loader.wait()
            killed += 1
            print(f"loader killed with {there} records")
            loader = subprocess.Popen(load)
        time.sleep(0.02)
    assert loader.wait() == 0, "the loader failed"
    assert killed >= 2, "the load was over before it could be killed"
    s.kill()
    s.start()
    status = subprocess.run(load + ["--verify"]).returncode
    found = keys(s)
    assert s.stop() == 0
    s.start()
    status = status or subprocess.run(load + ["--verify"]).returncode
    assert s.stop() == 0
    print(f"{found} records of {total} in the index, compared after kill -9 and after an orderly stop: "
          + ("all equal" if status == 0 else "NOT equal"))
    return status


if __name__ == "__main__":
    sys.exit(main())
