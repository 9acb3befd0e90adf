"""Proves src/op/op.c against the code that protoc generates from proto/varve.proto, both ways:
what C writes, the generated code reads and would write byte for byte; what the generated code writes,
with unknown fields and other orders too, C reads.

test_op_protoc.py OP_SAMPLES PROTO; VARVE_TEST_SEED=N repeats a run."""
import importlib
import os
import random
import subprocess
import sys
import tempfile

COUNT = 2000
U64 = 2**64 - 1


def fields(line):
    kind, space, kind_of_value, version, expires, key, value = line.split()[:7]
    unhex = lambda text: b"" if text == "-" else bytes.fromhex(text)
    return {"kind": int(kind), "space": int(space), "type": int(kind_of_value),
            "version": int(version), "expires_ms": int(expires), "key": unhex(key),
            "value": unhex(value)}


def message(schema, f):
    """The Transaction that holds the change with fields `f`."""
    txn = schema.Transaction()
    if f["kind"] == 1:
        txn.changes.add().put.CopyFrom(schema.Put(
            key=f["key"], version=f["version"], type=f["type"], value=f["value"],
            expires_ms=f["expires_ms"], space=f["space"]))
    else:
        getattr(txn.changes.add(), "delete").CopyFrom(schema.Delete(
            key=f["key"], version=f["version"], space=f["space"]))
    return txn


def c_writes(samples, schema, seed):
    out = subprocess.run([samples, "encode", str(seed), str(COUNT)], check=True,
                         stdout=subprocess.PIPE, text=True).stdout.splitlines()
    assert len(out) == COUNT
    for line in out:
        encoded = bytes.fromhex(line.split()[7])
        expect = message(schema, fields(line))
        got = schema.Transaction.FromString(encoded)
        assert got == expect, f"generated code reads something else: {line}"
        assert expect.SerializeToString() == encoded, f"generated code writes other bytes: {line}"


def random_fields(rnd):
    big = lambda: rnd.choice([0, 1, 127, 128, U64, rnd.randrange(2**rnd.randrange(1, 65))])
    f = {"kind": rnd.choice([1, 2]), "space": rnd.choice([0, 1]), "type": 0, "version": big(),
         "expires_ms": 0, "key": rnd.randbytes(rnd.choice([1, 16, 127, 128, 300])), "value": b""}
    if f["kind"] == 1:
        f["type"] = rnd.choice([0, 1, 2, 3, 4, 5])
        f["expires_ms"] = big()
        size = {2: 8, 3: 8, 4: 1}.get(f["type"], rnd.choice([0, 1, 127, 128, 5000]))
        f["value"] = b"\x01" if f["type"] == 4 else rnd.randbytes(size)
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
            change = message(schema, f).changes[0]
            body = (change.put if f["kind"] == 1 else getattr(change, "delete")).SerializeToString()
            body = varint(2 << 3) + varint(7) + unknown(rnd) + body + unknown(rnd)
            if f["version"] == 0:
                body += varint(2 << 3) + varint(0)
            outer = unknown(rnd) + varint(f["kind"] << 3 | 2) + varint(len(body)) + body + unknown(rnd)
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
        assert len(line.split()) == 7 and fields(line) == f, f"{encoded}: {line} instead of {f}"


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
