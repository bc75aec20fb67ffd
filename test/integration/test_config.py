"""Configuration, start, reload, full disk and end, of the whole program."""

import os
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import threading
import time

import pytest

from lab import POSTRIDER, Lab, Smtp, message, postrider, run, temp_dir, wait_for

GOOD = """server:
  hostname: mx.example.test
  data: @DATA@
listen:
  smtp: []
  submission: []
  submissions: []
  imap: []
  imaps: []
  pop3: []
  pop3s: []
"""


@pytest.fixture
def box():
    path = temp_dir("postrider-config-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


def write(box, text):
    path = f"{box}/postrider.yaml"
    with open(path, "w") as f:
        f.write(text.replace("@DATA@", f"{box}/data"))
    return path


def one_line(p):
    assert p.stdout == ""
    assert p.stderr.count("\n") == 1, p.stderr
    return p.stderr[:-1]


# ------------------------------------------------------------------ reading

@pytest.mark.parametrize("text, line, column", [
    ("server: [\n", None, None),                                  # not YAML
    (GOOD + "limits:\n  mesage: 10M\n", 13, 3),                   # unknown key
    (GOOD + "nonsense:\n  x: 1\n", 12, 1),                        # unknown section
    (GOOD + "limits:\n  message: big\n", 13, 12),                 # wrong type
    (GOOD + "limits:\n  message: 1\n", 13, 12),                   # below the range
    (GOOD + "relay:\n  port: 65536\n", 13, 9),                    # above it
    (GOOD + "relay:\n  ipv6: maybe\n", 13, 9),
    (GOOD + "submission:\n  from: everybody\n", 13, 9),
    (GOOD + "queue:\n  lifetime: 5 fortnights\n", 13, 13),
    (GOOD.replace("smtp: []", "smtp: [\"nowhere\"]"), 5, None),
    (GOOD + "tls:\n  certificates:\n    - chain: /x\n", None, None),  # key is missing
    (GOOD + "server:\n  hostname: twice.test\n", None, None),     # a section twice
    ("listen:\n  smtp: []\n", None, None),                        # hostname must be set
    (GOOD + "limits: 5\n", 12, None),                             # a scalar for a section
    (GOOD + "limits:\n  - message\n", None, None),
    ("\x00\x01binary", None, None),
    ("a: &x [*x]\n", None, None),
])
def test_errors_are_one_line_with_a_place(box, text, line, column):
    path = write(box, text)
    for command in (["config", "check"], ["serve"], ["status"]):
        p = postrider("--config", path, *command)
        assert p.returncode == 78, (command, p.stderr)
        m = re.match(r"postrider: (.*?):(\d+):(\d+): \S", one_line(p))
        assert m and m[1] == path, p.stderr
        if line:
            assert int(m[2]) == line, p.stderr
        if column:
            assert int(m[3]) == column, p.stderr
    assert not os.path.exists(f"{box}/data")


def test_no_such_file(box):
    p = postrider("--config", f"{box}/none.yaml", "config", "check")
    assert p.returncode == 78 and f"{box}/none.yaml" in one_line(p)


def test_good_configuration(box):
    path = write(box, GOOD)
    p = postrider("--config", path, "config", "check")
    assert (p.returncode, p.stderr) == (0, "") and path in p.stdout
    shown = postrider("--config", path, "config", "show").stdout
    again = write(box, shown)
    assert postrider("--config", again, "config", "show").stdout == shown, "shown is not readable"


def test_setup_writes_what_check_takes(box):
    path = f"{box}/etc/postrider.yaml"
    p = postrider("--config", path, "setup", "mx.example.test", "--data", f"{box}/data",
                  "--no-users")
    assert p.returncode == 0, p.stderr
    assert postrider("--config", path, "config", "check").returncode == 0
    again = postrider("--config", path, "setup", "mx.example.test", "--no-users")
    assert again.returncode == 73 and "exists" in one_line(again)
    dry = postrider("--config", f"{box}/other.yaml", "--dry-run", "setup", "mx.example.test", "--no-users")
    assert dry.returncode == 0 and "mx.example.test" in dry.stdout
    assert not os.path.exists(f"{box}/other.yaml")


def test_missing_certificate(box, lab):
    text = GOOD.replace("listen:", users(lab) + "listen:")
    path = write(box, text + f"tls:\n  certificates:\n    - chain: {box}/none.pem\n"
                             f"      key: {box}/none.key\n")
    p = postrider("--config", path, "serve")
    assert p.returncode in (74, 78) and f"{box}/none.pem" in one_line(p)


def users(lab):
    """Role users as the lab has them, so that the tests need no accounts of the system."""
    if os.geteuid() != 0:
        return ""
    with open(lab.alpha.config) as f:
        return "".join(re.findall(r"  user:\n(?:    \w+: \d+\n)+", f.read()))


# ------------------------------------------------------------------ start

def test_second_server_on_the_same_data(lab, alpha):
    with open(alpha.config) as f:
        text = re.sub(r"(?m)^(  \w+): \[\"127.*\]$", r"\1: []", f.read())
    path = os.path.join(alpha.dir, "second.yaml")
    with open(path, "w") as f:
        f.write(text)
    p = postrider("--config", path, "serve")
    assert p.returncode == 75
    assert one_line(p).endswith(f"another postrider serves {alpha.dir}/data")
    alpha.ask("status")


def test_port_in_use(box, lab, alpha):
    text = GOOD.replace("smtp: []", f'smtp: ["127.0.0.1:{alpha.smtp}"]', 1)
    text = text.replace("listen:", users(lab) + "listen:")
    p = postrider("--config", write(box, text), "serve")
    assert p.returncode in (71, 75) and f"127.0.0.1:{alpha.smtp}" in one_line(p)


class Server:
    """`postrider serve` over a configuration that the lab has written."""

    def __init__(self, config):
        ready, its = os.pipe()
        env = dict(os.environ, POSTRIDER_READY_FD=str(its))
        self.process = subprocess.Popen([POSTRIDER, "--config", config, "serve"], env=env,
                                        pass_fds=[its], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        os.close(its)
        self.ready = os.read(ready, 1) == b"1"
        os.close(ready)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def stopped():
    """What a lab leaves behind when it has ended; its DNS is gone."""
    lab = Lab(dir=temp_dir("postrider-stopped-"))
    lab.start()
    lab.stop()
    yield lab
    shutil.rmtree(lab.dir)


def test_database_of_a_newer_release(stopped):
    path = os.path.join(stopped.alpha.dir, "data", "directory.db")
    db = sqlite3.connect(path)
    db.execute("UPDATE db_meta SET version = 1000, oldest_writer = 1000")
    db.commit()
    db.close()
    before = open(path, "rb").read()
    s = Server(stopped.alpha.config)
    assert not s.ready
    _, err = s.process.communicate(timeout=60)
    assert s.process.returncode >= 64
    told = [line for line in err.splitlines() if line.startswith("postrider: ")]
    assert len(told) == 1 and "directory.db: has version 1000" in told[0], err
    assert "alarm" not in err
    assert open(path, "rb").read() == before, "it was touched"


# ------------------------------------------------------------------ reload

def idle(host, address):
    c = host.imap_raw(address)
    c.ok("SELECT INBOX")
    c.send(b"i IDLE\r\n")
    assert c.response().startswith(b"+")
    return c


def served_certificate(host, port, ca):
    context = ssl.create_default_context(cafile=ca)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
        with context.wrap_socket(s, server_hostname="localhost") as t:
            return t.getpeercert(True)


def make_certificate(box, days=30):
    """Another CA and certificate, made by the openssl program."""
    for argv in (
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-keyout", f"{box}/ca.key", "-out", f"{box}/ca.pem", "-subj", "/CN=another CA",
             "-days", days],
            ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-keyout", f"{box}/key.pem", "-out", f"{box}/csr.pem", "-subj", "/CN=localhost"]):
        assert run(["openssl", *argv]).returncode == 0
    with open(f"{box}/ext", "w") as f:
        f.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    p = run(["openssl", "x509", "-req", "-in", f"{box}/csr.pem", "-CA", f"{box}/ca.pem", "-CAkey",
             f"{box}/ca.key", "-CAcreateserial", "-days", days, "-extfile", f"{box}/ext", "-out",
             f"{box}/cert.pem"])
    assert p.returncode == 0, p.stderr


def test_reload_keeps_connections_and_takes_the_certificate(box):
    with Lab() as lab:
        alpha = lab.alpha
        waiting = [idle(alpha, "alice@alpha.test") for _ in range(5)]
        old = served_certificate(alpha, alpha.imaps, lab.ca)
        make_certificate(box)
        pids = alpha.roles()
        for name in ("cert.pem", "key.pem"):
            shutil.copyfile(f"{box}/{name}", f"{alpha.dir}/{name}")
        with open(alpha.config, "a") as f:
            f.write("submission:\n  from: owned\n")
        os.kill(alpha.pid, signal.SIGHUP)

        def renewed():
            try:
                return served_certificate(alpha, alpha.imaps, f"{box}/ca.pem")
            except ssl.SSLError:
                return None
        assert wait_for(renewed) != old
        for port in (alpha.submissions, alpha.pop3s):
            assert served_certificate(alpha, port, f"{box}/ca.pem")
        assert alpha.roles() == pids, "a reload restarts nobody"
        with alpha.smtp_in() as s:
            s.deliver("x@sink.test", "alice@alpha.test", message("x@sink.test", "alice@alpha.test"))
        for c in waiting:
            assert c.response() == b"* 1 EXISTS"
            c.send(b"DONE\r\n")
            assert c.until(b"i")[1].startswith(b"OK")
            c.close()

        # a bad file changes nothing
        with open(alpha.config, "a") as f:
            f.write("bogus: 1\n")
        refused = alpha.cli("reload")
        assert refused.returncode != 0
        assert "postrider.yaml:" in refused.stderr and "bogus" in refused.stderr, refused.stderr
        assert b"reload_refused" in alpha.log_text()
        assert served_certificate(alpha, alpha.imaps, f"{box}/ca.pem")


def test_many_reloads_under_traffic():
    with Lab() as lab:
        alpha = lab.alpha
        waiting = idle(alpha, "alice@alpha.test")
        stop = threading.Event()

        def reload():
            while not stop.is_set():
                os.kill(alpha.pid, signal.SIGHUP)
                time.sleep(0.02)
        t = threading.Thread(target=reload)
        t.start()
        try:
            with alpha.smtp_in() as s:
                for i in range(100):
                    s.deliver("x@sink.test", "alice@alpha.test", message("x@sink.test", "y", str(i)))
        finally:
            stop.set()
            t.join()
        got = alpha.messages("alice@alpha.test")
        assert [re.search(rb"Subject: (\d+)", m)[1] for m in got] == [b"%d" % i for i in range(100)]
        waiting.send(b"DONE\r\n")
        seen, final = waiting.until(b"i")
        assert final.startswith(b"OK") and b"* 100 EXISTS" in seen
        waiting.close()


# ------------------------------------------------------------------ the end

def test_sigterm_drains():
    """What is under way ends: an open transaction gets its answer, watchers hear BYE."""
    with Lab() as lab:
        alpha = lab.alpha
        watcher = idle(alpha, "alice@alpha.test")
        s = alpha.smtp_in()
        s.envelope("x@sink.test", "alice@alpha.test")
        s.want("354", "DATA")
        body = message("x@sink.test", "alice@alpha.test", "last")
        s.send(body[:50])
        os.kill(alpha.pid, signal.SIGTERM)
        got = watcher.rest()
        assert b"* BYE" in got, got
        with pytest.raises(OSError):
            wait_for(lambda: Smtp("127.0.0.1", alpha.smtp).close() is None and False, timeout=15)
        try:
            s.send(body[50:] + b".\r\n")
            answer = s.reply()
        except (AssertionError, OSError):
            answer = ""  # no answer: the client keeps the message, which is right too
        assert answer == "" or answer[:3] in ("250", "421"), answer
        lab.expect = 70  # it notices that a server has ended
        assert lab.process.wait(60) == lab.expect
        log = alpha.log_text()
        assert b"parent.stopped" in log and b"role_died" not in log
        kept = sqlite_messages(alpha)
        assert kept == (1 if answer.startswith("250") else 0)


def sqlite_messages(host):
    """Messages in all mailboxes of a stopped server."""
    n = 0
    for base, _, files in os.walk(os.path.join(host.dir, "data", "accounts")):
        if "mail.db" in files:
            db = sqlite3.connect(os.path.join(base, "mail.db"))
            n += db.execute("SELECT count(*) FROM message").fetchone()[0]
            db.close()
    return n


def test_stop_command(stopped):
    s = Server(stopped.alpha.config)
    assert s.ready
    p = postrider("--config", stopped.alpha.config, "stop")
    assert p.returncode == 0, p.stderr
    s.process.communicate(timeout=60)
    assert s.process.returncode == 0
    p = postrider("--config", stopped.alpha.config, "status")
    assert p.returncode == 69 and "is it running?" in one_line(p)


# ------------------------------------------------------------------ full disk

def mounted(lab, size):
    data = os.path.join(lab.dir, "alpha", "data")
    os.makedirs(data)
    os.chmod(os.path.join(lab.dir, "alpha"), 0o711)
    p = run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", data])
    if p.returncode:
        pytest.skip(f"cannot mount a small file system: {p.stderr}")
    return data


def test_full_disk():
    """452 4.3.1 while the disk is full; everything that got 250 is there; then on without restart."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    data = []
    lab = Lab(prepare=lambda lab: data.append(mounted(lab, "24m")))
    try:
        with lab:
            alpha = lab.alpha
            filler = os.path.join(data[0], "filler")
            with open(filler, "wb") as f:
                try:
                    while True:
                        f.write(b"\0" * 65536)
                        f.flush()
                except OSError:
                    pass
            taken, refused = [], 0
            for i in range(60):
                m = message("x@sink.test", "alice@alpha.test", f"n{i}", "z" * 70 + "\r\n")
                m += b"0123456789abcdef" * 50 + b"\r\n" if i % 2 else \
                    (b"0123456789abcdef" * 60 + b"\r\n") * 300
                with alpha.smtp_in() as s:
                    got = s.cmd("MAIL FROM:<x@sink.test>")
                    if got.startswith("250"):
                        got = s.cmd("RCPT TO:<alice@alpha.test>")
                    if got.startswith("250"):
                        got = s.body(m)
                if got.startswith("250"):
                    taken.append(m)
                else:
                    assert got.startswith("452 4.3.1"), got
                    refused += 1
            assert refused, "the disk was never full"
            os.unlink(filler)
            with alpha.smtp_in() as s:
                last = message("x@sink.test", "alice@alpha.test", "after")
                s.deliver("x@sink.test", "alice@alpha.test", last)
            got = alpha.messages("alice@alpha.test")
            assert len(got) == len(taken) + 1
            for m, g in zip(taken + [last], got):
                assert g.endswith(m)
            assert set(alpha.roles()) == {"front", "core", "out", "keys"}
    finally:
        for path in data:
            run(["umount", "-l", path])
