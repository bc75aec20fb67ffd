"""The laboratory: two servers on loopback (alpha.test, beta.test) as `postrider lab` runs them, and
what tests need to talk to them.  Every TLS connection is verified against the lab's CA."""

import imaplib
import json
import os
import poplib
import random
import shutil
import signal
import smtplib
import socket
import sqlite3
import ssl
import subprocess
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
POSTRIDER = os.environ.get("POSTRIDER") or os.path.join(ROOT, "build", "postrider")
with open(POSTRIDER, "rb") as program:
    SANITIZED = b"__asan_init" in program.read()
TIMEOUT = 30  # seconds; for anything that a healthy server does at once
USERS = {"alpha": ("alice", "bob", "carol"), "beta": ("dave", "erin", "frank")}

imaplib._MAXLINE = poplib._MAXLINE = 64 * 1024 * 1024


class AdminError(Exception):
    def __init__(self, exit_code, text):
        super().__init__(text)
        self.exit, self.text = exit_code, text


def temp_dir(prefix="postrider-"):
    """A directory that the servers' users may enter."""
    path = tempfile.mkdtemp(prefix=prefix, dir="/tmp")
    os.chmod(path, 0o711)
    return path


def wait_for(predicate, timeout=TIMEOUT, what="it"):
    """Polls until PREDICATE gives something true, which is returned."""
    end = time.monotonic() + timeout
    while True:
        got = predicate()
        if got:
            return got
        assert time.monotonic() < end, f"waited {timeout} s for {what}"
        time.sleep(0.02)


def run(argv, timeout=60, **kw):
    """Runs a program to its end; text in, text out."""
    kw.setdefault("stdin", None if "input" in kw else subprocess.DEVNULL)
    if "input" in kw:
        kw.pop("stdin")
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout,
                          errors="surrogateescape", **kw)


def postrider(*argv, **kw):
    return run([POSTRIDER, *argv], **kw)


