"""Ways in which SMTP servers have broken, tried on this one: injection, desynchronised chunks, hostile
answers, floods (smuggling: test_smuggling.py).  The judge is always what arrives, byte by byte."""

import base64
import os
import re
import select
import socket
import ssl
import threading
import time

import pytest

from lab import Raw, Smtp, message, run, unstuff, wait_for

X = "x@sink.test"


def alive(host):
    """A new client is served, and no process was lost."""
    with host.smtp_in() as s:
        s.want("250", "NOOP")
    assert set(host.roles()) == {"front", "core", "out", "keys"}


# ------------------------------------------------------------------ commands

@pytest.mark.parametrize("bad", [b"\n", b"\r", b"\0", b"\r\0", b"\0\n"])
@pytest.mark.parametrize("line", [b"EHLO a%sb", b"MAIL FROM:<a%sb@sink.test>", b"NOOP a%sb",
                                  b"MAIL FROM:<a@sink.test>%sRCPT TO:<alice@alpha.test>",
                                  b"RCPT TO:<alice%s@alpha.test>", b"%sNOOP"])
def test_bare_bytes_in_commands(alpha, line, bad):
    with alpha.smtp_in() as s:
        if line.startswith(b"RCPT"):
            s.want("250", f"MAIL FROM:<{X}>")
        got = s.cmd(line % bad)
        assert got.startswith("500 5.5.2"), got
        s.want("250", "NOOP")


# ------------------------------------------------------------------ bytes as they are

def bodies():
    yield "dots", b".\r\n..\r\n...\r\n.a\r\n"
    yield "only a dot", b"."
    yield "empty", b""
    yield "no header end", b"Subject: x\r\n"
    for n in (511, 512, 997, 998, 999, 1000, 2047, 2048, 4096, 16383, 16384, 16385, 65536, 100000):
        yield f"line of {n}", b"Subject: x\r\n\r\n" + b"y" * n + b"\r\n.\r\n"
    for n in range(16380, 16390):  # the dot at the edge of front's pieces
        yield f"dot at {n}", b"Subject: x\r\n\r\n" + b"z" * n + b"\r\n.q\r\n.\r\n"
    yield "8 bits", b"Subject: x\r\n\r\n" + bytes(b for b in range(1, 256) if b not in b"\r\n") + b"\r\n"
    yield "trailing white", b"Subject: x\r\n\r\na \t \r\n \r\n\r\n\r\n"
    yield "long header", b"X: " + b"h" * 5000 + b"\r\n\r\nx\r\n"
    yield "large", b"Subject: x\r\n\r\n" + os.urandom(300000).hex().encode() + b"\r\n"
    yield "many lines", b"Subject: x\r\n\r\n" + b".\r\n" * 100000


@pytest.fixture(scope="module")
def round_trip(alpha, beta):
    """Every body goes from submission to the other host; pieces arrive as the network likes."""
    to, password = beta.account()
    sent = {}
    with alpha.submit("alice@alpha.test") as s:
        for i, (name, body) in enumerate(bodies()):
            if body and not body.endswith(b"\r\n"):
                body += b"\r\n"
            if i % 2:
                s.deliver("alice@alpha.test", to, body)
            else:  # by BDAT: no stuffing
                s.envelope("alice@alpha.test", to)
                half = len(body) // 2
                s.send(b"BDAT %d\r\n%bBDAT %d LAST\r\n%b" %
                       (half, body[:half], len(body) - half, body[half:]))
                assert s.reply().startswith("250") and s.reply().startswith("250")
            sent[name] = body
    return sent, to, beta.wait_messages(to, len(sent), timeout=60)


@pytest.mark.parametrize("name", [n for n, _ in bodies()])
def test_bytes_arrive_as_sent(round_trip, name):
    sent, to, got = round_trip
    assert len(got) == len(sent)
    body = sent[name]
    assert len([g for g in got if g.endswith(body)]) >= 1


def test_bytes_come_back_over_pop3(beta, round_trip):
    sent, to, got = round_trip
    c = beta.poplib(to)
    assert [b"\r\n".join(c.retr(i)[1]) + b"\r\n" for i in range(1, len(got) + 1)] == got
    c.quit()


