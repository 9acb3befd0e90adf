"""What goes wrong between here and S3: the tiny S3 injects it."""
import os
import threading
import time
from hashlib import sha256

import pytest
from conftest import s3_options
from tiny_s3 import method

DATA = os.urandom(100000)
LARGE = os.urandom(17 << 20)


# ---- tried again until it works

@pytest.mark.parametrize("fault", [
    ("status", 500), ("status", (503, "SlowDown")), ("status", (500, "InternalError")), ("status", 429),
    ("status", (400, "RequestTimeout")), ("drop", None), ("lost", None), ("hang", 1.0)])
def test_passing_faults_are_not_noticed(tiny, tool, fault):
    for verbs, act in ((("PUT",), lambda: tool.put("o", DATA).e),
                       (("GET",), lambda: tool.get("o")),
                       (("HEAD",), lambda: tool.call("head", "o").n),
                       (("GET",), lambda: tool.names()),
                       (("DELETE",), lambda: tool.call("delete", "o").e)):
        expected = {"PUT": "OK", "DELETE": "OK", "HEAD": len(DATA)}.get(verbs[0])
        struck = tiny.fail(fault[0], method(*verbs), fault[1], times=1 if fault[0] == "hang" else 2)
        result = act()
        if verbs == ("GET",):
            expected = DATA if isinstance(result, bytes) else ["o"]
        assert result == expected
        # (An answer to HEAD has no code: why it says 400 is asked by a GET, which is let through.)
        assert struck.struck == (1 if verbs == ("HEAD",) and "400" in str(fault) else struck.times)
        tiny.faults.clear()


def test_cut_bodies_are_fetched_again(tiny, tool):
    tiny.objects["o"], tiny.etags["o"] = DATA, "e"
    tiny.fail("cut", method("GET"), times=2)
    assert tool.get("o") == DATA
    tiny.faults.clear()
    tiny.fail("cut", method("GET"), times=2)
    assert tool.range("o", 10, 5000) == DATA[10:5010]
    tiny.faults.clear()
    tiny.fail("cut", method("GET", query="list-type"), times=2)
    assert tool.names() == ["o"]


def test_always_cut_is_damage(tiny, open_tool):
    tool = open_tool(s3_options(tiny.endpoint, retry_ms=300))
    tiny.objects["o"], tiny.etags["o"] = DATA, "e"
    tiny.fail("cut", method("GET"), times=1000)
    r = tool.get("o")
    assert r.e == "DAMAGED" and "cut short" in r.text and '"o"' in r.text


def test_backing_off_ends(tiny, open_tool):
    tool = open_tool(s3_options(tiny.endpoint, retry_ms=700))
    tiny.fail("status", method("PUT"), (503, "SlowDown"), times=100000)
    r = tool.put("o", DATA)
    assert r.e == "NETWORK" and "503 SlowDown" in r.text and "given up after" in r.text
    assert 2 <= tool.stats()["put"] < 60


def test_each_attempt_is_signed_anew(tiny, tool):
    tiny.fail("status", method("PUT"), 500, times=2)
    assert tool.put("o", DATA).e == "OK"
    assert tool.stats() | {"put": 3, "retries": 2, "failed": 0, "calls": 1} == tool.stats()


def test_hidden_repeats_of_libcurl(tiny, tool):
    """A kept connection that the server closes after it has done what was asked, without a word."""
    assert tool.put("warm", b"up").e == "OK"
    tiny.fail("lost", method("PUT"))
    assert tool.put("o", b"", absent=True).e == "OK"
    assert tiny.objects["o"] == b""
    assert tiny.count("PUT") >= 3


# ---- put if absent, when the answer is lost

@pytest.mark.parametrize("fault", [("lost", None), ("hang", 1.0)])
def test_a_lost_answer_is_known_as_our_own(tiny, tool, fault):
    tiny.fail(fault[0], method("PUT"), fault[1])
    assert tool.put("o", DATA, absent=True).e == "OK"
    assert tiny.objects["o"] == DATA
    assert tool.stats() | {"put": 2, "get": 1} == tool.stats()


