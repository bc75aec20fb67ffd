"""Chains of filters: their policies, HTTP hooks, and real ones: clamd, rspamd, opendkim."""

import base64
import email
import os
import re
import shutil
import ssl
import subprocess
import time

import pytest

from filters import (CONTINUE, STRANGER, Chain, Daemon, Hook, Milter, add, deliver, frame, free_port,
                     rcpt_reply, scratch, verdicts)
from lab import message, run, wait_for

ALICE = "alice@alpha.test"


@pytest.fixture(scope="module")
def alpha(lab):
    return lab.alpha


def milter(m, **more):
    return {"kind": "milter", "address": m.address, **more}


def test_submission_facts(alpha):
    """TLS and login are told, and the fields that a client left out are there to be signed."""
    to, _ = alpha.account()
    bare = f"From: <{ALICE}>\r\nSubject: x\r\n\r\nhi\r\n".encode()
    with Milter() as m, Chain(alpha, milter(m, **{"for": "submission"})):
        with alpha.submit(ALICE) as s:
            s.deliver(ALICE, to, bare)
        assert m.macros["M"]["auth_authen"] == ALICE and m.macros["M"]["auth_type"] == "PLAIN"
        assert m.macros["H"]["tls_version"] == "TLSv1.3" and m.macros["H"]["cipher"].startswith("TLS_")
        assert {"Date", "Message-ID"} <= {n for n, _ in m.headers()}
        deliver(alpha, to, message(STRANGER, to))  # not for this one
        assert m.connections == 1
    first, second = alpha.wait_messages(to, 2)
    assert first.count(b"\r\nMessage-ID:") == 1 and first.count(b"\r\nDate:") == 1


def test_stage_message_asks_once(alpha):
    a, b = alpha.account()[0], alpha.account()[0]
    with Milter() as m, Chain(alpha, milter(m, stages="message")):
        with alpha.smtp_in() as s:
            s.envelope(STRANGER, a, b)
            assert m.connections == 0
            assert s.body(message(STRANGER, a)).startswith("250")
        assert m.events().count("R") == 2 and m.connections == 1


