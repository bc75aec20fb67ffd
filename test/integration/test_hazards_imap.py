"""Ways in which IMAP and POP3 servers have broken, tried on this one: literals without end,
nesting, patterns, MIME bombs, names that leave the house, races over UIDs, guessing."""

import base64
import os
import random
import re
import socket
import threading
import time

import pytest

from lab import Imap, Raw, message, wait_for

MIB = 1 << 20
X = "x@sink.test"


@pytest.fixture
def box(beta):
    return beta.account()[0]


class Grows:
    """The processes that hear clients stay within LIMIT bytes of what they were."""

    def __init__(self, host, limit=24 * MIB):
        self.host, self.limit = host, limit

    def __enter__(self):
        self.pids = self.host.roles()
        self.before = {r: self.host.rss(r) for r in ("front", "core")}

    def __exit__(self, kind, *_):
        if kind:
            return
        assert self.host.roles() == self.pids, "a role was restarted"
        for r, before in self.before.items():
            grown = self.host.rss(r) - before
            assert grown < self.limit, f"{r} grew by {grown >> 20} MiB"


def flood(c, piece, total):
    """Sends until TOTAL bytes or until the server has had enough; what it said."""
    c.sock.settimeout(5)
    sent = 0
    try:
        while sent < total:
            c.send(piece)
            sent += len(piece)
    except OSError:
        pass
    try:
        return c.rest()
    except OSError:
        return c.data


# ------------------------------------------------------------------ before login

@pytest.mark.parametrize("size", ["4294967295", "4294967296", "18446744073709551616", "2147483648",
                                  "1000000", "99999999999999999999999", "-1", "1e9", ""])
@pytest.mark.parametrize("plus", ["", "+"])
def test_literal_of_somebody_unknown(beta, size, plus):
    """Nothing is set aside for a size that was only said."""
    with Grows(beta):
        for _ in range(5):
            with beta.imap_raw() as c:
                c.send(f"a LOGIN {{{size}{plus}}}\r\n".encode())
                got = c.line()
                assert got is None or got.startswith((b"a BAD", b"a NO", b"* BYE")), got


def test_many_literals_in_one_command(beta):
    with Grows(beta), beta.imap_raw() as c:
        got = flood(c, b"a LOGIN" + b" {1+}\r\nx" * 10000, 20 * MIB)
        assert b"OK" not in got


def test_endless_line_before_login(beta):
    with Grows(beta), beta.imap_raw() as c:
        got = flood(c, b"A" * 65536, 40 * MIB)
        assert b"BAD" in got or b"BYE" in got or got == b""


def test_hundreds_of_waiting_literals(beta):
    """Many connections that each promise the most there may be."""
    socks = []
    with Grows(beta, 48 * MIB):
        try:
            for _ in range(300):
                c = socket.create_connection(("127.0.0.1", beta.imap), timeout=10)
                c.sendall(b"a NOOP {8000}\r\n" + b"x" * 100)
                socks.append(c)
            beta.imap_raw().close()
            time.sleep(0.2)
        finally:
            for c in socks:
                c.close()


@pytest.mark.parametrize("port", ["imap", "pop3"])
def test_nothing_works_before_login(beta, port):
    with Raw("127.0.0.1", getattr(beta, port)) as c:
        c.line()
        if port == "imap":
            for line in (b"LOGIN dave@beta.test x", b"AUTHENTICATE PLAIN AGEAYg==", b"SELECT INBOX",
                         b"LIST \"\" *", b"APPEND INBOX {5+}\r\nabcde", b"FETCH 1 BODY[]", b"ENABLE CONDSTORE",
                         b"IDLE", b"UID FETCH 1 UID"):
                c.send(b"a " + line + b"\r\n")
                got = c.line()
                assert got.startswith((b"a NO", b"a BAD")), (line, got)
        else:
            for line in (b"USER dave@beta.test", b"PASS x", b"STAT", b"LIST", b"RETR 1", b"DELE 1",
                         b"UIDL", b"TOP 1 0", b"AUTH PLAIN", b"APOP a b"):
                c.send(line + b"\r\n")
                assert c.line().startswith(b"-ERR"), line