def test_a_lost_answer_and_another_was_there(tiny, tool):
    tiny.objects["o"], tiny.etags["o"] = DATA[:-1] + b"?", "e"
    tiny.fail("drop", method("PUT"))
    r = tool.put("o", DATA, absent=True)
    assert r.e == "EXISTS" and "another is there" in r.text
    tiny.objects["o"] = DATA + b"?"
    tiny.faults.clear()
    tiny.fail("drop", method("PUT"))
    assert tool.put("o", DATA, absent=True).e == "EXISTS"


def test_all_answers_lost(tiny, open_tool):
    tool = open_tool(s3_options(tiny.endpoint, retry_ms=1, timeout_ms=300))
    tiny.fail("lost", method("PUT"), times=1000)
    assert tool.put("o", DATA, absent=True).e == "OK"
    assert tool.put("p", DATA).e == "NETWORK"  # not looked for: putting again does no harm
    tiny.objects.clear()
    tiny.faults.clear()
    tiny.fail("drop", method("PUT"), times=1000)
    assert tool.put("o", DATA, absent=True).e == "NETWORK"


def test_whose_it_is_cannot_be_found_out(tiny, open_tool):
    tool = open_tool(s3_options(tiny.endpoint, retry_ms=500, timeout_ms=300))
    tiny.fail("lost", method("PUT"))
    tiny.fail("status", method("GET"), 500, times=1000)
    assert tool.put("o", DATA, absent=True).e == "NETWORK"  # and not EXISTS


# ---- in parts

def test_parts(tiny, tool):
    assert tool.put("large", LARGE).e == "OK"
    assert tiny.objects["large"] == LARGE
    assert tiny.uploads == {}
    assert tool.stats()["multipart"] == 1 + 3 + 1


@pytest.mark.parametrize("fault", ["drop", "lost", ("status", 500), ("status", (503, "SlowDown"))])
@pytest.mark.parametrize("where", [method("POST", query="uploads"), method("PUT", query="partNumber=2"),
                                   method("POST", query="uploadId")], ids=["begin", "part", "complete"])
def test_faults_in_parts(tiny, tool, fault, where):
    what, value = fault if isinstance(fault, tuple) else (fault, None)
    struck = tiny.fail(what, where, value)
    assert tool.put("large", LARGE).e == "OK"
    assert tiny.objects["large"] == LARGE
    assert struck.struck == 1


@pytest.mark.parametrize("what", ["error_in_200", "error_in_200_done"])
def test_an_error_in_a_200(tiny, tool, what):
    tiny.fail(what, method("POST", query="uploadId"), "InternalError")
    assert tool.put("large", LARGE).e == "OK"
    assert tiny.objects["large"] == LARGE
    tiny.fail("error_in_200", method("GET", query="list-type"), "InternalError")
    assert tool.names() == ["large"]


def test_a_failed_upload_is_given_up(tiny, open_tool):
    tool = open_tool(s3_options(tiny.endpoint, retry_ms=300))
    tiny.fail("status", method("PUT", query="partNumber=2"), (403, "AccessDenied"), times=100)
    r = tool.put("large", LARGE)
    assert r.e == "DENIED"
    assert tiny.uploads == {} and tiny.objects == {}
    tiny.faults.clear()
    tiny.fail("error_in_200", method("POST", query="uploadId"), "InternalError", times=100)
    r = tool.put("large", LARGE)
    assert r.e == "NETWORK" and "InternalError" in r.text
    assert tiny.uploads == {} and tiny.objects == {}


def test_another_object_is_not_taken_for_the_completed_one(tiny, open_tool):
    tool = open_tool(s3_options(tiny.endpoint, retry_ms=300))
    tiny.objects["large"], tiny.etags["large"] = LARGE[:-1] + b"?", "0" * 32 + "-3"
    tiny.fail("drop", method("POST", query="uploadId"), times=100)
    assert tool.put("large", LARGE).e == "NETWORK"