def test_data_in_single_bytes(alpha):
    to, _ = alpha.account()
    sent = message(X, to, "slow", ".\r\n..\r\nlast\r\n")
    with alpha.smtp_in() as s:
        s.envelope(X, to)
        s.want("354", "DATA")
        for c in sent.replace(b"\r\n.", b"\r\n..") + b".\r\n":
            s.send(bytes([c]))
        assert s.reply().startswith("250")
    assert alpha.messages(to)[0].endswith(sent)


# ------------------------------------------------------------------ STARTTLS

def test_nothing_is_carried_through_starttls(lab, alpha, beta):
    """Commands in the same packet as STARTTLS were said by nobody knows whom."""
    with Smtp("127.0.0.1", alpha.smtp) as s:
        s.want("250", "MAIL FROM:<early@sink.test>")
        s.want("250", "RSET")
        s.send(b"STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@sink.test>\r\n")
        assert s.reply().startswith("220")
        assert s.data == b"", "an answer to what came in clear"
        try:
            s.start_tls(lab.tls)
        except (ssl.SSLError, OSError):
            return  # closing is as good
        assert s.cmd("RCPT TO:<alice@alpha.test>").startswith("503")
        assert s.cmd("MAIL FROM:<a@sink.test>").startswith("503"), "EHLO must be forgotten"
        assert "STARTTLS" not in s.want("250", "EHLO again")
        s.want("250", "NOOP")


def test_state_before_starttls_is_forgotten(lab, alpha):
    with alpha.smtp_in() as s:
        s.want("250", "MAIL FROM:<early@sink.test>")
        got = s.cmd("STARTTLS")
        if got.startswith("503"):
            s.want("250", "RSET")
            s.want("220", "STARTTLS")
        s.start_tls(lab.tls)
        s.want("250", "EHLO client.test")
        assert s.cmd("RCPT TO:<alice@alpha.test>").startswith("503")
        assert s.cmd("STARTTLS")[:3] in ("503", "502")


@pytest.mark.parametrize("port, start, greeting, probe, answer", [
    ("imap", b"a STARTTLS\r\n", b"* OK", b"c NOOP\r\n", b"c OK"),
    ("pop3", b"STLS\r\n", b"+OK", b"NOOP\r\n", b"-ERR"),
])
def test_injection_into_imap_and_pop3(lab, alpha, port, start, greeting, probe, answer):
    with Raw("127.0.0.1", getattr(alpha, port)) as c:
        assert c.line().startswith(greeting)
        c.send(start + b"b CAPABILITY\r\nCAPA\r\n")
        assert b"OK" in c.line()
        assert c.data == b""
        try:
            c.start_tls(lab.tls)
        except (ssl.SSLError, OSError):
            return
        c.send(probe)
        got = c.line()
        assert got.startswith(answer), f"{got!r} is the answer to what came in clear"


# ------------------------------------------------------------------ BDAT

def test_a_chunk_beyond_the_limit(alpha):
    """Its bytes are taken off the wire, which keeps the two in step, but not kept."""
    size = 51 << 20
    before = alpha.rss("core")
    with alpha.smtp_in() as s:
        s.envelope(X, "alice@alpha.test")
        s.send(b"BDAT %d LAST\r\n" % size)
        for _ in range(51):
            s.send(b"NOOP\r\n.." * (1 << 17))
        assert s.reply().startswith("552 5.3.4")
        s.want("250", "NOOP")
    assert alpha.rss("core") - before < 16 << 20


def test_bdat_and_the_end_of_tls(lab, alpha):
    """close_notify in the middle of a chunk, then bytes in clear (as in CVE-2026-45185)."""
    to, _ = alpha.account()
    for last in (b"x", b"BDAT 1 LAST\r\nx", b"\n", b"\0"):
        with alpha.smtp_in() as s:
            s.starttls(lab.tls)
            s.envelope(X, to)
            s.send(b"BDAT 100\r\nabc")
            s.sock.settimeout(5)
            fd = socket.socket(fileno=os.dup(s.sock.fileno()))
            try:
                s.sock.unwrap()
            except (ssl.SSLError, OSError):
                pass
            try:
                fd.sendall(last)
            except OSError:
                pass
            fd.close()
    alive(alpha)
    assert alpha.messages(to) == []