# ------------------------------------------------------------------ grammar

@pytest.mark.parametrize("what", [
    b"FETCH 1 " + b"(" * 5000, b"FETCH 1 (" + b"UID " * 5000 + b")", b"SEARCH " + b"(" * 5000,
    b"SEARCH " + b"NOT " * 1900 + b"ALL", b"SEARCH " + b"OR " * 2500,
    b"STATUS INBOX " + b"(" * 5000, b"LIST (" + b"(" * 5000, b"LIST \"\" (" + b"a " * 3000 + b")",
    b"STORE 1 FLAGS " + b"(" * 5000, b"STORE 1 FLAGS (" + b"a" * 5000 + b")",
    b"FETCH " + b"1," * 3000 + b"1 UID", b"FETCH 1:4294967295 UID", b"FETCH 4294967296 UID",
    b"FETCH 0 UID", b"FETCH 1 BODY[" + b"1." * 2000 + b"1]", b"FETCH 1 BODY[]<4294967295.4294967295>",
    b"FETCH 1 BODY[HEADER.FIELDS (" + b"a " * 3000 + b")]", b"SEARCH CHARSET X-NONE ALL",
    b"SEARCH UID " + b",".join(b"%d:*" % i for i in range(1000)), b"UID", b"UID FETCH", b"ID (",
    b"ID (" + b'"a" "b" ' * 800 + b")", b"SELECT \"" + b"\\" * 3001 + b"\"",
    b"SEARCH HEADER " + b"a" * 3000 + b" x", b"FETCH 1 (BODY.PEEK[TEXT]<0.0>)", b"\xff\xfe\xfd",
    b"ENABLE " + b"X " * 3000, b"NOOP " + b"x" * 7000, b"SORT (DATE) UTF-8 ALL", b"",
])
def test_hostile_commands(beta, box, what):
    """An answer in less than five seconds, and the session lives."""
    with Grows(beta), beta.imap_raw(box) as c:
        c.append("INBOX", message(X, box))
        c.ok("SELECT INBOX")
        start = time.monotonic()
        c.send(b"z " + what + b"\r\n")
        while True:
            got = c.response()
            assert got is not None, "the session was ended"
            if not got.startswith(b"* ") or got.startswith(b"* BYE"):
                break
        assert re.match(rb"(z (OK|NO|BAD)|\* BAD)", got), got
        assert time.monotonic() - start < 5
        c.ok("NOOP")


def test_parentheses_without_end(beta, box):
    with Grows(beta), beta.imap_raw(box) as c:
        got = flood(c, b"a FETCH 1 " + b"(" * MIB, 12 * MIB)
        assert b"BAD" in got or b"BYE" in got or got == b""


@pytest.mark.parametrize("pattern", ["*%" * 500, "%*" * 500 + "x", "*a" * 200, "*" * 2000,
                                     "%" * 2000 + "x", "*/%" * 300])
def test_patterns_are_linear(beta, box, pattern):
    with beta.imap_raw(box) as c:
        for name in ("a" * 200, "/".join("abcdefghij"), "a/" * 10 + "b"):
            c.ok(f'CREATE "{name}"')
        start = time.monotonic()
        c.cmd(f'LIST "" "{pattern}"')
        c.cmd(f'LIST "a/" "{pattern}"')
        assert time.monotonic() - start < 2


@pytest.mark.parametrize("line", [
    b'SELECT "IN\0BOX"', b"SELECT {6+}\r\nIN\0BOX", b"CREATE {3+}\r\na\0b", b'LOGIN "a\0b" "c"',
    b'SEARCH SUBJECT "a\0b"', b"SEARCH SUBJECT {3+}\r\na\0b", b'RENAME "INBOX" "a\0b"',
    b"STORE 1 FLAGS (a\0b)", b"NOOP\0", b"CREATE a\nb", b"CREATE a\rb", b'CREATE "a\nb"'])