# ---- clocks and keys

@pytest.mark.parametrize("offset", [-86400, 1000, 10 ** 8])
def test_the_clock_is_learnt(tiny, tool, offset):
    tiny.clock_offset = offset
    assert tool.put("o", DATA).e == "OK"
    assert tool.stats()["put"] == 2
    assert tool.get("o") == DATA
    assert tool.stats()["get"] == 1  # remembered
    assert tool.call("head", "nothing").e == "MISSING"


def test_the_clock_is_learnt_from_head(tiny, tool):
    tiny.objects["o"], tiny.etags["o"] = DATA, "e"
    tiny.clock_offset = 5000
    assert tool.call("head", "o").n == len(DATA)  # whose error has no code


def test_keys_from_the_environment(tiny, open_tool):
    options = {"--endpoint": tiny.endpoint, "--bucket": "varve", "--default-credentials": "true"}
    tool = open_tool(options, {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest"})
    assert tool.put("o", DATA).e == "OK"
    tool = open_tool(options)
    r = tool.put("o", DATA)
    assert r.e == "DENIED" and "looked at AWS_ACCESS_KEY_ID" in r.text


def test_keys_from_a_file_with_a_profile(tiny, open_tool, tmp_path):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(
        "[work]\naws_access_key_id = test\naws_secret_access_key = testtest\n")
    options = {"--endpoint": tiny.endpoint, "--bucket": "varve", "--default-credentials": "true"}
    assert open_tool(options | {"--profile": "work"}).put("o", DATA).e == "OK"
    assert open_tool(options, {"AWS_PROFILE": "work"}).put("o", DATA).e == "OK"
    r = open_tool(options | {"--profile": "play"}).put("o", DATA)
    assert r.e == "DENIED" and "profile play" in r.text


class Metadata:
    """The instance's metadata service, or a container's."""

    def __init__(self, lifetime):
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
        import json
        import threading
        outer = self
        self.fetched, self.lifetime, self.token = 0, lifetime, "one"

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def reply(self):
                path, body, status = self.path, b"", 200
                if self.command == "PUT" and path == "/latest/api/token":
                    body = b"TOKEN"
                elif path == "/container" and self.headers["Authorization"] != "secret":
                    status = 403
                elif path != "/container" and self.headers["X-aws-ec2-metadata-token"] != "TOKEN":
                    status = 401
                elif path.endswith("/security-credentials/"):
                    body = b"role"
                elif path.endswith("/role") or path == "/container":
                    outer.fetched += 1
                    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + outer.lifetime))
                    body = json.dumps({"AccessKeyId": "temp", "SecretAccessKey": "tempsecret",
                                       "Token": outer.token, "Expiration": ends}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = reply

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def env(self, container):
        if container:
            return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": self.url + "/container",
                    "AWS_CONTAINER_AUTHORIZATION_TOKEN": "secret"}
        return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url, "AWS_EC2_METADATA_DISABLED": "false"}


@pytest.mark.parametrize("container", [False, True])
def test_keys_from_metadata_are_renewed(tiny, open_tool, container):
    options = {"--endpoint": tiny.endpoint, "--bucket": "varve", "--default-credentials": "true"}
    tiny.keys["temp"], tiny.tokens["temp"] = "tempsecret", "one"
    service = Metadata(lifetime=3600)
    tool = open_tool(options, service.env(container))
    for _ in range(3):
        assert tool.put("o", DATA).e == "OK"
    assert service.fetched == 1
    # Revoked before its time: the refusal makes it fetch anew.
    service.token = tiny.tokens["temp"] = "two"
    assert tool.put("o", DATA).e == "OK"
    assert service.fetched == 2
    # Near its end: anew before it is refused, but not for each request.
    near = Metadata(lifetime=100)
    tool = open_tool(options, near.env(container))
    near.token = tiny.tokens["temp"] = "three"
    for _ in range(5):
        assert tool.put("o", DATA).e == "OK"
    assert near.fetched == 1
    near = Metadata(lifetime=8)
    tool = open_tool(options, near.env(container))
    near.token = "three"
    end = time.monotonic() + 60
    while near.fetched < 2:
        assert tool.put("o", DATA).e == "OK" and time.monotonic() < end
    assert tool.stats()["retries"] == 0


