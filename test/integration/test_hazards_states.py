"""Exact answers to what no honest client says: chunks out of turn, malformed logins, addresses that mean something
else elsewhere, names with control characters, links planted in the data directory.  Somebody else is served all the
time."""

import base64
import os
import shutil

import pytest

from lab import POSTRIDER, Lab, Smtp, run, temp_dir, wait_for

X = "x@sink.test"
ALICE = "alice@alpha.test"


@pytest.fixture(scope="module")
def neighbour(alpha):
    with alpha.smtp_in() as s:
        yield s


@pytest.fixture(autouse=True)
def served(neighbour):
    yield
    neighbour.want("250 2.0.0", "NOOP")


# ------------------------------------------------------------------ BDAT

M, R, NOBODY = f"MAIL FROM:<{X}>", f"RCPT TO:<{ALICE}>", "RCPT TO:<nobody@alpha.test>"
OK, SEQUENCE, TAKEN, SYNTAX = "250 2.0.0", "503 5.5.1", "250 2.0.0 accepted", "501 5.5.4"
CLOSED = None
# Bytes and the answers to them, in order.  What follows a length that cannot be read might be anything: then we close.
CHUNKS = {
    "no sender": [("BDAT 0 LAST", SEQUENCE), ("NOOP", OK)],
    "no recipient": [(M, "250"), ("BDAT 0 LAST", SEQUENCE), (R, "250 2.1.5")],
    "no good recipient": [(M, "250"), (NOBODY, "550 5.1.1"), (b"BDAT 3 LAST\r\nabc", "554 5.5.1"),
                          ("DATA", "554 5.5.1"), ("NOOP", OK)],
    "octets of a refused chunk": [(b"BDAT 8 LAST\r\nQUIT\r\n\r\nNOOP\r\n", SEQUENCE, OK)],
    "nothing at all": [(M, "250"), (R, "250"), ("BDAT 0", OK), ("BDAT 0 LAST", TAKEN), (M, "250 2.1.0")],
    "LAST twice": [(M, "250"), (R, "250"), (b"BDAT 6 LAST\r\nX: y\r\n", TAKEN), (b"BDAT 3 LAST\r\nabc", SEQUENCE)],
    "LAST twice at once": [(M, "250"), (R, "250"), (b"BDAT 3 LAST\r\nabcBDAT 3 LAST\r\nabcNOOP\r\n", TAKEN, SEQUENCE, OK)],
    "after DATA": [(M, "250"), (R, "250"), ("DATA", "354"), (b"X: y\r\n.\r\n", TAKEN), (b"BDAT 3 LAST\r\nabc", SEQUENCE)],
    "inside DATA": [(M, "250"), (R, "250"), ("DATA", "354"), (b"BDAT 3 LAST\r\n.\r\n", TAKEN), ("NOOP", OK)],
    "others after a chunk": [(M, "250"), (R, "250"), (b"BDAT 3\r\nabc", OK), ("DATA", SEQUENCE), (R, SEQUENCE),
                             (M, SEQUENCE), ("STARTTLS", SEQUENCE), ("AUTH PLAIN", "502 5.5.1"), ("VRFY x", "252"),
                             ("NOOP", OK), (b"BDAT 2 LAST\r\n\r\n", TAKEN)],
    "RSET between": [(M, "250"), (R, "250"), (b"BDAT 3\r\nabc", OK), ("RSET", OK), (b"BDAT 3 LAST\r\nabc", SEQUENCE)],
    "EHLO between": [(M, "250"), (R, "250"), (b"BDAT 3\r\nabc", OK), ("EHLO again", "250"), (R, SEQUENCE)],
    "RSET inside": [(M, "250"), (R, "250"), (b"BDAT 10\r\nabcRSET\r\n\n", OK), (b"BDAT 0 LAST\r\n", "550 5.6.0")],
    "binary by DATA": [(M + " BODY=BINARYMIME", "250"), (R, "250"), ("DATA", SEQUENCE)],
    "bare LF": [(M, "250"), (R, "250"), (b"BDAT 5 LAST\r\nab\ncd", "550 5.6.0"), (M, "250")],
    "CR and LF apart": [(M, "250"), (R, "250"), (b"BDAT 2\r\na\rBDAT 2 LAST\r\n\nb", OK, TAKEN)],
    "CR at the end": [(M, "250"), (R, "250"), (b"BDAT 2 LAST\r\na\r", "550 5.6.0")],
    "zeros in front": [(M, "250"), (R, "250"), (b"BDAT 0000000000000000000003 LAST\r\nabcNOOP\r\n", TAKEN, OK)],
    "case and spaces": [(M, "250"), (R, "250"), (b"bdat  3  last\r\nabcNOOP\r\n", TAKEN, OK)],
    "no length": [(M, "250"), (R, "250"), ("BDAT", SYNTAX, CLOSED)],
    "no number": [(M, "250"), (R, "250"), (b"BDAT x\r\nNOOP\r\n", SYNTAX, CLOSED)],
    "signed": [(M, "250"), (R, "250"), (b"BDAT +3 LAST\r\nabcNOOP\r\n", SYNTAX, CLOSED)],
    "negative": [(M, "250"), (R, "250"), (b"BDAT -1 LAST\r\nNOOP\r\n", SYNTAX, CLOSED)],
    "another word": [(M, "250"), (R, "250"), (b"BDAT 5 LASTX\r\nNOOP\r\n", SYNTAX, CLOSED)],
    "two numbers": [(M, "250"), (R, "250"), (b"BDAT 1 2\r\nNOOP\r\n", SYNTAX, CLOSED)],
    "no end of numbers": [(M, "250"), (R, "250"), (b"BDAT 99999999999999999999\r\nNOOP\r\n", SYNTAX, CLOSED)],
    "4 GB": [(M, "250"), (R, "250"), (b"BDAT 4294967296\r\nNOOP\r\n", "552 5.3.4", CLOSED)],
}


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks_out_of_turn(alpha, name):
    with alpha.smtp_in() as s:
        for said, *answers in CHUNKS[name]:
            s.send(said if isinstance(said, bytes) else said.encode() + b"\r\n")
            for a in answers:
                if a is CLOSED:
                    assert s.closed()
                    return
                got = s.reply()
                assert got.startswith(a), (said, got)
        assert s.cmd("QUIT").startswith("221") and s.closed(), "more answers than questions"