@pytest.mark.parametrize("old", ["short\r\n", "x" * 70 + "\r\n" * 9000])
@pytest.mark.parametrize("size", [100, 500_000])
def test_body_replaced(alpha, old, size):
    to, _ = alpha.account()
    new = (b"%063d\r\n" * (size // 65 + 1)) % tuple(range(size // 65 + 1))
    pieces = b"".join(frame("b", new[i:i + 60000]) for i in range(0, len(new), 60000))
    with Milter(E=frame("p") + pieces + add("X-New", "yes") + CONTINUE) as m, Milter() as after, \
            Chain(alpha, milter(m), milter(after)):
        assert deliver(alpha, to, message(STRANGER, to, text=old)).startswith("250")
        assert after.body == new and ("X-New", "yes") in after.headers()
    got, = alpha.wait_messages(to)
    header, body = got.split(b"\r\n\r\n", 1)
    assert body == new and b"X-New: yes" in header


@pytest.mark.parametrize("policy,code", [("accept", "250"), ("defer", "451 4.7.1"), ("reject", "550 5.7.1")])
def test_policy_on_error(alpha, policy, code):
    to, _ = alpha.account()
    row = {"kind": "milter", "address": f"127.0.0.1:{free_port()}", "on_error": policy}
    with Milter(E=add("X-Seen", "1") + CONTINUE) as m, Chain(alpha, row, milter(m)):
        if policy == "accept":
            assert deliver(alpha, to, message(STRANGER, to)).startswith(code)
            assert b"X-Seen: 1" in alpha.wait_messages(to)[0]
        else:
            assert rcpt_reply(alpha, to).startswith(code)


def test_slow_filter_stops_nobody_else(alpha):
    to, other = alpha.account()[0], alpha.account()[0]
    slow = lambda m, d: CONTINUE if other.encode() in d else None  # noqa: E731
    with Milter(R=slow) as m, Chain(alpha, milter(m, timeout="1h")):
        waiting = [alpha.smtp_in() for _ in range(40)]
        for s in waiting:
            s.want("250", f"MAIL FROM:<{STRANGER}>")
            s.send(f"RCPT TO:<{to}>\r\n".encode())
        wait_for(lambda: m.events().count("R") == 40)
        assert deliver(alpha, other, message(STRANGER, other)).startswith("250")
        for s in waiting:
            s.close()


# ------------------------------------------------------------------ the HTTP hook

def hook(h, **more):
    return {"kind": "http", "address": h.url, **more}


def test_hook_is_told(alpha):
    to, _ = alpha.account()
    sent = message(STRANGER, to, "hooked", X_Odd="a\r\n\tb")
    with Hook({"action": "accept", "add_headers": [{"name": "X-Hook", "value": "seen\r\nX-Evil: 1"}],
               "remove_headers": [{"name": "X-Odd"}]}) as h, \
            Chain(alpha, hook(h, body="1K")):
        reply = deliver(alpha, to, sent)
        assert reply.startswith("250")
    asked, = h.asked
    assert asked["stage"] == "message" and asked["direction"] == "inbound"
    assert asked["id"] == reply.split()[-1]
    assert asked["envelope"] == {"from": STRANGER, "to": [to], "smtputf8": False}
    assert asked["connection"]["ip"] == "127.0.0.1" and asked["connection"]["tls"] is None
    assert ["Subject", "hooked"] in asked["headers"] and asked["size"] == len(sent)
    assert base64.b64decode(asked["body"]) == b"Hello.\r\n"
    got, = alpha.wait_messages(to)
    mail = email.message_from_bytes(got)
    assert mail["X-Hook"].startswith("seen") and "X-Evil" not in mail and "X-Odd" not in mail


def test_hook_large_body(alpha):
    to, _ = alpha.account()
    text = ("y" * 76 + "\r\n") * 8000
    with Hook({"action": "accept"}) as h, Chain(alpha, hook(h, body="1M")):
        assert deliver(alpha, to, message(STRANGER, to, text=text)).startswith("250")
    assert base64.b64decode(h.asked[0]["body"]) == text.encode()


def test_hook_verdicts(alpha):
    to, _ = alpha.account()
    with Hook(None) as h, Chain(alpha, hook(h)):
        for answer, expected in (
                ({"action": "reject", "code": 554, "enhanced": "5.7.0", "text": "no\r\nno"}, "554 5.7.0 no  no"),
                ({"action": "reject"}, "550 5.7.1"),
                ({"action": "defer", "text": "busy"}, "451 4.7.1 busy"),
                ({"action": "discard"}, "250"),
                ({"action": "quarantine", "text": "odd"}, "250")):
            h.answer = answer
            assert deliver(alpha, to, message(STRANGER, to)).startswith(expected), answer
            assert "body" not in h.asked[-1] and not alpha.messages(to)
            assert bool(alpha.queue(to=to)) == (answer["action"] == "quarantine")


def test_hook_at_each_recipient(alpha):
    a, b = alpha.account()[0], alpha.account()[0]
    bad = {"action": "reject", "text": "not him"}
    with Hook(lambda q: bad if q["envelope"]["to"][-1] == b else {"action": "accept"}) as h, \
            Chain(alpha, hook(h, stages="all")):
        with alpha.smtp_in() as s:
            s.envelope(STRANGER, a)
            s.want("550 5.7.1 not him", f"RCPT TO:<{b}>")
            assert s.body(message(STRANGER, a)).startswith("250")
    assert [q["stage"] for q in h.asked] == ["rcpt", "rcpt", "message"]


def test_hook_answers_that_are_none(alpha):
    to, _ = alpha.account()
    header = b'{"name":"A","value":"b"}'
    answers = [
        (500, b"oops"), (302, b"{}"), (200, b"not json"), (200, b"[]"), (200, b'{"action":"dance"}'),
        (200, b'{"action":"reject","code":250}'), (200, b" " * 100_000),
        (200, b'{"action":"accept","add_headers":[{"name":"A B","value":""}]}'),
        (200, b'{"action":"accept","add_headers":{}}'),
        (200, b'{"action":"accept","add_headers":[' + b",".join([header] * 1000) + b"]}"),
    ]
    with Hook(None) as h, Chain(alpha, hook(h)):
        for answer in answers:
            h.answer = lambda q: answer  # noqa: B023
            assert deliver(alpha, to, message(STRANGER, to)).startswith("451 4.7.1"), answer
    assert len(h.asked) == len(answers) and not alpha.messages(to)


def test_hook_over_tls(alpha, tmp_path):
    """By name, and only with a certificate that verifies."""
    to, _ = alpha.account()
    good = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    good.load_cert_chain(f"{alpha.dir}/cert.pem", f"{alpha.dir}/key.pem")
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    p = run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-keyout", f"{tmp_path}/key", "-out", f"{tmp_path}/cert", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost"])
    assert p.returncode == 0, p.stderr
    own.load_cert_chain(f"{tmp_path}/cert", f"{tmp_path}/key")
    with Hook({"action": "defer", "text": "heard"}, tls=good) as h, Chain(alpha, hook(h)):
        assert deliver(alpha, to, message(STRANGER, to)) == "451 4.7.1 heard"
    with Hook({"action": "defer", "text": "heard"}, tls=own) as h, Chain(alpha, hook(h, on_error="accept")):
        reply = deliver(alpha, to, message(STRANGER, to))
        assert reply.startswith("250") and not h.asked
    row, = verdicts(alpha, reply.split()[-1])
    assert row["action"] == "failed" and "certificate" in row["text"]