def test_many_refused_fetch_keys_once(tiny, open_tool):
    tiny.keys["temp"], tiny.tokens["temp"] = "tempsecret", "one"
    service = Metadata(lifetime=3600)
    tool = open_tool({"--endpoint": tiny.endpoint, "--bucket": "varve", "--default-credentials": "true"}, service.env(True))
    assert tool.put("o", DATA).e == "OK"
    service.token = tiny.tokens["temp"] = "two"
    assert tool.call("put-many", "o", 16, tool.file(DATA)).e == "OK"
    assert service.fetched == 2


def test_keys_that_nobody_gives(tiny, open_tool):
    """Many requests wait for a metadata service that takes connections and says nothing: it is asked now and then, for
    all of them, not for each."""
    import socket
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        tool = open_tool({"--endpoint": tiny.endpoint, "--bucket": "varve", "--default-credentials": "true",
                          "--retry-ms": 1000}, {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url})
        r = tool.call("put-many", "o", 16, tool.file(DATA))
        assert r.e == "NETWORK" and "does not answer" in r.text
        assert tool.stats()["credentials"] <= 3


# ---- what is not there, or not S3

def test_wrong_keys(tiny, open_tool):
    r = open_tool(s3_options(tiny.endpoint, access_key="who")).put("o", DATA)
    assert r.e == "DENIED" and "InvalidAccessKeyId" in r.text and "check access_key" in r.text
    tool = open_tool(s3_options(tiny.endpoint, secret_key="wrong"))
    for r in (tool.put("o", DATA), tool.get("o"), tool.list(), tool.call("head", "o"),
              tool.call("delete", "o")):
        assert r.e == "DENIED" and "SignatureDoesNotMatch" in r.text and "check secret_key" in r.text
    assert tool.stats()["retries"] == 0
    assert "wrong" not in r.text.replace("check", "")  # no secret in a message


def test_missing_bucket(tiny, open_tool):
    tool = open_tool(s3_options(tiny.endpoint, bucket="elsewhere"))
    for r in (tool.put("o", DATA), tool.get("o"), tool.list(), tool.call("head", "o"),
              tool.call("probe")):
        assert r.e == "INVALID" and "NoSuchBucket" in r.text and "create the bucket" in r.text


def test_wrong_region(tiny, open_tool):
    tiny.region = "eu-west-1"
    r = open_tool(s3_options(tiny.endpoint)).put("o", DATA)
    assert r.e == "INVALID" and "region eu-west-1" in r.text
    assert open_tool(s3_options(tiny.endpoint, region="eu-west-1")).put("o", DATA).e == "OK"


def test_virtual_hosts(tiny, open_tool):
    port = tiny.endpoint.rsplit(":", 1)[1]
    proxy = {"http_proxy": tiny.endpoint, "no_proxy": ""}  # so that any host leads there
    tiny_options = s3_options(f"http://s3.test:{port}")
    tool = open_tool(tiny_options | {"--path-style": "false"}, proxy)
    assert tool.put("a/b+c", DATA).e == "OK"
    assert tool.names() == ["a/b+c"]
    assert tiny.objects["a/b+c"] == DATA


def test_an_endpoint_that_is_not_s3(tiny, open_tool):
    tiny.is_html = True
    tool = open_tool(s3_options(tiny.endpoint, retry_ms=500))
    for r in (tool.put("o", DATA), tool.get("o"), tool.list(), tool.call("head", "o"),
              tool.put("l", LARGE), tool.call("probe")):
        assert r.e == "UNSUPPORTED" and "check endpoint" in r.text, r