# ------------------------------------------------------------------ AUTH

BAD64, REFUSED, CANCELLED, LONG = "501 5.5.2", "535 5.7.8", "501 5.7.0", "500 5.5.6"


def b64(data):
    return base64.b64encode(data)


def plain(authorize, user, password):
    return b64(b"\0".join((authorize, user, password)))


# Lines and answers; PASSWORD is alice's own.
LOGINS = {
    "no mechanism": [(b"AUTH", SYNTAX)],
    "unknown": [(b"AUTH NTLM", "504 5.5.4")],
    "not offered": [(b"AUTH CRAM-MD5", "504 5.5.4")],
    "8 bits": [(b"AUTH \xff", "504 5.5.4")],
    "NUL": [(b"AUTH PLAIN\0", "500 5.5.2")],
    "empty at once": [(b"AUTH PLAIN =", REFUSED)],
    "empty later": [(b"AUTH PLAIN", "334"), (b"", REFUSED)],
    "= later": [(b"AUTH PLAIN", "334"), (b"=", BAD64)],
    "* at once": [(b"AUTH PLAIN *", BAD64)],
    "* later": [(b"AUTH PLAIN", "334"), (b"*", CANCELLED), (b"NOOP", OK)],
    "* in the middle": [(b"AUTH LOGIN", "334"), (b64(b"a"), "334"), (b"*", CANCELLED), (b"NOOP", OK)],
    "* to SCRAM": [(b"AUTH SCRAM-SHA-256 " + b64(b"n,,n=a,r=b"), "334"), (b"*", CANCELLED), (b"NOOP", OK)],
    "not base64": [(b"AUTH PLAIN ====", BAD64)],
    "half an octet": [(b"AUTH PLAIN", "334"), (b"x", BAD64)],
    "NUL in base64": [(b"AUTH PLAIN", "334"), (b"AA\0AA", BAD64)],
    "LF in base64": [(b"AUTH PLAIN", "334"), (b"AA\nAA", BAD64), (b"NOOP", OK)],
    "a command instead": [(b"AUTH PLAIN", "334"), (b"QUIT", REFUSED), (b"NOOP", OK)],
    "two responses": [(b"AUTH PLAIN " + plain(b"", b"a", b"b") + b" x", SYNTAX)],
    "a field too many": [(b"AUTH PLAIN " + plain(b"", b"a", b"b\0c"), REFUSED)],
    "a field too few": [(b"AUTH PLAIN " + b64(b"a\0b"), REFUSED)],
    "not UTF-8": [(b"AUTH PLAIN " + plain(b"", b"\xff\xfe", b"x"), REFUSED)],
    "as somebody else": [(b"AUTH PLAIN " + plain(b"bob@alpha.test", b"alice@alpha.test", b"PASSWORD"), REFUSED)],
    "too long": [(b"AUTH PLAIN " + b"A" * 20000, LONG), (b"NOOP", OK)],
    "too long later": [(b"AUTH PLAIN", "334"), (b"A" * 20000, LONG), (b"NOOP", OK)],
    "a megabyte": [(b"AUTH PLAIN " + b"A" * (1 << 20), "421 4.7.0")],
    "a megabyte later": [(b"AUTH PLAIN", "334"), (b"A" * (1 << 20), "421 4.7.0")],
    "twice": [(b"AUTH PLAIN " + plain(b"", b"alice@alpha.test", b"PASSWORD"), "235 2.7.0"), (b"AUTH PLAIN", SEQUENCE)],
    "lower case": [(b"auth plain", "334"), (plain(b"", b"alice@alpha.test", b"PASSWORD"), "235 2.7.0")],
}