def test_hook_hangs(alpha):
    to, _ = alpha.account()
    with Hook(lambda q: time.sleep(3) or {"action": "accept"}) as h, \
            Chain(alpha, hook(h, timeout_message="1s", on_error="accept")):
        reply = deliver(alpha, to, message(STRANGER, to))
    assert reply.startswith("250")
    row, = verdicts(alpha, reply.split()[-1])
    assert row["action"] == "failed" and "time" in row["text"].lower()


# ------------------------------------------------------------------ real filters

FOUND = b"POSTRIDER-TEST-SIGNATURE-7f3a9c"


@pytest.fixture(scope="module")
def clamd():
    """Debian's clamd with a signature of our own: it needs no other data."""
    dir, port = scratch(), free_port()
    with open(f"{dir}/own.ndb", "w") as f:
        f.write(f"Postrider.Test:0:*:{FOUND.hex()}\n")
    with open(f"{dir}/clamd.conf", "w") as f:
        f.write(f"Foreground yes\nTCPSocket {port}\nTCPAddr 127.0.0.1\nDatabaseDirectory {dir}\n"
                f"TemporaryDirectory {dir}\nStreamMaxLength 2M\nLogFile {dir}/log\n"
                "DisableCache yes\n")
    with Daemon(dir, ["clamd", "--config-file", f"{dir}/clamd.conf"], port) as d:
        yield d
    shutil.rmtree(dir)


def test_clamd(alpha, clamd):
    to, _ = alpha.account()
    row = {"kind": "clamd", "address": clamd.address, "timeout": "30s", "timeout_message": "30s"}
    large = "x" * 76 + "\r\n"
    bad = message(STRANGER, to, text=large * 3000 + FOUND.decode() + "\r\n")
    with Chain(alpha, row):
        assert deliver(alpha, to, message(STRANGER, to)).startswith("250")
        reply = deliver(alpha, to, bad)
        assert reply == "554 5.7.1 the message contains malware: Postrider.Test.UNOFFICIAL"
        assert deliver(alpha, to, message(STRANGER, to, text=large * 40000)).startswith("451 4.7.1")
    with Chain(alpha, dict(row, max_size="1M")):  # clamd's own limit is 2 MiB: it is not asked
        assert deliver(alpha, to, message(STRANGER, to, text=large * 20000)).startswith("250")
    with Chain(alpha, dict(row, max_size="1M", too_large="reject")):
        assert deliver(alpha, to, message(STRANGER, to, text=large * 20000)).startswith("552 5.3.4")
    with Chain(alpha, dict(row, on_find="header")):
        assert deliver(alpha, to, bad).startswith("250")
    got = alpha.wait_messages(to, 3)
    assert b"X-Virus-Status: Infected (Postrider.Test.UNOFFICIAL)" in got[2]
    with Chain(alpha, dict(row, on_find="quarantine")):
        assert deliver(alpha, to, bad).startswith("250")
    assert len(alpha.queue(to=to)) == 1 and len(alpha.messages(to)) == 3


GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"