def test_connection_lost_in_the_middle(alpha):
    to, _ = alpha.account()
    for part in (b"DATA\r\nSubject: x\r\n\r\nhalf", b"BDAT 100\r\nhalf",
                 b"DATA\r\nSubject: x\r\n\r\nhalf\r\n.\r"):
        with alpha.smtp_in() as s:
            s.envelope(X, to)
            s.send(part)
    time.sleep(0.3)
    alive(alpha)
    assert alpha.messages(to) == []


# ------------------------------------------------------------------ AUTH, shell characters

GARBAGE = [b"", b"=", b"*", b"====", b"AA", b"A===", b"\xff\xfe", b"AAAA", b"AAAAAAAA", b"AGEA",
           base64.b64encode(b"\0" * 1000), base64.b64encode(b"\0a\0b\0c"),
           base64.b64encode(b"\0alice@alpha.test\0\0"), base64.b64encode(b"\xff\0\xff\0\xff"),
           base64.b64encode(b"other\0alice@alpha.test\0x"), b"A" * 5000, b"n,,n=a,r=b",
           base64.b64encode(b"n,,n=alice@alpha.test,r=" + b"x" * 2000),
           base64.b64encode(b"p=tls-unique,,n=a,r=b"), base64.b64encode(b"y,a=b,n=a,r=b,m=x"),
           base64.b64encode(b"n,,n=a\0b,r=c"), base64.b64encode(b"\0' OR 1=1 --\0x"),
           base64.b64encode(b"\0*)(uid=*\0x"), base64.b64encode(b"\0%s%n\0%s%n")]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256", "CRAM-MD5", "X", ""])
def test_auth_garbage(lab, alpha, mechanism):
    """Only this connection fails; somebody else logs in meanwhile."""
    for g in GARBAGE:
        with Smtp("127.0.0.1", alpha.submissions, tls=lab.tls) as s:
            got = s.cmd(b"AUTH %s %s" % (mechanism.encode(), g))
            for answer in (g, g, b"*"):
                if not got.startswith("334"):
                    break
                got = s.cmd(answer)
            assert got[:3] in ("501", "504", "535", "500", "421"), (g, got)
            if not got.startswith("421"):
                s.want("250", "NOOP")
                assert s.cmd("MAIL FROM:<alice@alpha.test>").startswith("530")
    alpha.submit("alice@alpha.test").close()


def test_guessing_is_cut_off(lab, alpha):
    with Smtp("127.0.0.1", alpha.submissions, tls=lab.tls) as s:
        bad = base64.b64encode(b"\0alice@alpha.test\0wrong").decode()
        for _ in range(20):
            got = s.cmd("AUTH PLAIN " + bad)
            if not got.startswith("535"):
                break
            if s.data.startswith(b"421"):
                got = s.reply()
                break
        assert got.startswith("421")


def test_sender_with_shell_in_it_is_only_text(lab, alpha):
    to, _ = alpha.account()
    for i, local in enumerate([";touch", "|id", "`id`", "$(id)", "${run{id}}", "-oQ/tmp"]):
        sender = f'"{local}"@sink.test' if set(local) & set(";|`$(){}") else f"{local}@sink.test"
        with alpha.smtp_in() as s:
            got = s.cmd(f"MAIL FROM:<{sender}>")
            assert got.startswith("250"), got
            s.want("250", f"RCPT TO:<{to}>")
            assert s.body(message(X, to, str(i))).startswith("250")
    assert len(alpha.messages(to)) == 6


def test_vrfy_and_expn_tell_nothing(alpha):
    with alpha.smtp_in() as s:
        assert s.cmd("VRFY alice").startswith("252")
        assert s.cmd("VRFY alice") == s.cmd("VRFY nobody-here")
        assert s.cmd("EXPN postmaster")[:3] in ("252", "502", "550")