def test_a_port_that_does_not_speak_http(open_tool):
    import socket
    import threading
    server = socket.create_server(("127.0.0.1", 0))

    def greet():
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            peer.sendall(b"220 mail.example.org ESMTP\r\n")
            peer.close()

    threading.Thread(target=greet, daemon=True).start()
    tool = open_tool(s3_options(f"http://127.0.0.1:{server.getsockname()[1]}", retry_ms=500))
    r = tool.get("o")
    assert r.e in ("UNSUPPORTED", "NETWORK") and r.text
    server.close()


def test_nobody_there(open_tool):
    import socket
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    tool = open_tool(s3_options(f"http://127.0.0.1:{port}"))
    r = tool.put("o", DATA)
    assert r.e == "NETWORK" and "is it running" in r.text and f"127.0.0.1:{port}" in r.text
    assert tool.stats()["put"] == 3  # of an endpoint never met, soon given up
    r = open_tool(s3_options("http://no-such-host.invalid")).get("o")
    assert r.e == "NETWORK" and "check endpoint" in r.text


def test_it_comes_back(tiny, tool):
    """Refused connections of an endpoint that has answered before are waited for."""
    assert tool.put("o", DATA).e == "OK"
    tiny.fail("drop", lambda r: True, times=6)
    assert tool.get("o") == DATA


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    import subprocess
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", path,
                    "-out", str(path) + ".crt", "-days", "2", "-subj", "/CN=127.0.0.1",
                    "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    crt = (path.parent / (path.name + ".crt"))
    path.write_bytes(path.read_bytes() + crt.read_bytes())
    return path, crt


def test_tls(certificate, open_tool):
    from tiny_s3 import TinyS3
    both, crt = certificate
    with TinyS3(certificate=str(both)) as tiny:
        r = open_tool(s3_options(tiny.endpoint)).put("o", DATA)
        assert r.e == "NETWORK" and "not trusted" in r.text and "ca_file" in r.text
        tool = open_tool(s3_options(tiny.endpoint, ca_file=crt))
        assert tool.put("o", DATA).e == "OK" and tool.get("o") == DATA
        tool = open_tool(s3_options(tiny.endpoint, ca_file=crt, hash_payload="true"))
        assert tool.put("o", DATA[1:]).e == "OK" and tiny.objects["o"] == DATA[1:]
        assert [d for what, d in tiny.digests if what == "PUT"] == ["UNSIGNED-PAYLOAD",
                                                                    sha256(DATA[1:]).hexdigest()]
        r = open_tool(s3_options(tiny.endpoint.replace("https", "http"), retry_ms=300)).get("o")
        assert r.e in ("NETWORK", "UNSUPPORTED")


def test_bodies_are_hashed_where_nothing_else_protects_them(tiny, open_tool):
    elsewhere = tiny.endpoint.replace("127.0.0.1", "0.0.0.0")  # reaches the same, and does not say so
    for options in (s3_options(tiny.endpoint), s3_options(elsewhere),
                    s3_options(tiny.endpoint, hash_payload="true")):
        assert open_tool(options).put("o", DATA).e == "OK"
    hashed = sha256(DATA).hexdigest()
    assert [d for what, d in tiny.digests if what == "PUT"] == ["UNSIGNED-PAYLOAD", hashed, hashed]


def test_no_proxy_is_between_here_and_here(tiny, open_tool):
    nobody = {"http_proxy": "http://127.0.0.1:9", "all_proxy": "http://127.0.0.1:9"}
    assert open_tool(s3_options(tiny.endpoint, retry_ms=300), env=nobody).put("o", DATA).e == "OK"
    elsewhere = tiny.endpoint.replace("127.0.0.1", "0.0.0.0")  # as any other machine: through the proxy
    assert open_tool(s3_options(elsewhere, retry_ms=300), env=nobody).put("o", DATA).e == "NETWORK"


def test_tls_where_there_is_none(tiny, open_tool):
    r = open_tool(s3_options(tiny.endpoint.replace("http", "https"))).get("o")
    assert r.e == "NETWORK" and "should endpoint be http://" in r.text


