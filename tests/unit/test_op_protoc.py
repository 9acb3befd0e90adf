"""Proves src/op/op.c against the code that protoc generates from proto/varve.proto, both ways:
what C writes, the generated code reads and would write byte for byte; what the generated code writes,
with unknown fields and other orders too, C reads.

test_op_protoc.py OP_SAMPLES PROTO; VARVE_TEST_SEED=N repeats a run."""
import importlib
import os
import random
import struct
import subprocess
import sys
import tempfile

COUNT = 2000
U64 = 2**64 - 1


NUMBERS = ("kind", "space", "type", "version", "expires_ms", "keyspace", "log", "offset", "created_ms",
           "max_age_ms", "max_bytes", "max_records", "server_time", "relation", "reverse", "recent",
           "relaxed")
STRINGS = ("key", "value", "froms", "counts", "members", "stamps")
WORDS = len(NUMBERS) + len(STRINGS)  # and the encoded bytes
COLUMNS = {"froms": "<%dQ", "counts": "<%dI", "members": "<%dQ", "stamps": "<%dQ"}

# Of each kind: its field in Change, its message, and what its fields are called in struct change.
KINDS = {
    1: ("put", "Put", {n: n for n in ("key", "version", "type", "value", "expires_ms", "space")}),
    2: ("delete", "Delete", {n: n for n in ("key", "version", "space")}),
    3: ("keyspace", "Keyspace", {"name": "key", "id": "keyspace", "server_time": "server_time",
                                 **{n: n for n in ("created_ms", "max_age_ms", "max_bytes",
                                                   "max_records")}}),
    4: ("append", "Append", {"keyspace": "keyspace", "key": "key", "log": "log", "records": "value"}),
    5: ("trim", "Trim", {"keyspace": "keyspace", "key": "key", "log": "log", "before": "offset"}),
    10: ("tier", "Tier", {"keyspace": "keyspace", "key": "key", "log": "log", "before": "offset"}),
    6: ("erase", "Erase", {"keyspace": "keyspace", "key": "key", "log": "log", "offset": "offset"}),
    7: ("relation", "Relation", {"name": "key", "id": "relation",
                                 **{n: n for n in ("created_ms", "reverse", "recent", "relaxed")}}),
    8: ("relate", "Relate", {n: n for n in ("relation", *COLUMNS)}),
    9: ("unrelate", "Relate", {n: n for n in ("relation", *COLUMNS)}),
}


def fields(line):
    words = line.split()
    unhex = lambda text: b"" if text == "-" else bytes.fromhex(text)
    return {**{name: int(word) for name, word in zip(NUMBERS, words)},
            **{name: unhex(word) for name, word in zip(STRINGS, words[len(NUMBERS):])}}