def test_harvest_is_cut_off(alpha):
    with alpha.smtp_in() as s:
        s.want("250", f"MAIL FROM:<{X}>")
        for i in range(10000):
            got = s.cmd(f"RCPT TO:<guess{i}@alpha.test>")
            if s.data.startswith(b"421"):
                got = s.reply()
            if got.startswith("421"):
                break
            assert got.startswith("550 5.1.1")
        assert got.startswith("421") and i < 1000


# ------------------------------------------------------------------ logs

def test_log_injection(alpha):
    """A peer's escape sequences, newlines and quotes arrive in the log as harmless text."""
    evil = "\x1b[31m\x9b\x08\"\\ event=made-up level=alarm"
    with alpha.smtp_in(ehlo=None) as s:
        s.cmd(f"EHLO {evil}".encode("latin-1"))
        s.cmd("EHLO [127.0.0.1]")
        s.cmd('MAIL FROM:<"\x1b[2J\\" event=made-up"@sink.test>'.encode())
        s.cmd('RCPT TO:<"no\x1b[2J\x7f event=made-up"@alpha.test>'.encode())
        s.cmd('RCPT TO:<"no event=made-up"@alpha.test>')
        s.cmd(b"DATA")
    with alpha.imap_raw() as c:
        c.cmd(b'LOGIN "a\x1b[31m event=made-up level=alarm" "x"')
    time.sleep(0.2)
    log = alpha.log_text()
    assert b"event=made-up" in log, "nothing was logged: this test tests nothing"
    assert all(32 <= c < 127 or c == 10 for c in log)
    for line in log.splitlines():
        if b"made-up" in line:  # quoted as a whole: no field of its own
            bare = re.sub(rb'"(\\.|[^"\\])*"', b"", line)
            assert b"made-up" not in bare, line


# ------------------------------------------------------------------ other protocols, floods

@pytest.mark.parametrize("port", ["smtp", "submission", "imap", "pop3", "submissions", "imaps",
                                  "pop3s"])
def test_http_is_sent_away(lab, alpha, port):
    """A browser that is made to post to a mail port reaches no command in its body."""
    tls = lab.tls if port.endswith("s") else None
    body = b"EHLO x\r\nMAIL FROM:<a@sink.test>\r\nRCPT TO:<alice@alpha.test>\r\nDATA\r\n"
    with Raw("127.0.0.1", getattr(alpha, port), tls=tls, timeout=10) as c:
        c.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        try:
            rest = c.rest()
        except socket.timeout:
            pytest.fail("the connection was left open")
        assert b"354" not in rest and rest.count(b"\n") <= 4, rest


@pytest.mark.parametrize("port", ["submissions", "imaps", "pop3s"])
def test_not_tls_at_all(alpha, port):
    for junk in (b"EHLO x\r\n" * 10, b"\x16\x03\x01\xff\xff" + os.urandom(2000), b"\0" * 100):
        with Raw("127.0.0.1", getattr(alpha, port), timeout=10) as c:
            c.send(junk)
            try:
                c.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it has hung up already
            assert len(c.rest()) < 100
    alive(alpha)


def test_endless_line(alpha):
    """A line that never ends is neither kept nor allowed to go on for ever."""
    before = alpha.rss("front")
    with alpha.smtp_in() as s:
        sent = 0
        try:
            while sent < 50 << 20:
                s.send(b"A" * 65536)
                sent += 65536
                if select.select([s.sock], [], [], 0)[0]:
                    break
        except OSError:
            pass
        assert alpha.rss("front") - before < 16 << 20
    alive(alpha)


def test_many_errors_end_the_session(alpha):
    with alpha.smtp_in() as s:
        for i in range(1000):
            got = s.cmd("BOGUS")
            if got.startswith("421"):
                break
        assert got.startswith("421")
        assert s.closed()