def ask(path, command, **args):
    """One request to an admin socket: the rows, or AdminError."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(TIMEOUT)
        s.connect(path)
        s.sendall(json.dumps(dict(args, command=command)).encode() + b"\n")
        rows = [json.loads(line) for line in s.makefile("rb")]
    last = rows.pop()
    if not last["ok"]:
        raise AdminError(last["exit"], last["error"])
    return rows


class Raw:
    """A TCP connection on which the test says every byte itself."""

    def __init__(self, address, port, tls=None, timeout=TIMEOUT, name="localhost"):
        self.sock = socket.create_connection((address, port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""
        if tls:
            self.start_tls(tls, name)

    def start_tls(self, context, name="localhost"):
        self.sock = context.wrap_socket(self.sock, server_hostname=name)

    def send(self, data):
        self.sock.sendall(data)

    def more(self):
        got = self.sock.recv(65536)
        self.data += got
        return bool(got)

    def line(self):
        """The next line without CRLF; None at the end of the stream."""
        while b"\n" not in self.data:
            if not self.more():
                return None
        line, self.data = self.data.split(b"\n", 1)
        assert line.endswith(b"\r"), f"a line of the server ends with a bare LF: {line[:100]!r}"
        return line[:-1]

    def exactly(self, n):
        while len(self.data) < n:
            assert self.more(), "the stream ended inside a literal"
        out, self.data = self.data[:n], self.data[n:]
        return out

    def rest(self):
        """Everything until the other side closes."""
        try:
            while self.more():
                pass
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            pass
        out, self.data = self.data, b""
        return out

    def closed(self):
        try:
            return not self.data and not self.more()
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            return True

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Smtp(Raw):
    """SMTP with raw bytes.  A reply is its text, all lines, beginning with the code."""

    def __init__(self, *a, greet=True, ehlo="client.test", **kw):
        super().__init__(*a, **kw)
        if greet:
            self.greeting = self.reply()
            assert self.greeting.startswith("220"), self.greeting
        if greet and ehlo:
            self.features = self.want("250", f"EHLO {ehlo}")

    def reply(self):
        lines = []
        while True:
            line = self.line()
            assert line is not None, f"the server closed; so far {lines}"
            lines.append(line.decode("utf-8", "backslashreplace"))
            if line[3:4] != b"-":
                return "\n".join(lines)

    def cmd(self, line):
        self.send((line if isinstance(line, bytes) else line.encode()) + b"\r\n")
        return self.reply()

    def want(self, code, line):
        got = self.cmd(line)
        assert got.startswith(code), f"{line!r}: {got}"
        return got

    def starttls(self, context, ehlo="client.test"):
        self.want("220", "STARTTLS")
        self.start_tls(context)
        self.features = self.want("250", f"EHLO {ehlo}")

    def auth(self, user, password):
        import base64
        plain = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        return self.want("235", "AUTH PLAIN " + plain)

    def envelope(self, sender, *rcpts):
        self.want("250", f"MAIL FROM:<{sender}>")
        for r in rcpts:
            self.want("250", f"RCPT TO:<{r}>")

    def data(self, message):  # noqa: F811 (the buffer is named self.data in Raw)
        raise NotImplementedError

    def body(self, message):
        """DATA with MESSAGE (ends with CRLF) dot-stuffed; the reply."""
        self.want("354", "DATA")
        if message.startswith(b"."):
            message = b"." + message
        self.send(message.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return self.reply()

    def deliver(self, sender, rcpts, message):
        """One transaction; the id of the accepted message."""
        self.envelope(sender, *([rcpts] if isinstance(rcpts, str) else rcpts))
        got = self.body(message)
        assert got.startswith("250"), got
        return got.split()[-1]


del Smtp.data


class Host:
    def __init__(self, lab, row):
        self.lab = lab
        for k, v in row.items():
            setattr(self, k, v)

    def ask(self, command, **args):
        return ask(self.admin, command, **args)

    def cli(self, *argv, **kw):
        return postrider("--socket", self.admin, *argv, **kw)

    def cli_json(self, *argv):
        p = self.cli("--json", *argv)
        assert p.returncode == 0, p.stderr
        return [json.loads(line) for line in p.stdout.splitlines()]

    def account(self, local=None, **args):
        """A new account: (address, password)."""
        local = local or f"u{random.getrandbits(40):010x}"
        address, password = f"{local}@{self.domain}", f"{random.getrandbits(64):016x}"
        self.ask("account add", address=address, password=password, **args)
        self.lab.passwords[address] = password
        return address, password

    def password(self, address):
        return self.lab.passwords[address]

    # ---- connections

    def smtp_in(self, **kw):
        """To the MX port, as another server comes."""
        return Smtp("127.0.0.1", self.smtp, **kw)

    def submit(self, address, **kw):
        """Submission over TLS, logged in."""
        s = Smtp("127.0.0.1", self.submissions, tls=self.lab.tls, **kw)
        s.auth(address, self.password(address))
        return s

    def imap_raw(self, address=None):
        c = Imap("127.0.0.1", self.imaps, tls=self.lab.tls)
        if address:
            c.ok(f"LOGIN {address} {self.password(address)}")
        return c

    def imaplib(self, address, starttls=False):
        if starttls:
            c = imaplib.IMAP4("localhost", self.imap, timeout=TIMEOUT)
            c.starttls(self.lab.tls)
        else:
            c = imaplib.IMAP4_SSL("localhost", self.imaps, ssl_context=self.lab.tls,
                                  timeout=TIMEOUT)
        c.login(address, self.password(address))
        return c

    def poplib(self, address, stls=False):
        if stls:
            c = poplib.POP3("localhost", self.pop3, timeout=TIMEOUT)
            c.stls(self.lab.tls)
        else:
            c = poplib.POP3_SSL("localhost", self.pop3s, context=self.lab.tls, timeout=TIMEOUT)
        c.user(address)
        c.pass_(self.password(address))
        return c

    def smtplib(self, address, starttls=False):
        if starttls:
            c = smtplib.SMTP("localhost", self.submission, timeout=TIMEOUT)
            c.starttls(context=self.lab.tls)
        else:
            c = smtplib.SMTP_SSL("localhost", self.submissions, context=self.lab.tls,
                                 timeout=TIMEOUT)
        c.login(address, self.password(address))
        return c

    # ---- what is in a mailbox

    def messages(self, address, mailbox="INBOX"):
        """All messages of a mailbox, as bytes, in order."""
        c = self.imaplib(address)
        try:
            assert c.select(f'"{mailbox}"', readonly=True)[0] == "OK"
            typ, data = c.fetch("1:*", "(BODY.PEEK[])")
            return [d[1] for d in data if isinstance(d, tuple)]
        finally:
            c.logout()

    def wait_messages(self, address, n=1, mailbox="INBOX", timeout=TIMEOUT):
        """The messages, once there are at least N."""
        def there():
            rows = [r for r in self.ask("account list") if r["address"] == address]
            return rows[0]["messages"] >= n if mailbox == "INBOX" else True
        wait_for(there, timeout, f"{n} messages of {address}")
        return self.messages(address, mailbox)

    def trace(self, key):
        return self.ask("trace", key=key)

    def queue(self, **args):
        return self.ask("queue list", **args)

    def settings(self, text):
        """Adds TEXT to the configuration file and has it read."""
        with open(self.config, "a") as f:
            f.write(text)
        before = self.log_text().count(b"parent.reloaded")
        os.kill(self.pid, signal.SIGHUP)
        wait_for(lambda: self.log_text().count(b"parent.reloaded") > before, what="the reload")

    def wait_empty_queue(self, timeout=TIMEOUT):
        wait_for(lambda: not self.queue(), timeout, f"an empty queue on {self.name}")

    # ---- processes

    def roles(self):
        """Role name -> pid."""
        out = {}
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as f:
            for child in f.read().split():
                try:
                    with open(f"/proc/{child}/cmdline", "rb") as c:
                        words = c.read().split(b"\0")
                except OSError:
                    continue
                if b"-x" in words:
                    out[words[words.index(b"-x") + 1].decode()] = int(child)
        return out

    def rss(self, role):
        """Resident bytes of a role's process; what a sanitizer's build takes says nothing: 0."""
        if SANITIZED:
            return 0
        with open(f"/proc/{self.roles()[role]}/status") as f:
            for line in f:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024

    def check_databases(self):
        """Of a server that has ended: SQLite must call each sound."""
        for base, _, files in os.walk(os.path.join(self.dir, "data")):
            for name in files:
                if name.endswith(".db"):
                    path = os.path.join(base, name)
                    db = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
                    found = db.execute("PRAGMA quick_check").fetchall()
                    db.close()
                    assert found == [("ok",)], f"{path}: {found}"

    def log_text(self):
        with open(os.path.join(self.dir, "log"), "rb") as f:
            return f.read()


class Imap(Raw):
    """IMAP with raw bytes."""

    def __init__(self, *a, greet=True, **kw):
        super().__init__(*a, **kw)
        self.n = 0
        if greet:
            self.greeting = self.line()
            assert self.greeting.startswith(b"* OK"), self.greeting

    def response(self):
        """One response line with its literals, as bytes; None at the end."""
        out = b""
        while True:
            line = self.line()
            if line is None:
                return None
            out += line
            if not line.endswith(b"}") or b"{" not in line:
                return out
            size = line[line.rindex(b"{") + 1:-1]
            if not size.isdigit():
                return out
            out += b"\r\n" + self.exactly(int(size))

    def until(self, tag):
        """The untagged responses before TAG's, and TAG's."""
        seen = []
        while True:
            r = self.response()
            assert r is not None, f"the server closed; so far {seen[-3:]}"
            if r.startswith(tag + b" "):
                return seen, r[len(tag) + 1:]
            seen.append(r)

    def cmd(self, line):
        self.n += 1
        tag = b"t%d" % self.n
        self.send(tag + b" " + (line if isinstance(line, bytes) else line.encode()) + b"\r\n")
        return self.until(tag)

    def ok(self, line):
        seen, final = self.cmd(line)
        assert final.startswith(b"OK"), f"{line!r}: {final!r}"
        return seen

    def append(self, mailbox, message, flags=""):
        self.n += 1
        tag = b"t%d" % self.n
        self.send(tag + b" APPEND %s %s{%d}\r\n" % (mailbox.encode(),
                                                   (flags + " ").encode() if flags else b"",
                                                   len(message)))
        r = self.response()
        assert r.startswith(b"+"), r
        self.send(message + b"\r\n")
        seen, final = self.until(tag)
        return final


class Lab:
    """`postrider lab --json`, as a context manager."""

    def __init__(self, zone=None, single=False, dir=None, prepare=None):
        self.dir = dir or temp_dir("postrider-lab-")
        self.own_dir = dir is None
        self.net = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"
        self.zone, self.single, self.prepare = zone, single, prepare
        self.process = None
        self.expect = 0  # the exit code at the end
        self.may_die = False  # roles, because the test ends them

    def address(self, n):
        """A loopback address of this lab's own, N of 10..250; zone lines name it "@N@"."""
        return f"{self.net}.{n}"

    def start(self):
        argv = [POSTRIDER, "lab", "--dir", self.dir, "--json"]
        if self.zone:
            path = self.dir + ".zone"
            text = self.zone
            for n in range(10, 251):
                text = text.replace(f"@{n}@", self.address(n))
            with open(path, "w") as f:
                f.write(text)
            argv += ["--zone", path]
        if self.single:
            argv.append("--single")
        if self.prepare:
            self.prepare(self)
        for attempt in range(3):
            self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=subprocess.PIPE, text=True)
            line = self.process.stdout.readline()
            if line:
                break
            self.process.wait(10)
            logs = "".join(open(os.path.join(self.dir, h, "log")).read()[-2000:]
                           for h in ("alpha", "beta")
                           if os.path.exists(os.path.join(self.dir, h, "log")))
            # Another program may take a port between the lab's choice and its servers' start.
            if attempt == 2 or "Address already in use" not in logs:
                raise AssertionError(f"the lab did not start: {self.process.stderr.read()}\n{logs}")
        self.info = json.loads(line)
        self.hosts = [Host(self, h) for h in self.info["hosts"]]
        self.alpha, self.beta = self.hosts
        self.passwords = {a["address"]: a["password"] for a in self.info["accounts"]}
        self.ca = self.info["ca"]
        self.tls = ssl.create_default_context(cafile=self.ca)
        return self

    def clock(self, by):
        p = postrider("lab", "clock", by, "--dir", self.dir)
        assert p.returncode == 0, p.stderr

    def stop(self):
        """Ends the servers; they must end by themselves, cleanly and soon."""
        self.process.stdin.close()
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("the lab did not end within a minute")
        err = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        assert code == self.expect, f"the lab ended with {code}: {err}"
        for h in self.hosts:
            log = h.log_text().decode("utf-8", "replace")
            assert self.may_die or "parent.role_died" not in log, f"a role of {h.name} died:\n{log[-3000:]}"
            assert "Sanitizer" not in log, log[log.index("Sanitizer") - 200:][:6000]
            h.check_databases()

    def remove(self):
        if self.own_dir:
            shutil.rmtree(self.dir, ignore_errors=True)
        if self.zone:
            os.unlink(self.dir + ".zone")

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, tb):
        try:
            self.stop()
        finally:
            self.remove()


