"""The servers that varve is compared with, each as its users run it; how varies only where said."""
from harness import Failed, Server, free_port, program


class Echo(Server):
    """varve-echo: a bare epoll loop. HTTP replies of exactly `reply` bytes in all."""

    def __init__(self, bench, request, reply):
        # Zero is for requests that end with an empty line; a body needs the length.
        command = [bench.tool("varve-echo"), "--port", free_port(), "--threads", bench.cores,
                   "--http", "--reply-bytes", reply_option(reply), "--request-bytes", request]
        super().__init__(command, bench.path("echo.log"))
        self.address = None
        for line in self.process.stdout:
            word = line.split()
            if word[0] == "listening":
                self.address = word[2]
            if word[0] == "ready":
                return
        self.fail("varve-echo did not start")


def reply_option(wanted):
    """varve-echo's --reply-bytes for HTTP replies of `wanted` bytes: it takes 80 off for the head,
    whose true length depends on the digits of the body's."""
    for body in range(1, wanted):
        head = ("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                f"content-length: {body}\r\n\r\n")
        if len(head) + body == wanted:
            return body + 80
    raise Failed(f"varve-echo cannot make replies of {wanted} bytes")


class Redis(Server):
    """redis-server: no snapshots; the append-only file synced before each reply, or none."""

    def __init__(self, bench, durable):
        port = free_port()
        data = bench.path("redis")
        data.mkdir()
        command = [program("redis-server"), "--port", port, "--bind", "127.0.0.1", "--save", "",
                   "--dir", data, "--appendonly", "yes" if durable else "no",
                   "--appendfsync", "always", "--daemonize", "no"]
        super().__init__(command, f"{data}.log")
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.wait_for_port(port)


class Etcd(Server):
    """etcd, one node, its defaults: every put is synced."""

    def __init__(self, bench):
        client, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        data = bench.path("etcd")
        command = [program("etcd"), "--name", "bench", "--data-dir", data, "--log-level", "error",
                   "--listen-client-urls", client, "--advertise-client-urls", client,
                   "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                   "--initial-cluster", f"bench={peer}"]
        super().__init__(command, f"{data}.log")
        self.address = client[len("http://"):]
        self.wait_for_port(int(self.address.rsplit(":", 1)[1]))