@pytest.fixture(scope="module")
def rspamd():
    """Debian's rspamd as a milter that scans by itself, without DNS, Redis or its rules."""
    dir, port = scratch(), free_port()
    with open(f"{dir}/rspamd.conf", "w") as f:
        f.write(f"""
options {{ pidfile = "{dir}/pid"; url_tld = "{dir}/tld"; hs_cache_dir = "{dir}"; filters = ""; tempdir = "{dir}"; rrd = "";
          control_socket = "{dir}/control mode=0600"; dns {{ nameserver = ["127.0.0.1:9"]; }} }}
logging {{ type = "console"; level = "notice"; }}
metric {{ name = "default"; actions {{ reject = 15; add_header = 6; }} }}
worker "rspamd_proxy" {{ bind_socket = "127.0.0.1:{port}"; milter = yes; timeout = 20s; count = 1;
                        upstream "local" {{ default = yes; self_scan = yes; }} }}
""")
    with open(f"{dir}/tld", "w") as f:
        f.write("test\n")
    user = []
    if os.geteuid() == 0:
        shutil.chown(dir, "_rspamd", "_rspamd")
        user = ["-u", "_rspamd", "-g", "_rspamd"]
    with Daemon(dir, ["rspamd", "-f", f"--var=DBDIR={dir}", *user, "-c", f"{dir}/rspamd.conf"],
                port) as d:
        yield d
    shutil.rmtree(dir)


def test_rspamd(alpha, rspamd):
    to, _ = alpha.account()
    row = {"kind": "milter", "address": rspamd.address, "timeout": "30s", "timeout_message": "30s"}
    with Chain(alpha, row):
        reply = deliver(alpha, to, message(STRANGER, to))
        assert reply.startswith("250"), reply
        assert verdicts(alpha, reply.split()[-1])[0]["action"] in ("continue", "accept")
        spam = deliver(alpha, to, message(STRANGER, to, text=GTUBE))
        assert spam.startswith("554 5.7.1"), spam
    assert len(alpha.wait_messages(to)) == 1


@pytest.fixture(scope="module")
def opendkim():
    """Debian's opendkim: signs what users submit and verifies what comes, by a key of the test."""
    dir, port = scratch(), free_port()
    p = subprocess.run(["opendkim-genkey", "-b", "1024", "-d", "alpha.test", "-s", "filtered", "-D", dir],
                       capture_output=True, text=True)
    assert p.returncode == 0, p.stderr
    with open(f"{dir}/filtered.txt") as f:
        key = "".join(re.findall(r'"([^"]*)"', f.read()))
    with open(f"{dir}/keys", "w") as f:
        f.write(f"filtered._domainkey.alpha.test {key}\n")
    with open(f"{dir}/conf", "w") as f:
        f.write(f"Socket inet:{port}@127.0.0.1\nMode sv\nDomain alpha.test\nSelector filtered\n"
                f"KeyFile {dir}/filtered.private\nTestPublicKeys {dir}/keys\nInternalHosts {dir}/none\n"
                "Canonicalization relaxed/relaxed\nAuthservID opendkim.test\nSyslog no\n"
                "RequireSafeKeys no\nMinimumKeyBits 1024\nOversignHeaders From\n")
    with open(f"{dir}/none", "w") as f:
        f.write("192.0.2.1\n")
    with Daemon(dir, ["opendkim", "-f", "-x", f"{dir}/conf"], port) as d:
        d.key = key
        yield d
    shutil.rmtree(dir)


def dkim_verify(mail, key):
    import dkim
    return dkim.verify(mail, dnsfunc=lambda name, timeout=5: key.encode())


def test_opendkim_signs_and_verifies(alpha, opendkim, place):
    to, _ = alpha.account()
    row = {"kind": "milter", "address": opendkim.address, "timeout": "30s", "timeout_message": "30s"}
    remote = f"r@{place.domain}"
    bare = f"From: Alice <{ALICE}>\r\nTo: <{remote}>\r\nSubject:  two  spaces \r\n\r\nhi\r\n".encode()
    with Chain(alpha, row), place.sink() as sink:
        with alpha.submit(ALICE) as s:
            s.deliver(ALICE, remote, bare)
        (_, _, signed), = sink.wait()
        assert b"DKIM-Signature:" in signed and b"s=filtered" in signed
        assert dkim_verify(signed, opendkim.key)
        # what comes in with that signature is verified; a change is noticed
        signed = signed[signed.index(b"DKIM-Signature:"):]
        assert deliver(alpha, to, signed, sender=ALICE).startswith("250")
        assert deliver(alpha, to, signed.replace(b"hi\r\n", b"ho\r\n"), sender=ALICE).startswith("250")
    good, changed = alpha.wait_messages(to, 2)
    results = [email.message_from_bytes(m).get_all("Authentication-Results") for m in (good, changed)]
    assert any("opendkim.test" in r and "dkim=pass" in r for r in results[0]), results
    assert not any("opendkim.test" in r and "dkim=pass" in r for r in results[1]), results