class Sink:
    """A mail server in a few lines, on ADDRESS:PORT, that keeps what it is told: `mails` holds
    (sender, [recipients], raw bytes between 354 and the end, or of all chunks).  REPLIES changes its answers: a
    command word ("EHLO", "MAIL", "RCPT", "DATA", ".", "chunk", "greeting", "STARTTLS") -> bytes to send, or
    a function of (sink, socket, line) that sends them itself and may return False to hang up."""

    def __init__(self, address, port, replies=None, tls=None):
        self.replies = dict(replies or {})
        self.tls = tls
        self.mails, self.lines, self.connections = [], [], 0
        self.listener = socket.create_server((address, port), backlog=64)
        self.stopping, self.socks = False, []
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def _accept(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            if self.stopping:
                return
            self.connections += 1
            self.socks.append(c)
            t = threading.Thread(target=self._serve, args=(c,), daemon=True)
            t.start()

    def _say(self, sock, word, line, default):
        answer = self.replies.get(word, default)
        if callable(answer):
            return answer(self, sock, line) is not False
        sock.sendall(answer)
        return True

    def _serve(self, sock):
        try:
            sock.settimeout(60)
            self._talk(sock)
        except (OSError, ssl.SSLError):
            pass
        finally:
            sock.close()

    def _talk(self, sock):
        data, sender, rcpts, chunks = b"", None, [], b""
        if not self._say(sock, "greeting", b"", b"220 sink ESMTP\r\n"):
            return
        while True:
            while b"\n" not in data:
                got = sock.recv(65536)
                if not got:
                    return
                data += got
            line, data = data.split(b"\n", 1)
            self.lines.append(line + b"\n")
            word = line.split(b" ")[0].strip().upper().decode("latin-1")
            if word == "MAIL":
                sender = line[line.index(b"<") + 1:line.index(b">")].decode()
                rcpts = []
            if word == "MAIL" and str(self.replies.get("MAIL", b"250"))[2] not in "2<":
                sender = None
            if word == "RCPT" and sender is None:
                sock.sendall(b"503 5.5.1 no sender\r\n")
                continue
            if word == "DATA" and not rcpts:
                sock.sendall(b"503 5.5.1 no recipient\r\n")
                continue
            if word == "RCPT":
                rcpts.append(line[line.index(b"<") + 1:line.index(b">")].decode())
            ehlo = b"250-sink\r\n" + (b"250-STARTTLS\r\n" if self.tls else b"") + \
                b"250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 100000000\r\n"
            default = {"EHLO": ehlo, "DATA": b"354 go\r\n", "QUIT": b"221 bye\r\n",
                       "STARTTLS": b"220 go\r\n", "BDAT": b""}.get(word, b"250 2.0.0 ok\r\n")
            if not self._say(sock, word, line, default) or word == "QUIT":
                return
            if word == "STARTTLS" and self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
                data = b""
            if word == "BDAT":
                size = int(line.split()[1])
                while len(data) < size:
                    got = sock.recv(65536)
                    if not got:
                        return
                    data += got
                chunks, data = chunks + data[:size], data[size:]
                if line.strip().endswith(b"LAST"):
                    self.mails.append((sender, rcpts, chunks))
                    chunks = b""
                if not self._say(sock, "chunk", line, b"250 2.0.0 taken\r\n"):
                    return
                continue
            if word == "DATA" and self.replies.get("DATA", b"354").startswith(b"354"):
                while not (data.startswith(b".\r\n") or b"\r\n.\r\n" in data):
                    got = sock.recv(65536)
                    if not got:
                        return
                    data += got
                if data.startswith(b".\r\n"):
                    body, data = b"", data[3:]
                else:
                    end = data.index(b"\r\n.\r\n")
                    body, data = data[:end + 2], data[end + 5:]
                if not self._say(sock, ".", b".", b"250 2.0.0 taken\r\n"):
                    return
                self.mails.append((sender, rcpts, body))

    def wait(self, n=1, timeout=TIMEOUT):
        wait_for(lambda: len(self.mails) >= n, timeout, f"{n} mails at the sink")
        return self.mails

    def close(self):
        self.stopping = True
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.threads[0].join(5)
        for c in self.socks:  # a client may keep a connection for its next mail
            try:
                c.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def unstuff(body):
    """What a receiver takes away from the bytes of DATA."""
    if body.startswith(b"."):
        body = body[1:]
    return body.replace(b"\r\n.", b"\r\n")


def message(sender, to, subject="test", text="Hello.\r\n", **headers):
    """A small message; headers by name with _ for -."""
    more = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
    return (f"From: <{sender}>\r\nTo: <{to}>\r\nSubject: {subject}\r\n"
            f"Date: Thu, 01 Jan 2026 12:00:00 +0000\r\n"
            f"Message-ID: <{random.getrandbits(64):x}@test>\r\n{more}\r\n{text}").encode()
