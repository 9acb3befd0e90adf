"""examples/load-packages: loads through kills of the server and of itself, and verifies truly."""
import pathlib
import random
import subprocess
import sys
import time

import requests

LOADER = pathlib.Path(__file__).resolve().parents[2] / "examples" / "load-packages"


def source(tmp_path, count=4000):
    rng = random.Random(5)
    path = tmp_path / "available"
    with open(path, "w", encoding="utf-8") as f:
        for i in range(count):
            f.write(f"Package: p{i}\nVersion: 1:{i % 7}~rc/1+b\nArchitecture: all\n"
                    f"Description: \"grün\" \\ {rng.random()}\n folded: {'x' * rng.randrange(900)}\n\n")
        f.write("Package: p0\nVersion: 1:0~rc/1+b\nArchitecture: all\nDescription: again, other\n\n")
    return path


def loader(server, path, *flags):
    return [sys.executable, str(LOADER), "--from", str(path), "--batch", "50",
            "--server", server.address["http"], *flags]


def run(*words):
    r = subprocess.run(words, capture_output=True, text=True, timeout=120)
    return r.returncode, r.stdout + r.stderr


def test_load_and_verify(server, tmp_path):
    path = source(tmp_path, 500)
    code, out = run(*loader(server, path, "--verify"))
    assert code == 1 and "501 missing or different" in out
    code, out = run(*loader(server, path))
    assert code == 0 and "501 records" in out
    code, out = run(*loader(server, path, "--verify"))
    assert code == 0 and "0 missing or different" in out, out
    changed = [{"key": "package/p7/1:0~rc/1+b/all", "value": "changed", "version": 1}]
    assert requests.post(server.http + "/v1/put", json=changed).status_code == 200
    code, out = run(*loader(server, path, "--verify"))
    assert code == 1 and "1 missing or different" in out and "package/p7/" in out


def test_goes_on_after_kills(start, tmp_path):
    path = source(tmp_path)
    server = start()
    http, rng = server.address["http"], random.Random()
    flags = ["--http", http, "--binary", server.address["binary"]]
    load = None
    for turn in range(4):
        load = subprocess.Popen(loader(server, path), stdout=subprocess.PIPE, text=True)
        time.sleep(0.2 + rng.random() * 0.3)
        server.kill()
        if turn % 2:
            load.kill()
            load.wait()
        server.flags = flags  # the same ports, so that the loader finds it again
        server.start()
        if turn % 2 == 0:
            assert load.wait(60) == 0
    code, out = run(*loader(server, path))
    assert code == 0, out
    code, out = run(*loader(server, path, "--verify"))
    assert code == 0 and "4001 records" in out and "0 missing or different" in out, out
