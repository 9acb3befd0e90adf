"""`varve log check`: every kind of damage to logs kept as objects is told, and nothing else."""
import os
import struct
import subprocess

import pytest

from conftest import VARVE
from test_cli_objects import put as put_plain


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


assert crc32c(b"123456789") == 0xe3069283  # the polynomial's known answer


def put(folder, records, prior):
    path = put_plain(folder, records, prior)
    os.setxattr(path, "user.varve.crc32c", b"%08x" % crc32c(path.read_bytes()))
    return path


def check(*words, code=0):
    r = subprocess.run([VARVE, "log", "check", *words], capture_output=True, text=True, timeout=60)
    assert r.returncode == code, (r.returncode, r.stdout, r.stderr)
    if code > 1:
        return r.stderr
    lines = r.stdout.splitlines()
    counts = {k: int(v) for k, v in (line.split(" ") for line in lines[-7:])}
    assert counts["defects"] == len(lines) - 7
    return lines[:-7], counts


def edit(path, at, flip=1):
    """Changes a byte in place, so that the file's attribute stays."""
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ flip]))


class Logs:
    def __init__(self, tmp_path):
        self.root = tmp_path / "store"
        self.url = f"dir://{self.root}"
        self.folder = self.root / "pre" / "ks" / "a%2Fb"
        self.other = self.root / "pre" / "ks" / "b"
        self.folder.mkdir(parents=True)
        self.other.mkdir()
        (self.root / "pre" / "ks_config.ini").write_text("[keyspace]\ncreated=1")
        (self.folder / ("epoch_%020d" % 1)).write_text("%016x\n" % 1)
        (self.folder / "watermark").write_bytes(struct.pack("<Q", 3))
        self.objects = [put(self.folder, [(1, 10, 100, b"one"), (2, 20, 101, b"two")], 0),
                        put(self.folder, [(3, 30, 105, b"three")], 1),
                        put(self.folder, [(4, 40, 106, b"\xff"), (5, 50, 107, b"five")], 3),
                        put(self.folder, [(6, 60, 108, b"six")], 4)]
        put(self.other, [(1, 1, 0, b"x")], 0)

    def told(self, *parts):
        """One defect, which names all of these."""
        defects, counts = check(self.url, code=1)
        assert len(defects) == 1, defects
        for part in parts:
            assert str(part) in defects[0], (part, defects)
        return counts


@pytest.fixture
def logs(tmp_path):
    return Logs(tmp_path)


def test_all_is_well(logs):
    defects, counts = check(logs.url)
    assert defects == [] and counts == {"logs": 2, "objects": 5, "records": 7, "bytes": 7 * 40 + 20,
                                        "without_sum": 0, "fences": 0, "defects": 0}
    for url, n in ((logs.url + "/", 2), (logs.url + "/pre", 2), (logs.url + "/pre/ks", 2),
                   (logs.url + "/pre/ks/a%2Fb", 1), (logs.url + "/pre/ks/b/", 1)):
        assert check(url)[1]["logs"] == n
    assert logs.root.exists() and check("--require-sums", logs.url)[1]["defects"] == 0


def test_altered(logs):
    edit(logs.objects[1], 36)  # "three"
    found = crc32c(logs.objects[1].read_bytes())
    counts = logs.told(logs.objects[1].name, "%08x" % found)
    assert counts["objects"] == 5 and counts["records"] == 6
    os.removexattr(logs.objects[1], "user.varve.crc32c")  # then nobody can know
    assert check(logs.url)[1]["without_sum"] == 1
    defects, _ = check("--require-sums", logs.url, code=1)
    assert len(defects) == 1 and "no checksum" in defects[0]


def test_a_wrong_offset(logs):
    edit(logs.objects[2], 0)
    logs.told(logs.objects[2].name, "offset 5 where 4 is due")


def test_a_sum_that_is_none(logs):
    os.setxattr(logs.objects[0], "user.varve.crc32c", b"none")
    logs.told(logs.objects[0].name, "crc32c")


def test_cut(logs):
    os.truncate(logs.objects[0], 50)
    logs.told(logs.objects[0].name, "50 bytes", "86")


def test_too_long(logs):
    with open(logs.objects[1], "ab") as f:
        f.write(b"xyz")
    logs.told(logs.objects[1].name, "48 bytes", "45")
    read = subprocess.run([VARVE, "log", "read", f"{logs.url}/pre/ks/a%2Fb"], capture_output=True, text=True, timeout=60)
    assert read.returncode != 0 and f"{logs.objects[1].name} is damaged: it has more than the 45 bytes" in read.stderr


def test_cut_to_nothing(logs):
    os.truncate(logs.objects[3], 0)  # looks like a fence
    assert logs.told(logs.objects[3].name, "cut to 0 bytes")["fences"] == 1
    read = subprocess.run([VARVE, "log", "read", f"{logs.url}/pre/ks/a%2Fb"], capture_output=True, text=True, timeout=60)
    assert read.returncode != 0 and "it has 0 bytes" in read.stderr and logs.objects[3].name in read.stderr
    os.setxattr(logs.objects[3], "user.varve.crc32c", b"00000000")
    assert check(logs.url)[1]["fences"] == 1


def test_missing(logs):
    kept = logs.objects[1].read_bytes()
    logs.objects[1].unlink()
    logs.told("pre/ks/a%2Fb/", "no object holds offset 3", "begins at 4")
    logs.objects[0].unlink()
    logs.told("pre/ks/a%2Fb/", "before offset 4", "offset 3")
    for path in logs.objects[2:]:
        path.unlink()
    logs.told("pre/ks/a%2Fb/watermark", "offset 3")
    assert kept


def test_missing_at_the_end(logs):
    (logs.folder / "watermark").write_bytes(struct.pack("<Q", 6))
    logs.objects[3].unlink()
    logs.told("watermark", "offset 6")
    (logs.folder / "watermark").write_bytes(b"1234567")
    logs.told("watermark", "8 bytes")


@pytest.mark.parametrize("old, new, part", [
    ("-o5_", "-o6_", "too few bytes"), ("o00000000000000000004-", "o00000000000000000003-", "not before it"),
    ("_t40-", "_t41-", "times"), ("-t50_", "-t51_", "times"), ("-n108_", "-n109_", "nonce"),
    ("_n106-", "_n107-", "nonces"), ("_n106-", "_n105-", "nonce"), ("_s85_", "_s86_", "86"),
    ("_p3.", "_p2.", "prior"), ("data_o0", "data_0", "data_0"), ("_p3.bin", "_p3.bak", "bak")])
def test_another_name(logs, old, new, part):
    path = logs.objects[2]
    assert old in path.name
    path.rename(path.with_name(path.name.replace(old, new)))
    defects, _ = check(logs.url, code=1)
    assert any(part in d and path.name.replace(old, new) in d for d in defects), defects


def test_merged_while_parts_are_there(logs):
    """As a compaction that was killed leaves it."""
    put(logs.folder, [(3, 30, 105, b"three"), (4, 40, 106, b"\xff"), (5, 50, 107, b"five"), (6, 60, 108, b"six")], 1)
    assert check(logs.url)[1]["objects"] == 6
    logs.objects[2].unlink()
    assert check(logs.url)[1]["objects"] == 5


def test_what_cannot_be_checked(logs, tmp_path):
    assert "s3:// or dir:// is wanted" in check("ks", code=2)
    assert "No such file" in check(f"dir://{tmp_path}/none", code=3)
    assert not (tmp_path / "none").exists()
    assert check(f"dir://{logs.root}/pre/ks/b", code=0)[1]["logs"] == 1