@pytest.mark.parametrize("name", LOGINS)
def test_malformed_logins(lab, alpha, name):
    password = alpha.password(ALICE).encode()
    with Smtp("127.0.0.1", alpha.submissions, tls=lab.tls) as s:
        for said, answer in LOGINS[name]:
            words = said.split(b" ")
            if words[-1].startswith(b"YWxp") or words[-1].startswith(b"AGFs") or words[-1].startswith(b"Ym9i"):
                words[-1] = b64(base64.b64decode(words[-1]).replace(b"PASSWORD", password))
            got = s.cmd(b" ".join(words))
            assert got.startswith(answer), (said[:60], got)
        if answer.startswith("421"):
            assert s.closed()
            return
        mail = s.cmd(f"MAIL FROM:<{ALICE}>")
        assert mail.startswith("250" if LOGINS[name][-1][1] in ("235 2.7.0", SEQUENCE) else "530 5.7.0"), mail


@pytest.mark.parametrize("port, answer", [("submission", "538 5.7.11"), ("smtp", "502 5.5.1")])
def test_no_login_here(alpha, port, answer):
    """Not in clear, and not where mail arrives."""
    with Smtp("127.0.0.1", getattr(alpha, port)) as s:
        got = s.cmd(b"AUTH PLAIN " + plain(b"", ALICE.encode(), alpha.password(ALICE).encode()))
        assert got.startswith(answer), got


# ------------------------------------------------------------------ addresses

INVALID, UNKNOWN, RELAY, GOOD = "501 5.1.3", "550 5.1.1", "550 5.7.1", "250 2.1.5"
RECIPIENTS = {
    "ALICE@ALPHA.TEST": GOOD, '"alice"@alpha.test': GOOD, "alice+x@alpha.test": GOOD, "postmaster": GOOD,
    "@relay.test:alice@alpha.test": GOOD,  # a source route is ignored (RFC 5321 C)
    "alice": "553 5.1.3", "": INVALID, "@": INVALID, "@alpha.test": INVALID, "alice@": INVALID,
    "alice@alpha.test.": INVALID, "alice@-alpha.test": INVALID, "alice@alpha..test": INVALID,
    ".alice@alpha.test": INVALID, "alice.@alpha.test": INVALID, "al..ice@alpha.test": INVALID,
    "alice @alpha.test": INVALID, " alice@alpha.test": INVALID, "alice@alpha.test ": INVALID,
    "alice(comment)@alpha.test": INVALID, "<alice@alpha.test>": INVALID, "a@b@alpha.test": INVALID,
    "alice@alpha.test,bob@alpha.test": INVALID, "alice@alpha.test;x": INVALID, "alice@sink.test@alpha.test": INVALID,
    '"alice@alpha.test': INVALID, "alice@alpha.test\\": INVALID, "alice@[1.2.3": INVALID, "alice@[IPv6:zz]": INVALID,
    "a" * 65 + "@alpha.test": INVALID, "a@" + "b." * 130 + "test": INVALID, "../../etc/passwd@alpha.test": INVALID,
    "ä@alpha.test": "553 5.6.7", "alice\0@alpha.test": "500 5.5.2", "alice\r@alpha.test": "500 5.5.2",
    '"\\""@alpha.test': UNKNOWN, '"a b"@alpha.test': UNKNOWN, "`id`@alpha.test": UNKNOWN, "|/bin/sh@alpha.test": UNKNOWN,
    "-x@alpha.test": UNKNOWN, "${run{id}}@alpha.test": UNKNOWN, "$(id)@alpha.test": INVALID, "a'--@alpha.test": UNKNOWN,
    '";id;"@alpha.test': UNKNOWN, '"alice@alpha.test>"@alpha.test': RELAY,
    "alice@sink.test": RELAY, "alice%sink.test@alpha.test": RELAY, "sink.test!alice@alpha.test": RELAY,
    '"alice@sink.test"@alpha.test': RELAY, '"alice@alpha.test"@sink.test': RELAY, "alice%alpha.test@sink.test": RELAY,
    "@alpha.test:alice@sink.test": RELAY, "alice@[127.0.0.1]": RELAY,
    "=?utf-8?q?alice=40alpha.test?=@sink.test": RELAY, "=?utf-8?q?alice?=@alpha.test": UNKNOWN,
}


