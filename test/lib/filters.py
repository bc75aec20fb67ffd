"""Filters that a test plays itself, and real ones that it starts: milters, an HTTP hook, clamd."""

import http.server
import json
import os
import socket
import struct
import subprocess
import threading
import time

from lab import temp_dir, wait_for

STRANGER = "x@sink.test"
ACTIONS, STEPS = 0x1FF, 0x1FF7FF
ASKED = {"O", "C", "H", "M", "R", "T", "L", "N", "B", "E"}  # what a milter answers


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def frame(command, data=b""):
    return struct.pack(">I", len(data) + 1) + command.encode() + data


def options(version=6, actions=ACTIONS, steps=0, wishes=()):
    return frame("O", struct.pack(">III", version, actions, steps) +
                 b"".join(struct.pack(">I", s) + names.encode() + b"\0" for s, names in wishes))


def add(name, value):
    return frame("h", f"{name}\0{value}\0".encode())


def insert(index, name, value):
    return frame("i", struct.pack(">I", index) + f"{name}\0{value}\0".encode())


def change(index, name, value):
    return frame("m", struct.pack(">I", index) + f"{name}\0{value}\0".encode())


CONTINUE, ACCEPT, REJECT, TEMPFAIL, DISCARD = (frame(c) for c in "cartd")


class Milter:
    """REPLIES: event letter -> bytes, or a function of (milter, data) that gives them; None hangs;
    b"" closes the connection.  `heard` has (event, data) of all connections, `macros` what was told."""

    def __init__(self, options=options(), **replies):
        self.socks = []
        self.play(options, **replies)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def play(self, options=options(), **replies):
        """Forgets what it heard, and behaves like this from now on."""
        self.options, self.replies = options, replies
        self.heard, self.macros, self.body, self.connections = [], {}, b"", 0
        return self

    def _accept(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self.socks.append(c)
            threading.Thread(target=self._serve, args=(c,), daemon=True).start()

    def _exactly(self, sock, n):
        out = b""
        while len(out) < n:
            got = sock.recv(n - len(out))
            if not got:
                raise EOFError
            out += got
        return out

    def _serve(self, sock):
        try:
            while True:
                n, = struct.unpack(">I", self._exactly(sock, 4))
                data = self._exactly(sock, n)
                event, data = chr(data[0]), data[1:]
                if event == "D":
                    words = data[1:].split(b"\0")[:-1]
                    names = [w.decode().strip("{}") for w in words[::2]]
                    self.macros.setdefault(chr(data[0]), {}).update(
                        zip(names, (w.decode() for w in words[1::2])))
                    continue
                self.heard.append((event, data))
                if event == "B":
                    self.body += data
                if event not in ASKED:
                    continue
                reply = self.options if event == "O" else self.replies.get(event, CONTINUE)
                if callable(reply):
                    reply = reply(self, data)
                if reply is None:
                    continue
                if reply == b"":
                    return
                sock.sendall(reply)
        except (EOFError, OSError):
            pass
        finally:
            sock.close()

    def events(self):
        return "".join(e for e, _ in self.heard)

    def headers(self):
        return [tuple(d.decode().split("\0")[:2]) for e, d in self.heard if e == "L"]

    def close(self):
        self.listener.close()
        for s in self.socks:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Hook:
    """An HTTP server that answers each POST with ANSWER: an object, or a function of the request's
    object that gives one, or (status, bytes)."""

    def __init__(self, answer, tls=None):
        self.answer, self.asked = answer, []
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.asked.append(json.loads(body))
                got = hook.answer(hook.asked[-1]) if callable(hook.answer) else hook.answer
                status, text = got if isinstance(got, tuple) else (200, json.dumps(got).encode())
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{port}/hook"
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
            self.url = f"https://localhost:{port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Daemon:
    """A real filter: ARGV in the foreground, ready when PORT takes connections."""

    def __init__(self, dir, argv, port, timeout=60):
        self.dir = dir
        self.log = open(os.path.join(dir, "output"), "wb")
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT)
        self.address = f"127.0.0.1:{port}"

        def up():
            assert self.process.poll() is None, open(self.log.name, errors="replace").read()[-3000:]
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                return True
            except OSError:
                return False
        wait_for(up, timeout, argv[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Chain:
    """The chain of filters of HOST while the context lasts: dicts of filter.chain."""

    def __init__(self, host, *rows):
        self.host, self.rows = host, rows

    def _write(self, text):
        before = self.host.log_text().count(b"parent.reloaded")
        with open(self.host.config, "w") as f:
            f.write(text)
        assert self.host.cli("reload").returncode == 0
        wait_for(lambda: self.host.log_text().count(b"parent.reloaded") > before, what="a reload")
        time.sleep(0.2)  # core has it soon after

    def __enter__(self):
        with open(self.host.config) as f:
            self.before = f.read()
        rows = [{"name": f"f{n}", "kind": "milter", "timeout": "2s", "timeout_message": "3s", **r}
                for n, r in enumerate(self.rows)]
        self._write(self.before + "\nfilter:\n  chain: " + json.dumps(rows) + "\n")
        return self

    def __exit__(self, *_):
        self._write(self.before)


def scratch():
    """A directory for a daemon, which may run as another user."""
    path = temp_dir("postrider-filter-")
    os.chmod(path, 0o755)
    return path


def deliver(host, to, sent, sender=STRANGER):
    """The reply to the end of data, or that of a refused recipient."""
    with host.smtp_in() as s:
        s.want("250", f"MAIL FROM:<{sender}>")
        reply = s.cmd(f"RCPT TO:<{to}>")
        return s.body(sent) if reply.startswith("250") else reply


def rcpt_reply(host, to):
    with host.smtp_in() as s:
        s.want("250", f"MAIL FROM:<{STRANGER}>")
        return s.cmd(f"RCPT TO:<{to}>")


def verdicts(host, key, name="filter.verdict"):
    return [r for r in host.trace(key) if r["event"] == name]