def test_nul_and_bare_line_ends(beta, box, line):
    with beta.imap_raw(box) as c:
        c.append("INBOX", message(X, box))
        c.ok("SELECT INBOX")
        c.send(b"z " + line + b"\r\n")
        got = c.response()
        assert got.startswith((b"z BAD", b"z NO", b"* BAD")), got
        names = {r for r in beta.imaplib(box).list()[1]}
    assert not any(b"\0" in n or b"a" == n[-1:] for n in names)


def test_append_with_nul_is_refused(beta, box):
    with beta.imap_raw(box) as c:
        assert c.append("INBOX", b"Subject: a\r\n\r\nb\0c\r\n").startswith((b"NO", b"BAD"))
        c.ok("NOOP")
    assert beta.messages(box) == []


def test_append_beyond_the_limit(beta, box):
    with Grows(beta), beta.imap_raw(box) as c:
        c.send(b"a APPEND INBOX {4294967295}\r\n")
        got = c.response()
        assert re.match(rb"a (NO|BAD) \[TOOBIG\]", got), got
        c.ok("NOOP")


def test_large_append_costs_no_memory(beta, box):
    body = b"Subject: large\r\n\r\n" + (b"y" * 76 + b"\r\n") * (40 * MIB // 78)
    with Grows(beta, 32 * MIB), beta.imap_raw(box) as c:
        assert c.append("INBOX", body).startswith(b"OK")
        c.ok("SELECT INBOX")
        seen = c.ok("FETCH 1 (RFC822.SIZE BODY.PEEK[]<%d.1000>)" % (30 * MIB))
        assert b"RFC822.SIZE %d" % len(body) in seen[0]
        assert body[30 * MIB:30 * MIB + 1000] in seen[0]
    assert beta.messages(box) == [body]


# ------------------------------------------------------------------ names

@pytest.mark.parametrize("name", [
    "../x", "a/../../b", "/etc/passwd", "~root", ".", "..", "a//b", "/a", "a/", "../../../../tmp/x",
    "mail.db", "blobs/x", "a" * 3000, "&", "&AAAAAA", "&Jjo", "&AGE-", "a&-b", "%", "*", "\x7f",
    "&2AA-", "INBOX/../../x", "-rf", "nul\\", "inbox", "INBOX", "..\\x", "&AC8-", "&AAA-x"])
def test_names_stay_inside(beta, box, name):
    """Made as a mere name, or refused; either way no file appears anywhere but the account's."""
    def files():
        top = [os.path.join(b, n) for b, d, f in os.walk(os.path.join(beta.dir, "data"))
               for n in d + f if not b.startswith(os.path.join(beta.dir, "data", "accounts"))]
        account = [r["id"] for r in beta.ask("account list") if r["address"] == box][0]
        inside = os.path.join(beta.dir, "data", "accounts", account[:2], account)
        return sorted(p for p in top if not re.search(r"events|spool|queue|-wal|-shm", p)), \
            sorted(p for p in os.listdir(inside) if "-" not in p)
    before = files()
    quoted = name.replace("\\", "\\\\")
    with beta.imap_raw(box) as c:
        for line in (f'CREATE "{quoted}"', f'SUBSCRIBE "{quoted}"', f'RENAME "{quoted}" "{quoted}2"',
                     f'SELECT "{quoted}2"', f'DELETE "{quoted}2"', f'STATUS "{quoted}" (MESSAGES)'):
            _, final = c.cmd(line)
            assert re.match(rb"(OK|NO|BAD)", final), final
        c.ok("NOOP")
    assert files() == before
    assert not os.path.exists("/tmp/x")


def test_twins_in_case_and_normal_form(beta, box):
    """INBOX is one in any case; other names are what they are, each once."""
    with beta.imap_raw(box) as c:
        assert c.cmd("CREATE inbox")[1].startswith(b"NO")
        c.ok("CREATE Twin")
        c.ok("CREATE twin")
        assert c.cmd("CREATE Twin")[1].startswith(b"NO")
        assert len([r for r in c.ok('LIST "" *') if r.lower().endswith((b" twin", b' "twin"'))]) == 2


def test_nobody_sees_another_account(beta, box):
    other, _ = beta.account()
    with beta.imap_raw(other) as c:
        c.append("INBOX", message(X, other, "secret"))
        c.ok("CREATE Private")
    with beta.imap_raw(box) as c:
        for name in (f"user/{other}", f"~{other}", f"#user/{other}", f"Other Users/{other}",
                     f"/{other}/INBOX", "Private", f"../{other}/Private"):
            assert c.cmd(f'SELECT "{name}"')[1].startswith(b"NO"), name
            assert c.cmd(f'STATUS "{name}" (MESSAGES)')[1].startswith(b"NO"), name
        assert not any(b"Private" in r for r in c.ok('LIST "" *'))


# ------------------------------------------------------------------ MIME bombs

def nested(depth):
    out = ["Subject: nested"]
    for i in range(depth):
        out.append(f"Content-Type: multipart/mixed; boundary=b{i}\r\n\r\n--b{i}")
    return ("\r\n".join(out) + "\r\n\r\nx\r\n").encode()


def wide(n, head=""):
    return (f"Subject: wide\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
            + f"--x\r\n{head}\r\n" * n + "--x--\r\n").encode()


BOMBS = {
    "nested multiparts": lambda: nested(100000),
    "empty parts": lambda: wide(1000000),
    "message in message": lambda: b"Content-Type: message/rfc822\r\n\r\n" * 10000 + b"\r\nx\r\n",
    "parts without end": lambda: b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" +
        b"--x\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n" * 50000,
    "prefix of a boundary": lambda: b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"".join(
        b"--" + b"a" * i + b"\r\n\r\n" for i in range(1, 1000)),
    "near boundaries": lambda: b"Content-Type: multipart/mixed; boundary=" + b"a" * 70 +
        b"\r\n\r\n" + (b"--" + b"a" * 69 + b"\r\n") * 100000,
    "unterminated comment": lambda: b"From: " + b"(" * 500000 + b"\r\nSubject: x\r\n\r\nx\r\n",
    "comment that ends in a backslash": lambda: b"From: a@b.test (x\\\r\nDate: (\\\r\n\r\nx\r\n",
    "many addresses": lambda: b"To: " + b"a@b.test,\r\n " * 300000 + b"c@d.test\r\n\r\nx\r\n",
    "many To fields": lambda: b"To: a@b.test\r\n" * 200000 + b"\r\nx\r\n",
    "empty groups": lambda: b"To: " + b"g:;," * 200000 + b"\r\n\r\nx\r\n",
    "nested groups": lambda: b"To: " + b"g:" * 200000 + b";\r\n\r\nx\r\n",
    "one long header": lambda: b"Subject: " + b"x" * 20000000 + b"\r\n\r\nx\r\n",
    "header lines": lambda: b"X: y\r\n" * 2000000 + b"\r\nx\r\n",
    "folded": lambda: b"Subject: a\r\n" + b" b\r\n" * 1000000 + b"\r\nx\r\n",
    "parameters": lambda: b"Content-Type: text/plain" + b"".join(
        b";\r\n filename*%d*=x" % i for i in range(100000)) + b"\r\n\r\nx\r\n",
    "same parameter": lambda: b"Content-Type: text/plain" + b"; charset=x" * 100000 + b"\r\n\r\nx\r\n",
    "encoded words": lambda: b"Subject: " + b"=?utf-8?q?a?= " * 200000 + b"\r\n\r\nx\r\n",
    "references": lambda: b"References: " + b"<a@b>\r\n " * 200000 + b"\r\n\r\nx\r\n",
    "no header end": lambda: b"A: b\r\n" * 100000,
    "only line ends": lambda: b"\r\n" * 1000000,
    "quotes": lambda: b'To: "' + b'\\"' * 500000 + b"\r\n\r\nx\r\n",
}


HEADER_LIMIT = 256 * 1024  # bytes; a longer header is refused, since it could not be checked


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_is_delivered_and_read(beta, name):
    """However wild its inside, it is a message like another: in, and out, unharmed and soon."""
    box, _ = beta.account()
    bomb = BOMBS[name]()
    header = bomb.find(b"\r\n\r\n")
    if not 0 <= header < HEADER_LIMIT and not bomb.startswith(b"\r\n"):
        with Grows(beta), beta.smtp_in() as s:
            s.envelope(X, box)
            start = time.monotonic()
            assert s.body(bomb).startswith("552 5.3.4")
            assert time.monotonic() - start < 10
        # and one that is just small enough goes the whole way
        bomb = bomb[:HEADER_LIMIT - 10000].rpartition(b"\r\n")[0] or bomb[:HEADER_LIMIT - 10000]
        bomb += b"\r\n\r\nx\r\n"
    with Grows(beta, 160 * MIB):
        with beta.smtp_in() as s:
            start = time.monotonic()
            s.deliver(X, box, bomb)
            assert time.monotonic() - start < 10, "taking it"
        with beta.imap_raw(box) as c:
            c.ok("SELECT INBOX")
            for item in ("(ENVELOPE BODYSTRUCTURE RFC822.SIZE)", "BODY.PEEK[HEADER]",
                         "BODY.PEEK[1]<0.100>", "BODY.PEEK[HEADER.FIELDS (SUBJECT TO)]<0.1000>",
                         "BODY.PEEK[1.1.1.1.1.MIME]<0.100>"):
                start = time.monotonic()
                _, final = c.cmd("FETCH 1 " + item)
                assert final.startswith((b"OK", b"NO")), final[:200]
                assert time.monotonic() - start < 5, item
            start = time.monotonic()
            c.ok("SEARCH TEXT needle FROM a SUBJECT b")
            assert time.monotonic() - start < 5, "searching it"
    got, = beta.messages(box)
    assert got.endswith(bomb)


# ------------------------------------------------------------------ races

def test_uids_under_many_hands(beta):
    """Six clients append, copy, move, flag and expunge; a watcher sees one consistent story."""
    box, _ = beta.account()
    workers, rounds, failures = 6, 25, []
    with beta.imap_raw(box) as c:
        c.ok("CREATE Other")

    def work(n):
        rng = random.Random(n)
        try:
            with beta.imap_raw(box) as c:
                c.ok("SELECT INBOX")
                for i in range(rounds):
                    final = c.append("INBOX", message(X, box, f"w{n}-{i}"))
                    assert final.startswith(b"OK [APPENDUID "), final
                    uid = int(re.search(rb"APPENDUID \d+ (\d+)", final)[1])
                    c.ok("NOOP")
                    what = rng.randrange(4)
                    if what == 0:
                        c.ok(f"UID COPY {uid} Other")
                    elif what == 1:
                        c.ok(f"UID MOVE {uid} Other")
                    elif what == 2:
                        c.ok(rf"UID STORE {uid} +FLAGS (\Deleted)")
                        c.ok(f"UID EXPUNGE {uid}")
                    else:
                        c.ok(rf"UID STORE {uid} +FLAGS.SILENT (\Seen $w{n})")
                    done[n].append((i, uid, what))
        except Exception as e:  # noqa: BLE001 (any failure of a thread is the test's)
            failures.append(repr(e))

    done = {n: [] for n in range(workers)}
    watcher = beta.imap_raw(box)
    watcher.ok("SELECT INBOX")
    threads = [threading.Thread(target=work, args=(n,)) for n in range(workers)]
    view, uids = 0, []

    def listen(rows):
        """Follows EXISTS and EXPUNGE as RFC 3501 7 tells."""
        nonlocal view
        for r in rows:
            m = re.match(rb"\* (\d+) (EXISTS|EXPUNGE)", r)
            if m and m[2] == b"EXISTS":
                assert int(m[1]) >= view, "EXISTS may not shrink the mailbox"
                view = int(m[1])
            elif m:
                assert 1 <= int(m[1]) <= view
                view -= 1
    for t in threads:
        t.start()
    while any(t.is_alive() for t in threads):
        listen(watcher.ok("NOOP"))
        rows = watcher.ok("UID FETCH 1:* (FLAGS)")
        listen(rows)
        time.sleep(0.01)
    for t in threads:
        t.join()
    assert not failures, failures
    listen(watcher.ok("NOOP"))

    everything = [(uid, n, i, what) for n in done for i, uid, what in done[n]]
    assert len({uid for uid, *_ in everything}) == workers * rounds, "a UID was given twice"
    for n in done:
        given = [uid for _, uid, _ in done[n]]
        assert given == sorted(given)
    left = sorted(uid for uid, _, _, what in everything if what in (0, 3))
    seen = watcher.ok("UID SEARCH ALL")
    assert [int(u) for u in seen[-1].split()[2:]] == left and view == len(left)
    got = {re.search(rb"Subject: (\S+)", m)[1].decode() for m in beta.messages(box)}
    assert got == {f"w{n}-{i}" for _, n, i, what in everything if what in (0, 3)}
    other = sorted(re.search(rb"Subject: (\S+)", m)[1].decode() for m in beta.messages(box, "Other"))
    assert other == sorted(f"w{n}-{i}" for _, n, i, what in everything if what in (0, 1))
    status = watcher.ok("STATUS Other (UIDNEXT MESSAGES)")[0]
    assert int(re.search(rb"UIDNEXT (\d+)", status)[1]) == len(other) + 1
    watcher.close()


def test_delivery_while_pop3_is_open(beta, box):
    """The maildrop is what it was when the session began (RFC 1939 8)."""
    with beta.smtp_in() as s:
        s.deliver(X, box, message(X, box, "one"))
        c = beta.poplib(box)
        s.deliver(X, box, message(X, box, "two"))
    assert c.stat()[0] == 1
    c.dele(1)
    with beta.imap_raw(box) as i:
        i.ok("SELECT INBOX")
        i.ok(r"STORE 1 +FLAGS (\Deleted)")
        i.ok("EXPUNGE")
    c.quit()
    assert [b"two" in m for m in beta.messages(box)] == [True]


def test_idle_tells_at_once(beta, box):
    """Ten watchers hear of each message, none hears of nothing."""
    watchers = []
    for _ in range(10):
        c = beta.imap_raw(box)
        c.ok("SELECT INBOX")
        c.send(b"i IDLE\r\n")
        assert c.response().startswith(b"+")
        watchers.append(c)
    with beta.smtp_in() as s:
        for n in range(1, 4):
            s.deliver(X, box, message(X, box))
            for c in watchers:
                while True:
                    got = c.response()
                    if got.endswith(b"EXISTS"):
                        break
                    assert got.startswith(b"* "), got
                assert got == b"* %d EXISTS" % n
    for c in watchers:
        c.send(b"DONE\r\n")
        assert c.until(b"i")[1].startswith(b"OK")
        c.close()


# ------------------------------------------------------------------ guessing

def test_guessing_over_imap_is_cut_off(beta):
    with beta.imap_raw() as c:
        for i in range(50):
            c.send(b"a LOGIN dave@beta.test wrong%d\r\n" % i)
            got = c.response()
            if got is None or got.startswith(b"* BYE"):
                break
            assert got.startswith(b"a NO [AUTHENTICATIONFAILED]"), got
        assert 1 <= i < 10
    beta.imaplib("dave@beta.test").logout()


def test_guessing_over_pop3_is_cut_off(beta, lab):
    with Raw("127.0.0.1", beta.pop3s, tls=lab.tls) as c:
        c.line()
        for i in range(50):
            try:
                c.send(b"USER dave@beta.test\r\nPASS wrong\r\n")
                got = [c.line(), c.line()]
            except OSError:
                break
            if None in got:
                break
            assert got[1].startswith(b"-ERR")
        assert 1 <= i < 10
    beta.poplib("dave@beta.test").quit()


def test_known_and_unknown_names_answer_alike(beta):
    """In words, and roughly in time."""
    times, words = {}, {}
    for name in ("dave@beta.test", "nobody-of-that-name@beta.test", "x@nowhere.test"):
        times[name] = []
        for _ in range(4):
            with beta.imap_raw() as c:
                start = time.monotonic()
                words[name] = c.cmd(f"LOGIN {name} wrong")[1]
                times[name].append(time.monotonic() - start)
    assert len(set(words.values())) == 1
    best = [min(t) for t in times.values()]
    assert max(best) < 5 * min(best) + 0.005, times


def test_garbage_for_each_mechanism(beta):
    junk = [b"", b"=", b"*", b"A===", b"\xff", base64.b64encode(b"\0" * 500), b"A" * 4000,
            base64.b64encode(b"\0dave@beta.test\0"), base64.b64encode(b"n,,n=dave@beta.test,r=")]
    for mechanism in (b"PLAIN", b"LOGIN", b"SCRAM-SHA-256", b"NTLM", b"ANONYMOUS"):
        for g in junk:
            with beta.imap_raw() as c:
                c.send(b"a AUTHENTICATE " + mechanism + b"\r\n")
                got = c.response()
                for _ in range(3):
                    if got is None or not got.startswith(b"+"):
                        break
                    c.send(g + b"\r\n")
                    got = c.response()
                assert got is None or re.match(rb"(a (NO|BAD)|\* BYE|\* BAD)", got), (g, got)
    beta.imaplib("dave@beta.test").logout()


def test_pop3_hostile_commands(beta, box):
    with beta.smtp_in() as s:
        s.deliver(X, box, message(X, box))
    c = beta.poplib(box)
    sock = Raw.__new__(Raw)
    sock.sock, sock.data = c.sock, b""
    for line in (b"RETR 0", b"RETR 2", b"RETR -1", b"RETR 99999999999999999999", b"RETR 1 1",
                 b"TOP 1", b"TOP 1 -1", b"TOP 2 0", b"LIST x", b"UIDL 0", b"DELE 5", b"X", b"",
                 b"RETR 1\0", b"\0", b"USER a", b"PASS b", b"STLS", b"\xff" * 200, b"LIST 1 2 3"):
        sock.send(line + b"\r\n")
        assert sock.line().startswith(b"-ERR"), line
    sock.send(b"TOP 1 4294967295\r\n")
    assert sock.line().startswith(b"+OK")
    while sock.line() != b".":
        pass
    sock.send(b"NOOP\r\n")
    assert sock.line().startswith(b"+OK")
    c.close()


def test_slow_reader_of_a_large_fetch(beta):
    """It is paused, not buffered; others go on."""
    box, _ = beta.account()
    body = b"Subject: large\r\n\r\n" + (b"z" * 76 + b"\r\n") * (30 * MIB // 78)
    with beta.imap_raw(box) as c:
        assert c.append("INBOX", body).startswith(b"OK")
    with Grows(beta, 64 * MIB):
        slow = []
        for _ in range(5):
            c = beta.imap_raw(box)
            c.ok("SELECT INBOX")
            c.send(b"f FETCH 1 BODY.PEEK[]\r\n")
            slow.append(c)
        time.sleep(1)
        beta.imaplib("dave@beta.test").logout()
    got = slow[0].response()
    assert body in got
    for c in slow:
        c.close()