def test_odd_recipients(alpha):
    wrong = {}
    for path, want in RECIPIENTS.items():
        with alpha.smtp_in() as s:
            s.want("250", M)
            got = s.cmd(f"RCPT TO:<{path}>".encode())
            if not got.startswith(want) or s.data:
                wrong[path] = (want, got)
            s.want("250 2.0.0", "NOOP")
    assert not wrong


# ------------------------------------------------------------------ what people read

EVIL = "\x1b]0;x\x07\x1b[31mred\x9b2J \u202eevent=made-up\x7f"


def printable(text):
    return all(c == "\n" or c.isprintable() and c != "\u202e" for c in text)


def test_nothing_of_a_peer_is_raw(alpha):
    """HELO, envelope, subject, message id and another server's answer, in the log and in what the commands print."""
    address, _ = alpha.account()
    with alpha.smtp_in(ehlo=None) as s:
        s.cmd(f"EHLO {EVIL}".encode())
        s.want("250", "EHLO client.test")
        s.cmd(f'MAIL FROM:<"{EVIL}"@sink.test> SMTPUTF8'.encode())
        s.cmd("RSET")
        s.want("250", 'MAIL FROM:<"a b event=made-up"@sink.test>')
        s.cmd(f'RCPT TO:<"{EVIL}"@alpha.test>'.encode())
        s.want("250", f"RCPT TO:<{address}>")
        got = s.body(f"Subject: {EVIL}\r\nMessage-ID: <{EVIL}@x>\r\nFrom: {EVIL} <{X}>\r\n\r\nx\r\n".encode())
        assert got.startswith("250")
        trace = got.split()[-1]
    wait_for(lambda: any(r["event"] == "smtp.accepted" for r in alpha.trace(trace)))
    log = alpha.log_text()
    assert b"made-up" in log and all(32 <= c < 127 or c == 10 for c in log)
    for argv in (["trace", trace], ["trace", address], ["trace", "--json", trace]):
        p = alpha.cli(*argv)
        assert p.returncode == 0 and p.stdout and printable(p.stdout), (argv, p.stdout)


# ------------------------------------------------------------------ links

@pytest.fixture(scope="module")
def resting():
    """A data directory whose server has ended: (data directory, configuration)."""
    with Lab() as other:
        other.own_dir = False
    yield f"{other.alpha.dir}/data", other.alpha.config
    shutil.rmtree(other.dir)


@pytest.mark.parametrize("place", ["queue", "accounts", "events", "spool", "keys", "lock"])
def test_links_in_the_data_directory(resting, place):
    """What the service's users own, the parent enters as root: a link planted there is not followed, and is named."""
    data, config = resting
    own, outside = f"{data}/{place}", temp_dir()
    elsewhere = f"{outside}/x"
    os.rename(own, own + ".kept")
    (os.mkdir if place != "lock" else lambda path: open(path, "w").close())(elsewhere)
    os.chmod(elsewhere, 0o755)
    os.symlink(elsewhere, own)
    before = os.stat(elsewhere)
    try:
        p = run([POSTRIDER, "--config", config, "serve"], timeout=30)
        after = os.stat(elsewhere)
        assert p.returncode != 0 and f"{data}/{place}" in p.stderr, p.stderr
        assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (before.st_mode, before.st_uid, before.st_mtime_ns)
    finally:
        os.unlink(own)
        os.rename(own + ".kept", own)
        shutil.rmtree(outside)
