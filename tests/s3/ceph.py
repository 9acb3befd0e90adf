"""Ceph's S3 gateway (tests/s3/rgw) for tests, where VARVE_TEST_RGW=1 asks for it; else, and where it is not installed,
they are skipped with the reason. One that is installed and does not start is a failure."""
import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import warnings

import pytest

RGW = str(pathlib.Path(__file__).resolve().parent / "rgw")
IS_ASKED_FOR = os.environ.get("VARVE_TEST_RGW") == "1"


def names(client, bucket, prefix=""):
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from (entry["Key"] for entry in page.get("Contents", ()))


def fresh_bucket(client, bucket):
    """An empty one."""
    client.create_bucket(Bucket=bucket)
    there = [{"Key": name} for name in names(client, bucket)]
    for i in range(0, len(there), 1000):
        client.delete_objects(Bucket=bucket, Delete={"Objects": there[i:i + 1000]})


@contextlib.contextmanager
def gateway(secret="testtest"):
    """(endpoint, boto3's client) of a new one whose keys are test and `secret`."""
    if not IS_ASKED_FOR:
        pytest.skip("VARVE_TEST_RGW is not 1 (make test-s3)")
    place = tempfile.mkdtemp(prefix="varve-rgw-")
    try:
        started = subprocess.run([RGW, "start", place, secret], capture_output=True, text=True)
        if started.returncode == 3:
            reason = started.stderr.strip()
            warnings.warn(reason)
            pytest.skip(reason)
        assert started.returncode == 0, "Ceph does not start: " + started.stderr.strip()[-2000:]
        endpoint = started.stdout.strip()
        import boto3
        from botocore.config import Config
        yield endpoint, boto3.client("s3", endpoint_url=endpoint, aws_access_key_id="test",
                                     aws_secret_access_key=secret, region_name="us-east-1",
                                     config=Config(s3={"addressing_style": "path"}))
    finally:
        subprocess.run([RGW, "stop", place], check=True)
        shutil.rmtree(place, ignore_errors=True)