def test_options_are_checked(open_tool):
    good = s3_options("http://127.0.0.1:1")
    for more, part in (({"--endpoint": "127.0.0.1:9000"}, "no scheme"), ({"--bucket": ""}, "bucket_name"),
                       ({"--bucket": "a b/c"}, "bucket_name"), ({"--region": "x y"}, "region"),
                       ({"--access-key": ""}, "go together"), ({"--prefix": "/x"}, "object_prefix"),
                       ({"--access-key": "", "--secret-key": ""}, "use_default_credentials"),
                       ({"--connections": 2000}, "connections")):
        opened = open_tool(good | more).opened
        assert opened.e == "INVALID" and part in opened.text, opened


# ---- what the endpoint does not keep

def test_the_probe_tells_what_is_not_kept(tiny, tool):
    tiny.ignores_if_none_match = True
    r = tool.call("probe")
    assert r.e == "OK" and not r.n & 1 and "not exactly one wins" in r.text
    tiny.ignores_if_none_match = False
    tiny.ignores_range = True  # which is made up for
    tiny.hide_new = 100
    r = tool.call("probe")
    assert r.e == "OK" and not r.n & 2 and "listings lag" in r.text and r.n & 8
    tiny.hide_new = 0
    tiny.hidden.clear()
    tiny.lists_unsorted = True
    r = tool.call("probe")
    assert r.e == "OK" and not r.n & 16 and "not in order" in r.text
    assert tiny.objects == {}


def test_pages_without_names(tiny, open_tool):
    """As S3 gives them where many names were deleted: listings go on by their tokens."""
    tool = open_tool(s3_options(tiny.endpoint, prefix="our & <place>/"))
    names = [f"n/{i:04}" for i in range(25)]
    for name in names:
        assert tool.put(name, b"x").e == "OK"
    tiny.page, tiny.empty_pages = 10, 3
    tiny.log.clear()
    assert tool.names("n/") == names
    assert len(tiny.log) == 3 * (3 + 1)
    assert tool.names("n/", "n/0003", 2) == ["n/0004", "n/0005"]
    assert tool.names("none/") == []
    tiny.empty_pages = 10**9  # for ever
    r = tool.call("list", "n/", "^", 0, tool.file())
    assert r.e == "UNSUPPORTED" and "empty" in r.text


def test_a_store_that_drops_metadata(tiny, tool):
    tiny.drops_metadata = True
    assert tool.call("put-sum", "o", tool.file(DATA), "12345678").e == "OK"
    assert tool.get("o") == DATA
    assert tool.call("sum", "o").text == "none"
    r = tool.call("probe")
    assert (r.e, r.n, r.text) == ("OK", 31, "")


def test_sums_through_faults(tiny, tool):
    for name, data in (("small", DATA), ("large", LARGE)):
        f = tool.file(data)
        for absent in ("", "-absent"):
            for fault, value in (("lost", None), ("status", 500), ("drop", None)):
                tiny.fail(fault, method("PUT", "POST"), value)
                assert tool.call(f"put{absent}-sum", name, f, "12345678").e == "OK"
                for again in (("cut", None), ("status", (503, "SlowDown"))):
                    tiny.fail(again[0], method("GET"), again[1])
                    r = tool.call("sum", name)
                    assert (r.e, r.n, r.text) == ("OK", len(data), "12345678")
                assert tool.call("delete", name).e == "OK"


def test_sums_are_signed(tiny, tool):
    """The small S3 refuses x-amz- headers that are not signed; here one is altered on the way."""
    def alter(request):
        request.headers.replace_header("x-amz-meta-varve-crc32c", "87654321")
        return True

    for name, data in (("small", DATA), ("large", LARGE)):
        fault = tiny.fail("status", lambda r: "x-amz-meta-varve-crc32c" in r.headers and alter(r) and False)
        r = tool.call("put-sum", name, tool.file(data), "12345678")
        assert r.e == "DENIED" and "SignatureDoesNotMatch" in r.text, r
        tiny.faults.remove(fault)
    assert tiny.objects == {}


def test_a_sum_that_is_none(tiny, tool):
    for value in ("", "1234567", "123456789", "123456zz", "x" * 100):
        tiny.objects["o"], tiny.etags["o"] = DATA, "e"
        tiny.meta["o"] = {"x-amz-meta-varve-crc32c": value}
        for r in (tool.get("o"), tool.range("o", 5, 5), tool.range("o", 5, 0)):
            assert r.e == "DAMAGED" and "varve-crc32c" in r.text and '"o"' in r.text


def test_put_if_absent_refused(tiny, tool):
    tiny.fail("status", lambda r: r.headers.get("If-None-Match"), (501, "NotImplemented"), times=1000)
    assert tool.put("o", DATA, absent=True).e == "UNSUPPORTED"
    r = tool.call("probe")
    assert r.e == "OK" and not r.n & 1


def test_a_server_without_ranges(tiny, tool):
    tiny.ignores_range = True
    tiny.objects["o"], tiny.etags["o"] = DATA, "e"
    for offset, length in ((0, 10), (500, 70000), (99990, 100), (100000, 4), (200000, 1)):
        assert tool.range("o", offset, length) == DATA[offset:offset + length]


# ---- connections, threads, ends

def test_connections_are_kept(tiny, open_tool):
    tool = open_tool(s3_options(tiny.endpoint, connections=4))
    data = tool.file(DATA)
    for _ in range(3):
        assert tool.call("put-many", "m", 40, data).n == 40
        assert tool.call("get-many", "m", 40, data).n == 40
    assert tool.stats()["connects"] <= 4
    assert len(tiny.connections) <= 4


def impatient(tool, *words):
    """A call to a tool that is killed if it does not answer in a minute."""
    timer = threading.Timer(60, tool.process.kill)
    timer.start()
    try:
        return tool.call(*words)
    finally:
        timer.cancel()


def test_in_a_hurry(tiny, open_tool):
    """Attempts that may take an hour are given up, and nothing is tried again."""
    tool = open_tool(s3_options(tiny.endpoint, timeout_ms=3600000, retry_ms=3600000))
    assert tool.put("o", DATA).e == "OK"
    hang = tiny.fail("hang", method("GET"), 3600, times=10**9)
    r = impatient(tool, "hurry", "o", tool.file(), 50)
    assert r.e == "NETWORK" and "no byte moved" in r.text and hang.struck == 1
    tiny.faults.clear()
    assert tool.get("o") == DATA
    tiny.fail("status", method("GET"), (503, "SlowDown"))
    assert tool.get("o").e == "NETWORK"


def test_cancelling_what_waits(tiny, open_tool):
    tool = open_tool(s3_options(tiny.endpoint, timeout_ms=3600000, connections=1))
    assert tool.put("o", DATA).e == "OK"
    hang = tiny.fail("hang", method("GET"), 3600, times=10**9)
    assert impatient(tool, "cancel-second", "o", tool.file(), 50).e == "CLOSED" and hang.struck == 1


def test_cancelling(tiny, tool):
    tiny.objects["o"], tiny.etags["o"] = DATA, "e"
    tiny.fail("hang", method("GET"), 1.0, times=100)
    began = time.monotonic()
    r = tool.call("cancel", "o", tool.file(), 50)
    assert r.e == "CLOSED"
    assert time.monotonic() - began < 30
    tiny.faults.clear()
    assert tool.get("o") == DATA


def test_prefix(tiny, open_tool):
    tool = open_tool(s3_options(tiny.endpoint, prefix="our/place_"))
    assert tool.put("b", b"1").e == "OK" and tool.put("a/c", b"22").e == "OK"
    tiny.objects.update({"our/place": b"", "our/place_": b"", "our/placf": b"", "other": b""})
    assert set(tiny.objects) >= {"our/place_b", "our/place_a/c"}
    assert tool.list() == [("a/c", 2), ("b", 1)]
    assert tool.list("", "a/c", 1) == [("b", 1)]