def body(schema, f):
    _, kind, names = KINDS[f["kind"]]
    values = {theirs: f[ours] for theirs, ours in names.items()}
    for name in ("server_time", "reverse", "recent", "relaxed"):
        if name in values:
            values[name] = bool(values[name])
    for name, form in COLUMNS.items():
        if name in values:
            packed = values[name]
            values[name] = struct.unpack(form % (len(packed) // (4 if "I" in form else 8)), packed)
    return getattr(schema, kind)(**values)


def message(schema, f):
    """The Transaction that holds the change with fields `f`."""
    txn = schema.Transaction()
    getattr(txn.changes.add(), KINDS[f["kind"]][0]).CopyFrom(body(schema, f))
    return txn


def c_writes(samples, schema, seed):
    out = subprocess.run([samples, "encode", str(seed), str(COUNT)], check=True,
                         stdout=subprocess.PIPE, text=True).stdout.splitlines()
    assert len(out) == COUNT
    assert {fields(line)["kind"] for line in out} == set(KINDS)
    for line in out:
        encoded = bytes.fromhex(line.split()[WORDS])
        expect = message(schema, fields(line))
        got = schema.Transaction.FromString(encoded)
        assert got == expect, f"generated code reads something else: {line}"
        assert expect.SerializeToString() == encoded, f"generated code writes other bytes: {line}"


def random_records(rnd):
    """Laid out as src/op/record.h says."""
    out, offset = b"", 0
    for _ in range(rnd.randrange(1, 5)):
        offset += rnd.randrange(1, 2**40)
        content = rnd.randbytes(rnd.choice([0, 1, 90, 127]))
        out += struct.pack("<Qq16sI", offset, rnd.randrange(-2**63, 2**63), rnd.randbytes(16),
                           len(content)) + content + struct.pack("<I", 36 + len(content))
    return out


def random_value(rnd, kind):
    size = {2: 8, 3: 8, 4: 1}.get(kind, rnd.choice([0, 1, 127, 128, 5000]))
    return b"\x01" if kind == 4 else rnd.randbytes(size)


def random_lists(rnd):
    """Columns of a relate, and a key, which it has none of."""
    lists = [sorted(rnd.sample(range(2**rnd.choice([4, 20, 62])), rnd.randrange(1, 9)))
             for _ in range(rnd.randrange(1, 5))]
    members = [m for one in lists for m in one]
    pack = lambda name, values: struct.pack(COLUMNS[name] % len(values), *values)
    stamps = [rnd.randrange(2**64) for _ in members] if rnd.randrange(2) else []
    return {"key": b"", "froms": pack("froms", [rnd.randrange(2**64) for _ in lists]),
            "counts": pack("counts", [len(one) for one in lists]),
            "members": pack("members", members), "stamps": pack("stamps", stamps)}


def random_fields(rnd):
    big = lambda: rnd.choice([0, 1, 127, 128, U64, rnd.randrange(2**rnd.randrange(1, 65))])
    f = {name: 0 for name in NUMBERS} | {name: b"" for name in STRINGS}
    f["kind"] = rnd.choice(list(KINDS))
    for name in KINDS[f["kind"]][2].values():
        f[name] = big()
    f["key"] = rnd.randbytes(rnd.choice([1, 16, 127, 128, 255]))
    if f["kind"] in (1, 2):
        f["space"] = rnd.choice([0, 1])
    if f["kind"] == 1:
        f["type"] = rnd.choice([0, 1, 2, 3, 4, 5])
        f["value"] = random_value(rnd, f["type"])
    if f["kind"] == 3:
        f["server_time"] = rnd.choice([0, 1])
    if f["kind"] in (7, 8, 9):
        f["relation"] = rnd.choice([1, 127, 128, 2**32 - 1])
        f |= {name: rnd.choice([0, 1]) for name in ("reverse", "recent", "relaxed") if f["kind"] == 7}
        f |= {"key": "".join(rnd.choices("aZ09_", k=rnd.choice([1, 127, 128]))).encode()}
        return f if f["kind"] == 7 else f | random_lists(rnd)
    if f["kind"] >= 3:
        f["keyspace"] = rnd.choice([1, 127, 128, 2**32 - 1])
    if f["kind"] >= 4:
        f["log"] = f["log"] or 1
    if f["kind"] >= 5:
        f["offset"] = f["offset"] or 1
    if f["kind"] == 4:
        f["value"] = random_records(rnd)
    return f


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def unknown(rnd):
    """A field with a number that no message has."""
    tag = rnd.randrange(100, 2**29) << 3
    return rnd.choice([
        varint(tag) + varint(rnd.randrange(2**64)),
        varint(tag | 1) + rnd.randbytes(8),
        varint(tag | 2) + varint(20) + rnd.randbytes(20),
        varint(tag | 5) + rnd.randbytes(4),
    ])


def python_writes(samples, schema, seed):
    rnd = random.Random(seed)
    want, lines = [], []
    for i in range(COUNT):
        f = random_fields(rnd)
        encoded = message(schema, f).SerializeToString()
        if i % 2:
            # Unknown fields at each level, and the first value of a field overridden by its second.
            known = body(schema, f)
            number = rnd.choice([n for n in known.DESCRIPTOR.fields if n.type in
                                 (n.TYPE_UINT64, n.TYPE_UINT32) and n.label != n.LABEL_REPEATED]).number
            inner = known.SerializeToString()
            inner = varint(number << 3) + varint(7) + unknown(rnd) + inner + unknown(rnd)
            if getattr(known, known.DESCRIPTOR.fields_by_number[number].name) == 0:
                inner += varint(number << 3) + varint(0)
            outer = unknown(rnd) + varint(f["kind"] << 3 | 2) + varint(len(inner)) + inner + unknown(rnd)
            encoded = unknown(rnd) + varint(1 << 3 | 2) + varint(len(outer)) + outer + unknown(rnd)
            known = schema.Transaction.FromString(encoded)
            known.DiscardUnknownFields()
            assert known == message(schema, f), "this test made a wrong message"
        want.append(f)
        lines.append(encoded.hex())
    out = subprocess.run([samples, "decode"], check=True, input="\n".join(lines) + "\n",
                         stdout=subprocess.PIPE, text=True).stdout.splitlines()
    assert len(out) == COUNT
    for f, line, encoded in zip(want, out, lines):
        assert len(line.split()) == WORDS and fields(line) == f, f"{encoded}: {line} instead of {f}"


def main():
    samples, proto = sys.argv[1:3]
    seed = int(os.environ.get("VARVE_TEST_SEED", "0"), 0) or random.SystemRandom().randrange(2**32)
    print(f"seed: VARVE_TEST_SEED={seed}")
    with tempfile.TemporaryDirectory() as made:
        subprocess.run(["protoc", "-I", os.path.dirname(proto), "--python_out", made, proto], check=True)
        sys.path.insert(0, made)
        schema = importlib.import_module("varve_pb2")
        c_writes(samples, schema, seed)
        python_writes(samples, schema, seed)
    print(f"{2 * COUNT} transactions agree")


if __name__ == "__main__":
    main()
