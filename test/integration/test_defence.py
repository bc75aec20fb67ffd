"""The front defence, from several loopback addresses: who is limited, slowed down, banned or let through, and
that nobody else notices.  127.0.0.1 is trusted here, so that what a test does beside is never limited."""

import base64
import contextlib
import itertools
import os
import re
import shutil
import signal
import socket
import struct
import time

import pytest

from lab import AdminError, Imap, Lab, Raw, Smtp, message, run, wait_for

PROXY_NET = "127.77.0.0/16"
sizes = itertools.count(20_000_000)
hosts = itertools.count(1)


@pytest.fixture(scope="module")
def lab():
    with Lab() as it:
        with open(it.alpha.config) as f:
            it.original = f.read()
        yield it


def fresh():
    """An address in a network that nobody has used."""
    n = next(hosts)
    return f"127.{100 + n // 250}.{n % 250}.1"


def limits(alpha, listen="", **options):
    """The configuration with these limits, in force."""
    size = next(sizes)
    rows = {"trusted": "[127.0.0.1]", "tarpit": "0s", "connections_per_ip": 100000, "message": size, **options}
    text = alpha.lab.original.replace("limits:\n  connections_per_ip: 100000\n",
                                      "limits:\n" + "".join(f"  {k}: {v}\n" for k, v in rows.items()))
    text = text.replace("listen:\n", f"listen:\n  proxy_from: [{PROXY_NET}]\n")
    with open(alpha.config, "w") as f:
        f.write(text)
    p = alpha.cli("reload")
    assert p.returncode == 0, p.stderr

    def taken():
        with alpha.smtp_in() as s:
            return f"SIZE {size}" in s.features
    wait_for(taken, what="the new limits")