def test_slow_clients_cost_little(lab, alpha):
    """Hundreds of clients that say nothing, one byte, or half a handshake; others are served."""
    before = {r: alpha.rss(r) for r in ("front", "core")}
    socks = []
    try:
        for i in range(400):
            port = (alpha.smtp, alpha.submissions, alpha.imap, alpha.pop3)[i % 4]
            c = socket.create_connection(("127.0.0.1", port), timeout=10)
            c.sendall((b"E", b"\x16\x03\x01", b"a LOG", b"U")[i % 4])
            socks.append(c)
        start = time.monotonic()
        to, _ = alpha.account()
        with alpha.smtp_in() as s:
            s.deliver(X, to, message(X, to))
        assert alpha.messages(to)
        assert time.monotonic() - start < 10
        for r in before:
            assert alpha.rss(r) - before[r] < 400 * 64 * 1024, r
    finally:
        for c in socks:
            c.close()


def test_slow_reader(alpha):
    """Who asks much and reads nothing holds back only himself."""
    with alpha.smtp_in() as s:
        s.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sock.settimeout(1)
        before = alpha.rss("front")
        try:
            for _ in range(2000):
                s.send(b"NOOP\r\nHELP\r\n" * 200)
        except OSError:
            pass
        assert alpha.rss("front") - before < 16 << 20
        alive(alpha)


# ------------------------------------------------------------------ answers of hostile servers

def endless_lines(sink, sock, line):
    while True:
        sock.sendall(b"250-x\r\n" * 10000)


def huge_reply(sink, sock, line):
    for _ in range(1600):
        sock.sendall(b"250-" + b"x" * 65530)


def no_crlf(sink, sock, line):
    for _ in range(1600):
        sock.sendall(b"x" * 65536)


HOSTILE = {
    "endless greeting": {"greeting": endless_lines},
    "huge greeting": {"greeting": huge_reply},
    "no line end": {"greeting": no_crlf},
    "endless EHLO": {"EHLO": endless_lines},
    "huge MAIL": {"MAIL": huge_reply},
    "huge end": {".": huge_reply},
    "NUL": {"greeting": b"220 a\0b\r\n", "EHLO": b"250 x\0\r\n", "MAIL": b"250 \0\r\n",
            "RCPT": b"\0" * 100 + b"\r\n"},
    "code changes": {"EHLO": b"250-a\r\n550-b\r\n250 c\r\n", "HELO": b"250-a\r\n550 b\r\n"},
    "no code": {"greeting": b"hello\r\n"},
    "empty": {"greeting": b"\r\n\r\n"},
    "short": {"EHLO": b"25\r\n", "HELO": b"2\r\n"},
    "code 999": {"RCPT": b"999 what\r\n"},
    "code 000": {"RCPT": b"000 what\r\n"},
    "354 to RCPT": {"RCPT": b"354 go on\r\n"},
    "250 to DATA": {"DATA": b"250 no\r\n"},
    "bare LF": {"MAIL": b"250 a\n250 b\n", "RCPT": b"450 4.0.0 no\r\n"},
    "answers ahead": {"greeting": b"220 x\r\n250 x\r\n250 x\r\n250 x\r\n354 x\r\n250 x\r\n",
                      "EHLO": lambda *_: False},
    "hangs up": {"EHLO": lambda *_: False},
    "hangs up after the end": {".": lambda *_: False},
    "421": {"greeting": b"421 4.3.2 go away\r\n"},
    "binary": {"greeting": bytes(range(128, 256)) * 10 + b"\r\n"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_defer(alpha, place, name):
    """The message waits, memory stays flat, and nobody is told that it was delivered."""
    to = f"someone@{place.domain}"
    before = {r: alpha.rss(r) for r in ("out", "core")}
    with place.sink(HOSTILE[name]) as sink:
        address, _ = alpha.account()
        with alpha.submit(address) as s:
            trace = s.deliver(address, to, message(address, to))
        rows = wait_for(lambda: [r for q in alpha.queue(to=to) for r in q["recipients"]
                                 if r["attempts"] and not r["in_delivery"]], what=name)
        assert sink.connections >= 1
    assert rows[0]["status"].startswith("4."), rows
    assert "\0" not in rows[0]["reply"] and len(rows[0]["reply"]) < 4096
    assert all(r["event"] != "rcpt.delivered" for r in alpha.trace(trace))
    for r in before:
        assert alpha.rss(r) - before[r] < 24 << 20, f"{r} grew"
    assert alpha.messages(address) == []
    alpha.ask("queue drop", to=to)
    assert set(alpha.roles()) == {"front", "core", "out", "keys"}


@pytest.mark.parametrize("reply, status", [
    (b"550 5.7.2\r\n", "5.7.2"), (b"550 \r\n", "5."), (b"550\r\n", "5."),
    (b"550-5.1.1 first\r\n550 5.1.1 second\r\n", "5.1.1"),
    (b"550 4.1.1 contradicts itself\r\n", "5."),
    (b"554 5.999.999999999 odd\r\n", "5."), (b"550 " + b"y" * 3000 + b"\r\n", "5."),
    (b"550 \x1b[31m\xff\xfe red\r\n", "5."),
])
def test_odd_refusals_bounce_once(alpha, place, reply, status):
    to = f"someone@{place.domain}"
    with place.sink({"RCPT": reply}):
        address, _ = alpha.account()
        with alpha.submit(address) as s:
            s.deliver(address, to, message(address, to))
        got, = alpha.wait_messages(address)
    assert b"\r\nStatus: " + status.encode() in got
    assert b"\x1b" not in got and b"\0" not in got
    assert max(map(len, got.split(b"\r\n"))) <= 998
    assert alpha.queue(to=to) == []


def test_response_injection_into_our_starttls(alpha, place):
    """Answers that follow "220" in clear are dropped, not read as the server's TLS answers."""
    cert = os.path.join(alpha.dir, "cert.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, os.path.join(alpha.dir, "key.pem"))
    forged = b"220 go\r\n" + b"250 forged\r\n" * 3 + b"354 forged\r\n250 2.0.0 forged\r\n"
    to = f"someone@{place.domain}"
    with place.sink({"STARTTLS": forged}, tls=context) as sink:
        address, _ = alpha.account()
        sent = message(address, to)
        with alpha.submit(address) as s:
            trace = s.deliver(address, to, sent)
        wait_for(lambda: sink.mails or
                 [r for q in alpha.queue(to=to) for r in q["recipients"] if r["attempts"]])
        wait_for(lambda: not alpha.queue(to=to) or sink.mails == [])
    rows = alpha.trace(trace)
    assert all("forged" not in str(r.get("reply")) for r in rows)
    if sink.mails:
        assert unstuff(sink.mails[0][2]).endswith(sent)
    alpha.ask("queue drop", to=to)


def test_a_server_that_stays_silent_holds_nobody_up(alpha, beta, place):
    """One dead slow destination, and mail to others flows."""
    to, _ = beta.account()
    hold = threading.Event()
    with place.sink({"greeting": lambda *_: hold.wait(60) and False}) as sink:
        with alpha.submit("alice@alpha.test") as s:
            for i in range(30):
                s.deliver("alice@alpha.test", "x@" + place.domain, message(X, "x@sink.test"))
            wait_for(lambda: sink.connections)
            s.deliver("alice@alpha.test", to, message(X, to))
        assert beta.wait_messages(to, timeout=10)
        hold.set()
    alpha.ask("queue drop", domain=place.domain)


# ------------------------------------------------------------------ files

def test_modes_of_files(alpha):
    """Nothing durable can be read by others; ids are not to be guessed."""
    data = os.path.join(alpha.dir, "data")
    for base, dirs, files in os.walk(data):
        for name in dirs:
            assert os.stat(os.path.join(base, name)).st_mode & 0o077 == 0, name
        for name in files:
            if name != "submit.sock":  # sendmail(1), which every local user may call
                assert os.lstat(os.path.join(base, name)).st_mode & 0o077 == 0, name
    assert os.stat(data).st_mode & 0o066 == 0


def test_nobody_runs_a_shell():
    """No role may start a program: the seccomp filter has no execve."""
    p = run(["grep", "-rnE", r"\b(system|popen|execlp?|execvp)\(",
             os.path.join(os.path.dirname(__file__), "..", "..", "src")])
    assert p.stdout == ""
