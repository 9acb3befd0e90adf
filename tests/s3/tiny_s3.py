"""A small S3 in memory, for tests: what varve uses of S3, with faults on demand.

Signatures are checked with botocore's own signer, so that ours is held against another's. Run it by hand:

    tests/s3/tiny_s3.py [PORT]     bucket varve, access key test, secret key testtest

From a test: `with TinyS3() as s3:` and then `s3.endpoint`, `s3.objects`, `s3.log`, `s3.fail(...)`.
"""
import base64
import calendar
import hashlib
import html
import socket
import ssl
import sys
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

LEAST_PART = 5 << 20


class Refused(Exception):
    """An error answer: status, S3's code, more elements."""

    def __init__(self, status, code, message="", **more):
        super().__init__(code)
        self.status, self.code, self.message, self.more = status, code, message, more


class Fault:
    """Strikes requests that `match` says yes to: after the first `skip`, `times` of them.

    what: "status" (value: number or (number, code)) before anything is done; "drop": the connection is
    closed before anything is done; "lost": done, then closed without an answer; "hang": done, then
    nothing for `value` seconds; "cut": half the body, then closed; "error_in_200": not done, an error's
    XML (value: its code) with status 200; "error_in_200_done": the same, but done.
    """

    def __init__(self, what, match, value=None, times=1, skip=0):
        self.what, self.match, self.value, self.times, self.skip = what, match, value, times, skip
        self.struck = 0


def method(*names, query=None):
    """For Fault.match: requests of these methods, with this in the query."""
    return lambda r: r.command in names and (query is None or query in r.query)