def connect(port, source, timeout=30):
    s = socket.socket()
    s.settimeout(timeout)
    s.bind((source, 0))
    s.connect(("127.0.0.1", port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def over(kind, port, source, tls=None, before=b""):
    """A session of KIND (Smtp, Imap, Raw) from SOURCE; BEFORE goes first."""
    c = kind.__new__(kind)
    c.sock, c.data, c.n = connect(port, source), b"", 0
    c.sock.sendall(before)
    if tls:
        c.start_tls(tls)
    return c


def smtp(alpha, source, before=b""):
    s = over(Smtp, alpha.smtp, source, before=before)
    s.greeting = s.reply()
    return s


def counter(alpha, name):
    return alpha.ask("status")[0]["counters"][name]


def served(alpha):
    """Somebody else is."""
    address, _ = alpha.account()
    with alpha.smtp_in() as s:
        s.deliver("x@sink.test", address, message("x@sink.test", address))


def imap_login(alpha, source, password, user="alice@alpha.test"):
    """What the server says to one login over TLS; None if it does not even greet."""
    c = over(Imap, alpha.imap, source)
    try:
        if not c.line().startswith(b"* OK"):
            return None
        c.ok("STARTTLS")
        c.start_tls(alpha.lab.tls)
        return c.cmd(f"LOGIN {user} {password}")[1]
    finally:
        c.close()


# ------------------------------------------------------------------ connections


def test_connection_rate(alpha):
    limits(alpha, connection_rate=5, net_factor=2)
    a = fresh()
    neighbour, third = a[:-1] + "2", a[:-1] + "3"
    before = counter(alpha, "refused_rate")
    first = smtp(alpha, a)
    assert first.greeting.startswith("220")
    for _ in range(4):
        smtp(alpha, a).close()
    assert smtp(alpha, a).greeting.startswith("421 4.7.0")
    # every protocol counts, and says it in its words
    assert over(Raw, alpha.imap, a).line().startswith(b"* BYE [UNAVAILABLE] Too many connections")
    assert over(Raw, alpha.pop3, a).line().startswith(b"-ERR [SYS/TEMP] Too many connections")
    assert over(Raw, alpha.submission, a).line().startswith(b"421 4.7.0")
    assert over(Raw, alpha.imaps, a).closed()
    # the network has its own limit
    for _ in range(5):
        assert smtp(alpha, neighbour).greeting.startswith("220")
    assert smtp(alpha, third).greeting.startswith("421 4.7.0")
    assert smtp(alpha, fresh()).greeting.startswith("220")
    first.want("250", "NOOP")  # who is inside stays
    wait_for(lambda: counter(alpha, "refused_rate") >= before + 6, what="the counter")
    assert f"front.refused proto=smtp peer={a} why=rate".encode() in alpha.log_text()
    served(alpha)


def test_connections_at_once(alpha):
    limits(alpha, connections_per_ip=3, net_factor=2)
    a = fresh()
    open_ones = [smtp(alpha, a) for _ in range(3)]
    assert smtp(alpha, a).greeting.startswith("421 4.7.0")
    open_ones.pop().close()
    wait_for(lambda: smtp(alpha, a).greeting.startswith("220"), what="the place that came free")
    # 127.0.0.1 is trusted
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(alpha.smtp_in())


def test_reload_changes_limits_for_new_sessions(alpha):
    limits(alpha, connection_rate=1)
    a = fresh()
    smtp(alpha, a)
    assert smtp(alpha, a).greeting.startswith("421")
    limits(alpha, connection_rate=0)
    assert all(smtp(alpha, a).greeting.startswith("220") for _ in range(5))


def test_total(alpha):
    """Nobody new comes in when all places are taken; those who are inside do not notice."""
    limits(alpha, connections=10)
    inside = [smtp(alpha, fresh()) for _ in range(9)]
    more = [smtp(alpha, fresh()) for _ in range(2)]
    assert more[1].greeting.startswith("421 4.3.2"), more[1].greeting
    for s in inside:
        s.want("250", "NOOP")
    for s in inside + more:
        s.close()


# ------------------------------------------------------------------ the greeting


def test_early_talker(alpha):
    limits(alpha, greet_delay="1s")
    a, before = fresh(), counter(alpha, "early_talkers")
    early = smtp(alpha, a, before=b"EHLO early.test\r\n")
    assert early.greeting.startswith("554 5.5.1"), early.greeting
    assert early.closed()
    patient = smtp(alpha, a)
    assert patient.greeting.startswith("220")
    patient.want("250", "EHLO patient.test")
    assert over(Raw, alpha.submission, a).line().startswith(b"220")
    wait_for(lambda: counter(alpha, "early_talkers") == before + 1, what="the counter")


def test_time_before_the_login(alpha):
    """Commands do not prolong it; who has logged in is not concerned."""
    limits(alpha, preauth="10s")
    inside = alpha.imap_raw("alice@alpha.test")
    c = over(Imap, alpha.imap, fresh())
    c.line()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        c.send(b"x NOOP\r\n")
        line = c.line()
        if line is None or line.startswith(b"* BYE"):
            break
        time.sleep(0.5)
    assert line is None or b"Idle for too long" in line
    inside.ok("NOOP")


# ------------------------------------------------------------------ logins and bans


def test_same_wrong_password_is_no_attack(alpha):
    limits(alpha, auth_failures=3)
    a = fresh()
    for _ in range(8):
        assert imap_login(alpha, a, "old-password").startswith(b"NO [AUTHENTICATIONFAILED]")
    assert imap_login(alpha, a, alpha.password("alice@alpha.test")).startswith(b"OK")


def test_ban(alpha, lab):
    limits(alpha, auth_failures=3, ban="1h")
    a = fresh()
    inside = over(Imap, alpha.imap, a)  # not logged in when the ban comes
    inside.line()
    inside.ok("STARTTLS")
    inside.start_tls(lab.tls)
    for n in range(3):
        assert imap_login(alpha, a, f"guess-{n}").startswith(b"NO")
    assert imap_login(alpha, a, "guess-last").startswith(b"NO")
    wait_for(lambda: imap_login(alpha, a, "x") is None, what="the ban")
    good = alpha.password("alice@alpha.test")
    assert not inside.cmd(f"LOGIN alice@alpha.test {good}")[1].startswith(b"OK")
    # its protocol, its address
    assert over(Raw, alpha.pop3, a).line().startswith(b"+OK")
    assert smtp(alpha, a).greeting.startswith("220")
    assert imap_login(alpha, a[:-1] + "9", good).startswith(b"OK")
    row = [r for r in alpha.cli_json("ban", "list") if r["network"] == a][0]
    assert row["protocols"] == ["imap"] and not row["by_hand"] and "wrong passwords" in row["reason"]
    assert a in alpha.cli("ban", "list").stdout
    # each process may die
    lab.may_die = True
    for role in "front", "core":
        old = alpha.roles()[role]
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: alpha.roles().get(role, old) != old, what=f"another {role}")

        def greeted():
            try:
                return smtp(alpha, fresh()).greeting.startswith("220")
            except (OSError, AssertionError, AttributeError):
                return False
        wait_for(greeted, what=f"the new {role}")
        wait_for(lambda: imap_login(alpha, a, "x") is None, what="the ban after it")
    p = alpha.cli("ban", "rm", a, "--protocol", "imap")
    assert p.returncode == 0 and p.stdout == f"{a}: may come again\n", p
    wait_for(lambda: (imap_login(alpha, a, good) or b"").startswith(b"OK"), what="to be let in again")


@pytest.mark.parametrize("proto", ["smtp", "pop3"])
def test_ban_by_other_protocols(alpha, lab, proto):
    limits(alpha, auth_failures=2)
    a = fresh()

    def attempt(n):
        if proto == "pop3":
            c = over(Raw, alpha.pop3s, a, lab.tls)
            c.line()
            c.send(b"USER alice@alpha.test\r\n")
            c.line()
            c.send(b"PASS wrong-%d\r\n" % n)
            return c.line()
        c = over(Smtp, alpha.submissions, a, lab.tls)
        c.reply()
        c.want("250", "EHLO x.test")
        plain = base64.b64encode(b"\0alice@alpha.test\0wrong-%d" % n).decode()
        return c.cmd("AUTH PLAIN " + plain).encode()
    for n in range(3):
        got = attempt(n)
        assert got.startswith((b"535 5.7.8", b"-ERR [AUTH]")), got
    port, refusal = (alpha.pop3, b"-ERR [SYS/TEMP]") if proto == "pop3" else (alpha.submission, b"421 4.7.0")
    wait_for(lambda: over(Raw, port, a).line().startswith(refusal), what="the ban")


def test_ban_by_hand(alpha):
    limits(alpha)
    a = fresh()
    net = a[:-1] + "0/24"
    p = alpha.cli("ban", "add", net, "--protocol", "smtp", "--for", "1h", "--reason", "they\x1b know why")
    assert p.returncode == 0, p.stderr
    wait_for(lambda: smtp(alpha, a).greeting.startswith("421 4.7.0"), what="the ban")
    assert over(Raw, alpha.submission, a).line().startswith(b"220")
    assert "\x1b" not in alpha.cli("ban", "list").stdout
    assert alpha.ask("ban add", network=net) == [{"network": net}]  # now for all, and for ever
    row = [r for r in alpha.cli_json("ban", "list") if r["network"] == net]
    assert len(row) == 1 and row[0]["until"] is None and len(row[0]["protocols"]) >= 4
    assert alpha.cli("ban", "rm", net).returncode == 0
    wait_for(lambda: smtp(alpha, a).greeting.startswith("220"), what="the end of the ban")
    with pytest.raises(AdminError, match="no such ban"):
        alpha.ask("ban rm", network=net)
    for wrong in {"network": "mx.test"}, {"network": net, "protocol": "http"}, {"network": net, "for": "soon"}:
        with pytest.raises(AdminError, match="expected"):
            alpha.ask("ban add", **wrong)
    alpha.ask("ban add", network=a, **{"for": "2s"})
    wait_for(lambda: smtp(alpha, a).greeting.startswith("220"), what="the ban to end by itself")


# ------------------------------------------------------------------ mail


def envelope(alpha, source):
    s = smtp(alpha, source)
    s.want("250", "EHLO x.test")
    s.want("250", "MAIL FROM:<x@sink.test>")
    return s


def test_harvest(alpha):
    limits(alpha, unknown_recipients=4)
    a = fresh()
    s = envelope(alpha, a)
    for n in range(4):
        s.want("550 5.1.1", f"RCPT TO:<nobody{n}@alpha.test>")
    s.want("250", "RCPT TO:<alice@alpha.test>")
    s.want("550 5.1.1", "RCPT TO:<nobody4@alpha.test>")
    assert s.reply().startswith("421 4.7.0") and s.closed()
    s = envelope(alpha, a)  # a new session has no new names to try, and honest mail still comes through
    s.want("250", "RCPT TO:<alice@alpha.test>")
    s.want("550", "RCPT TO:<nobody5@alpha.test>")
    assert s.reply().startswith("421 4.7.0")
    served(alpha)


def test_tarpit(alpha):
    """Answers wait longer with each error, and nobody else does; in the end they all come."""
    limits(alpha, tarpit="1s")
    s = smtp(alpha, fresh())
    s.want("250", "EHLO x.test")
    s.send(b"NONSENSE\r\n" * 6)
    for _ in range(10):
        served(alpha)
    assert all(s.reply().startswith("500") for _ in range(6))
    s.want("250", "NOOP")


def test_messages_and_recipients(alpha):
    limits(alpha, message_rate=2)
    a = fresh()
    for _ in range(2):
        envelope(alpha, a).want("250", "RCPT TO:<alice@alpha.test>")
    envelope(alpha, a).want("450 4.7.1", "RCPT TO:<alice@alpha.test>")
    limits(alpha, recipient_rate=2)
    s = envelope(alpha, fresh())
    for rcpt in "alice", "bob":
        s.want("250", f"RCPT TO:<{rcpt}@alpha.test>")
    s.want("450 4.7.1", "RCPT TO:<carol@alpha.test>")
    served(alpha)


# ------------------------------------------------------------------ PROXY

SIG = b"\r\n\r\n\0\r\nQUIT\n"


def v1(source):
    return f"PROXY TCP4 {source} 192.0.2.25 4711 25\r\n".encode()


def v2(source, tlv=b""):
    block = socket.inet_aton(source) + socket.inet_aton("192.0.2.25") + struct.pack("!HH", 4711, 25) + tlv
    return SIG + b"\x21\x11" + struct.pack("!H", len(block)) + block


V6 = SIG + b"\x21\x21\x00\x24" + socket.inet_pton(socket.AF_INET6, "2001:db8::77") + b"\0" * 16 + b"\x12\x34\0\x19"
BALANCER = "127.77.3.4"


@pytest.mark.parametrize("header, client", [
    (v1("127.55.0.1"), "127.55.0.1"), (v2("127.55.0.2"), "127.55.0.2"), (v2("127.55.0.3", b"\x03\0\x04abcd"), "127.55.0.3"),
    (V6, "2001:db8::77"), (b"PROXY UNKNOWN\r\n", BALANCER), (SIG + b"\x20\0\0\0", BALANCER)])
@pytest.mark.parametrize("pieces", [False, True])
def test_proxy(alpha, header, client, pieces):
    limits(alpha)
    address, _ = alpha.account()
    s = over(Smtp, alpha.smtp, BALANCER, before=b"" if pieces else header)
    for n in range(len(header) if pieces else 0):
        s.send(header[n:n + 1])
    assert s.reply().startswith("220")
    s.want("250", "EHLO client.test")
    accepted = s.deliver("x@sink.test", address, message("x@sink.test", address))
    literal = f"[IPv6:{client}]" if ":" in client else f"[{client}]"
    assert literal.encode() in alpha.wait_messages(address)[0].split(b"\r\n\r\n")[0]
    assert any(r.get("peer") == client for r in alpha.trace(accepted))


def test_proxy_before_tls(alpha, lab):
    limits(alpha)
    good = alpha.password("alice@alpha.test")
    c = over(Imap, alpha.imaps, BALANCER, lab.tls, before=v2("192.0.2.44"))
    assert c.line().startswith(b"* OK")
    c.ok(f"LOGIN alice@alpha.test {good}")
    assert b"imap.login user=alice@alpha.test peer=192.0.2.44" in alpha.log_text()
    c = over(Raw, alpha.pop3s, BALANCER, lab.tls, before=v1("192.0.2.44"))
    assert c.line().startswith(b"+OK")


@pytest.mark.parametrize("start", [b"EHLO x.test\r\n", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\n", b"PROXY TCP4 x y 1 2\r\n",
                                   SIG + b"\x21\x12\0\x0c" + b"\0" * 12, SIG + b"\x21\x11\xff\xff"])
def test_proxy_must_be_right(alpha, start):
    limits(alpha)
    before = counter(alpha, "proxy_errors")
    c = over(Raw, alpha.smtp, BALANCER, before=start)
    assert c.rest() == b""
    wait_for(lambda: counter(alpha, "proxy_errors") > before, what="the counter")


@pytest.mark.parametrize("header", [v1("192.0.2.1"), v2("192.0.2.1")])
def test_proxy_of_strangers(alpha, header):
    limits(alpha)
    s = smtp(alpha, fresh())
    s.send(header + b"EHLO x.test\r\n")
    assert s.reply().startswith("554 5.5.1") and s.closed()


def test_limits_behind_a_balancer(alpha):
    """They are the client's, not the balancer's."""
    limits(alpha, connection_rate=2)
    for _ in range(2):
        assert smtp(alpha, BALANCER, before=v1("198.51.100.1")).greeting.startswith("220")
    assert smtp(alpha, BALANCER, before=v1("198.51.100.1")).greeting.startswith("421 4.7.0")
    assert smtp(alpha, BALANCER, before=v1("198.51.101.1")).greeting.startswith("220")
    alpha.ask("ban add", network="198.51.102.0/24")
    wait_for(lambda: smtp(alpha, BALANCER, before=v1("198.51.102.1")).greeting.startswith("421 4.7.0"), what="the ban")
    alpha.ask("ban rm", network="198.51.102.0/24")


# ------------------------------------------------------------------ memory, crowds, relaying


def test_memory_of_all_sessions(alpha):
    """Many who do not read what they asked for: those who hold most go, everybody else stays."""
    limits(alpha, memory="16M")
    address, password = alpha.account()
    c = alpha.imap_raw(address)
    assert c.append("INBOX", b"Subject: big\r\n\r\n" + (b"y" * 76 + b"\r\n") * 12000).startswith(b"OK")
    honest, before = alpha.imap_raw(address), counter(alpha, "memory_closed")
    hogs = []
    for _ in range(40):
        try:
            h = over(Imap, alpha.imaps, "127.0.0.1", alpha.lab.tls)
            h.line()
            h.ok(f"LOGIN {address} {password}")
            h.ok("SELECT INBOX")
            h.send(b"".join(b"f%d FETCH 1 BODY.PEEK[]\r\n" % n for n in range(12)))
            hogs.append(h)
        except (AssertionError, OSError):
            pass  # it came when memory was short
    wait_for(lambda: counter(alpha, "memory_closed") > before, what="the largest to go")
    honest.ok("NOOP")
    for h in hogs:
        h.close()
    served(alpha)


def test_many_that_trickle(alpha):
    """A thousand senders that say a byte now and then cost others nothing that could be seen."""
    limits(alpha)
    before = alpha.rss("front")
    crowd = [connect(alpha.smtp, f"127.201.{n // 100}.1") for n in range(1000)]
    try:
        for s in crowd:
            assert s.recv(1000).startswith(b"220")
        for byte in b"EHLO":
            for s in crowd:
                s.sendall(bytes([byte]))
            served(alpha)
        assert (alpha.rss("front") - before) / len(crowd) < 32 << 10
    finally:
        for s in crowd:
            s.close()


def test_no_open_relay(alpha):
    """nmap's matrix of envelopes and addresses."""
    limits(alpha)
    assert shutil.which("nmap"), "nmap is missing (make deps)"
    p = run(["nmap", "-Pn", "-n", "-p", alpha.smtp, "--script", "+smtp-open-relay", "--script-args",
             "smtp-open-relay.domain=outside.example,smtp-open-relay.to=victim,smtp-open-relay.from=probe",
             "127.0.0.1"], timeout=120)
    assert re.search(r"doesn't seem to be an open relay, all tests failed", p.stdout), p.stdout