class TinyS3:
    def __init__(self, port=0, certificate=None):
        self.lock = threading.RLock()
        self.buckets = {"varve"}
        self.keys = {"test": "testtest"}  # access key: secret key
        self.tokens = {}  # access key: token that must come with it
        self.digests = []  # (method, x-amz-content-sha256) of each signed request
        self.region = "us-east-1"
        self.objects = {}  # name: bytes
        self.etags = {}
        self.meta = {}  # name: {x-amz-meta-...: value}
        self.drops_metadata = False
        self.uploads = {}
        self.log = []  # (method, path, query, status)
        self.connections = set()
        self.faults = []
        self.clock_offset = 0  # seconds that this server's clock is ahead
        self.ignores_if_none_match = False
        self.ignores_range = False
        self.hidden = set()  # names that listings do not show yet
        self.hide_new = 0  # so many next puts are hidden
        self.lists_unsorted = False
        self.empty_pages = 0  # before each listing's first page, with tokens
        self.page = 1000
        self.is_html = False
        outer = self

        class Handler(_Handler):
            s3 = outer

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, client_address):
                pass  # clients that go away are part of the tests

        self.server = Server(("127.0.0.1", port), Handler)
        self.scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.scheme = "https"
        self.endpoint = f"{self.scheme}://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def fail(self, what, match, value=None, times=1, skip=0):
        fault = Fault(what, match, value, times, skip)
        with self.lock:
            self.faults.append(fault)
        return fault

    def fault_for(self, request):
        with self.lock:
            for fault in self.faults:
                if not fault.match(request) or fault.struck >= fault.times + fault.skip:
                    continue
                fault.struck += 1
                if fault.struck > fault.skip:
                    return fault
        return None

    def count(self, *methods):
        with self.lock:
            return sum(entry[0] in methods for entry in self.log)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    s3 = None

    def log_message(self, *_):
        pass

    def setup(self):
        super().setup()
        with self.s3.lock:
            self.s3.connections.add(self.client_address)

    # ---- a request

    def serve(self):
        if self.path.startswith("http://"):  # this server is taken for a proxy
            self.path = "/" + self.path.split("/", 3)[3]
        parts = urlsplit(self.path)
        self.query = parts.query
        self.args = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.s3.fault_for(self)
        self.cut = fault is not None and fault.what == "cut"
        try:
            if self.s3.is_html:
                return self.answer(200, b"<html><body>Welcome!</body></html>", plain=True)
            if fault and fault.what == "drop":
                return self.hang_up()
            if fault and fault.what == "status":
                status, code = fault.value if isinstance(fault.value, tuple) else (fault.value, None)
                if code is None:
                    return self.answer(status, b"<html>a proxy's page</html>", plain=True)
                raise Refused(status, code, "injected")
            if fault and fault.what == "error_in_200":
                return self.error(200, Refused(200, fault.value, "injected"))
            self.authenticate()
            with self.s3.lock:
                answer = self.route(unquote(parts.path))
            if fault and fault.what in ("lost", "hang"):
                if fault.what == "hang":
                    time.sleep(fault.value)
                self.s3.log.append((self.command, parts.path, self.query, 0))
                return self.hang_up()
            if fault and fault.what == "error_in_200_done":
                return self.error(200, Refused(200, fault.value, "injected"))
            self.answer(*answer)
        except Refused as refused:
            self.error(refused.status, refused)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = serve

    def hang_up(self):
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def answer(self, status, body=b"", headers=None, plain=False):
        self.s3.log.append((self.command, urlsplit(self.path).path, self.query, status))
        headers = dict(headers or {})
        lines = [f"HTTP/1.1 {status} X"]
        headers.setdefault("Date", formatdate(time.time() + self.s3.clock_offset, usegmt=True))
        headers.setdefault("Content-Length", str(len(body)))
        headers.setdefault("Content-Type", "text/html" if plain else "application/xml")
        if not plain:
            headers["x-amz-request-id"] = "tiny"
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        if self.command == "HEAD" or status == 204:
            body = b""
        if self.cut:
            self.wfile.write(head + body[:len(body) // 2])
            self.wfile.flush()
            return self.hang_up()
        self.wfile.write(head + body)

    def error(self, status, refused):
        more = "".join(f"<{k}>{html.escape(v)}</{k}>" for k, v in refused.more.items())
        self.answer(status, (f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{refused.code}</Code>'
                             f"<Message>{html.escape(refused.message)}</Message>{more}</Error>").encode())

    # ---- who asks

    def authenticate(self):
        text = self.headers.get("Authorization", "")
        if not text.startswith("AWS4-HMAC-SHA256 "):
            raise Refused(403, "AccessDenied", "no signature")
        fields = dict(f.strip().split("=", 1) for f in text[len("AWS4-HMAC-SHA256 "):].split(","))
        access, day, region, service, _ = fields["Credential"].split("/")
        if access not in self.s3.keys:
            raise Refused(403, "InvalidAccessKeyId")
        token = self.s3.tokens.get(access)
        if token is not None and self.headers.get("x-amz-security-token") != token:
            raise Refused(400, "ExpiredToken", "The provided token has expired.")
        if region != self.s3.region:
            raise Refused(400, "AuthorizationHeaderMalformed", f"the region '{region}' is wrong",
                          Region=self.s3.region)
        date = self.headers["x-amz-date"]
        sent = calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
        if abs(sent - (time.time() + self.s3.clock_offset)) > 900:
            raise Refused(403, "RequestTimeTooSkewed", "The difference is too large.")
        signed = fields["SignedHeaders"].split(";")
        must = {"host", "x-amz-content-sha256", "x-amz-date"} | {
            h.lower() for h in self.headers if h.lower().startswith("x-amz-")}
        assert must <= set(signed), signed
        request = AWSRequest(self.command, f"{self.s3.scheme}://{self.headers['Host']}{self.path}",
                             headers={h: self.headers[h] for h in signed}, data=self.body)
        request.context["timestamp"] = date
        signer = S3SigV4Auth(Credentials(access, self.s3.keys[access]), service, region)
        canonical = signer.canonical_request(request)
        right = signer.signature(signer.string_to_sign(request, canonical), request)
        if right != fields["Signature"]:
            raise Refused(403, "SignatureDoesNotMatch", canonical)
        digest = self.headers["x-amz-content-sha256"]
        self.s3.digests.append((self.command, digest))
        if digest != "UNSIGNED-PAYLOAD" and digest != hashlib.sha256(self.body).hexdigest():
            raise Refused(400, "XAmzContentSHA256Mismatch")

    # ---- what is asked

    def route(self, path):
        host = self.headers["Host"].split(":")[0]
        if host.endswith(".s3.test"):  # BUCKET.s3.test
            bucket, name = host[:-len(".s3.test")], path[1:]
        else:
            bucket, _, name = path[1:].partition("/")
        if bucket not in self.s3.buckets:
            raise Refused(404, "NoSuchBucket")
        if not name:
            if self.command == "GET" and "location" in self.args:
                return 200, b'<?xml version="1.0"?><LocationConstraint/>'
            if self.command == "GET":
                return self.list()
            raise Refused(501, "NotImplemented")
        handlers = {"PUT": self.put, "GET": self.get, "HEAD": self.get, "DELETE": self.delete,
                    "POST": self.post}
        return handlers[self.command](name)

    def metadata(self):
        return {} if self.s3.drops_metadata else {
            h.lower(): v for h, v in self.headers.items() if h.lower().startswith("x-amz-meta-")}

    def store(self, name, body, etag, meta):
        self.s3.objects[name] = body
        self.s3.etags[name] = etag
        self.s3.meta[name] = meta
        if self.s3.hide_new > 0:
            self.s3.hide_new -= 1
            self.s3.hidden.add(name)
        return 200, b"", {"ETag": f'"{etag}"'}

    def put(self, name):
        if "uploadId" in self.args:
            upload = self.upload(name)
            etag = hashlib.md5(self.body).hexdigest()
            upload["parts"][int(self.args["partNumber"])] = (etag, self.body)
            return 200, b"", {"ETag": f'"{etag}"'}
        if (self.headers.get("If-None-Match") == "*" and name in self.s3.objects
                and not self.s3.ignores_if_none_match):
            raise Refused(412, "PreconditionFailed")
        return self.store(name, self.body, hashlib.md5(self.body).hexdigest(), self.metadata())

    def get(self, name):
        if name not in self.s3.objects:
            raise Refused(404, "NoSuchKey")
        body = self.s3.objects[name]
        headers = {"ETag": f'"{self.s3.etags[name]}"', "Content-Type": "binary/octet-stream",
                   "Last-Modified": formatdate(time.time() + self.s3.clock_offset, usegmt=True),
                   **self.s3.meta.get(name, {})}
        status, ranged = 200, self.headers.get("Range")
        if ranged and not self.s3.ignores_range:
            first, last = (int(n) for n in ranged[len("bytes="):].split("-"))
            if first >= len(body):
                raise Refused(416, "InvalidRange")
            last = min(last, len(body) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            body, status = body[first:last + 1], 206
        headers["Content-Length"] = str(len(body))
        return status, body, headers

    def delete(self, name):
        if "uploadId" in self.args:
            self.upload(name)
            del self.s3.uploads[self.args["uploadId"]]
            return 204, b""
        self.s3.objects.pop(name, None)
        self.s3.hidden.discard(name)
        return 204, b""

    def upload(self, name):
        upload = self.s3.uploads.get(self.args["uploadId"])
        if upload is None or upload["name"] != name:
            raise Refused(404, "NoSuchUpload")
        return upload

    def post(self, name):
        if "uploads" in self.args:
            upload_id = base64.b64encode(f"{len(self.s3.uploads)}/{name}+".encode()).decode()
            self.s3.uploads[upload_id] = {"name": name, "parts": {}, "meta": self.metadata()}
            return 200, (f'<?xml version="1.0"?><InitiateMultipartUploadResult><UploadId>{upload_id}'
                         "</UploadId></InitiateMultipartUploadResult>").encode()
        upload = self.upload(name)
        body, digests, wanted = b"", b"", ElementTree.fromstring(self.body).findall("Part")
        for i, part in enumerate(wanted):
            etag, data = upload["parts"][int(part.findtext("PartNumber"))]
            if part.findtext("ETag").strip('"') != etag:
                raise Refused(400, "InvalidPart")
            if len(data) < LEAST_PART and i + 1 < len(wanted):
                raise Refused(400, "EntityTooSmall")
            body, digests = body + data, digests + bytes.fromhex(etag)
        del self.s3.uploads[self.args["uploadId"]]
        etag = f"{hashlib.md5(digests).hexdigest()}-{len(wanted)}"
        self.store(name, body, etag, upload["meta"])
        return 200, (f"<CompleteMultipartUploadResult><ETag>&quot;{etag}&quot;</ETag>"
                     "</CompleteMultipartUploadResult>").encode()

    def list(self):
        """ListObjectsV2, and the older ListObjects, which s3cmd asks for."""
        v2, delimiter = self.args.get("list-type") == "2", self.args.get("delimiter", "")
        prefix, after = self.args.get("prefix", ""), self.args.get("start-after" if v2 else "marker", "")
        token = self.args.get("continuation-token", "")
        if self.s3.empty_pages and not (token and not token.startswith("empty+/")):
            left, after = token[7:].split("/", 1) if token else (self.s3.empty_pages, after)
            if n := int(left):
                return 200, (f'<?xml version="1.0"?><ListBucketResult><IsTruncated>true</IsTruncated>'
                             f"<NextContinuationToken>empty+/{n - 1}/{html.escape(after)}</NextContinuationToken></ListBucketResult>").encode()
            self.args.pop("continuation-token")
        if "continuation-token" in self.args:
            after = base64.b64decode(self.args["continuation-token"]).decode()
        most = min(int(self.args.get("max-keys", "1000")), self.s3.page)
        url = self.args.get("encoding-type") == "url"
        names = sorted((n for n in self.s3.objects if n not in self.s3.hidden
                        and n.startswith(prefix) and n.encode() > after.encode()), key=str.encode)
        page, is_cut = names[:most], len(names) > most
        folders = set()
        if delimiter:
            inner = {n: n[len(prefix):].partition(delimiter) for n in page}
            folders = {prefix + head + delimiter for head, cut, _ in inner.values() if cut}
            page = [n for n in page if not inner[n][1]]
        if self.s3.lists_unsorted:
            page.reverse()

        def name(n):
            return quote(n, safe="") if url else html.escape(n)

        now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() + self.s3.clock_offset))
        text = "".join(
            f"<Contents><Key>{name(n)}</Key><LastModified>{now}</LastModified>"
            f"<ETag>&quot;{self.s3.etags.get(n, '')}&quot;</ETag><Size>{len(self.s3.objects[n])}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>" for n in page)
        text += "".join(f"<CommonPrefixes><Prefix>{name(f)}</Prefix></CommonPrefixes>" for f in sorted(folders))
        if is_cut and v2:
            text += f"<NextContinuationToken>{base64.b64encode(names[most - 1].encode()).decode()}</NextContinuationToken>"
        elif is_cut:
            text += f"<NextMarker>{name(names[most - 1])}</NextMarker>"
        return 200, (f'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                     f"<Name>varve</Name><Prefix>{name(prefix)}</Prefix><MaxKeys>{most}</MaxKeys>"
                     f"<IsTruncated>{str(is_cut).lower()}</IsTruncated>"
                     f"{'<EncodingType>url</EncodingType>' if url else ''}{text}</ListBucketResult>").encode()


if __name__ == "__main__":
    with TinyS3(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as running:
        print(running.endpoint, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass
