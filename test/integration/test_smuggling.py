"""The whole matrix of false ends of data, by DATA and by chunks, at the MX port and through submission to the next
host.  The answer follows from the bytes alone: bare CR, bare LF or NUL is 550 5.6.0, everything else is one message."""

import itertools

import pytest

from lab import Sink, Smtp, message, unstuff

X = "x@sink.test"
ALICE = "alice@alpha.test"
ENDS = {"lf": b"\n", "cr": b"\r", "crlf": b"\r\n", "crcrlf": b"\r\r\n", "crlflf": b"\r\n\n", "lfcr": b"\n\r",
        "nul": b"\0", "nulcrlf": b"\0\r\n", "crnullf": b"\r\0\n", "crlfnul": b"\r\n\0", "vt": b"\x0b", "ff": b"\x0c",
        "nel": b"\x85", "ls": "\u2028".encode(), "space": b" \r\n", "tab": b"\t\r\n", "none": b""}
MATRIX = [ENDS[a] + dot + ENDS[b] for a, dot, b in itertools.product(ENDS, (b".", b".."), ENDS)]
REAL_END = b"\r\n.\r\n"


def clean(data):
    return not set(data.replace(b"\r\n", b"")) & set(b"\r\n\0")


def carrier(to, end):
    """A message with a second one behind a false end."""
    inner = b"MAIL FROM:<forged@sink.test>\r\nRCPT TO:<%s>\r\nDATA\r\nSubject: smuggled\r\n\r\nsmuggled\r\n" % to.encode()
    return message(X, to, "carrier") + b"text" + end + inner


def by_data(s, raw):
    s.want("354", "DATA")
    s.send(raw + b".\r\n")
    return s.reply()


def by_bdat(s, raw):
    s.send(b"BDAT %d LAST\r\n" % len(raw) + raw)
    return s.reply()


def by_chunks(s, raw):
    """Each octet of the false end in a chunk of its own."""
    at = raw.index(b"MAIL FROM") - 6
    pieces = [raw[:at], *(raw[i:i + 1] for i in range(at, at + 6)), raw[at + 6:]]
    for p in pieces:
        s.send(b"BDAT %d\r\n" % len(p) + p)
        assert s.reply().startswith("250 2.0.0")
    return s.cmd("BDAT 0 LAST")


# What each way of sending stands for on the wire of RFC 5321.
WAYS = {"DATA": by_data, "BDAT": by_bdat, "chunks": by_chunks}


@pytest.fixture(scope="module")
def neighbour(alpha):
    """A session beside the attacks, which is served all the time."""
    with alpha.smtp_in() as s:
        yield s


def cases(way):
    """DATA's real end would make the rest commands, which is no smuggling."""
    return [end for end in MATRIX if way != "DATA" or REAL_END not in b"text" + end + b"M"]


@pytest.fixture(scope="module")
def chunking(alpha):
    alpha.settings("relay:\n  chunking: yes\n")


def attack(s, way, sender, to):
    """All of the matrix in one session; how many were taken."""
    taken = 0
    for end in cases(way):
        raw = carrier(to, end)
        s.want("250 2.1.0", f"MAIL FROM:<{sender}>")
        s.want("250 2.1.5", f"RCPT TO:<{to}>")
        got = WAYS[way](s, raw)
        assert got.startswith("250 2.0.0" if clean(raw) else "550 5.6.0"), (end, got)
        assert s.want("250 2.0.0", "NOOP") and not s.data, "more answers than questions"
        taken += got.startswith("250")
    return taken


@pytest.mark.parametrize("way", WAYS)
def test_on_the_mx(alpha, neighbour, way):
    to, _ = alpha.account()
    with alpha.smtp_in() as s:
        taken = attack(s, way, X, to)
    got = alpha.messages(to)
    assert taken and len(got) == taken
    for m in got:
        assert clean(m) and m.count(b"Received: ") == 1 and b"MAIL FROM:<forged@" in m
    neighbour.want("250 2.0.0", "NOOP")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sink_takes", ["DATA", "BDAT"])
def test_through_us(lab, alpha, chunking, neighbour, way, sink_takes):
    """The next host sees no bare octet and no second message."""
    to = "victim@sink.test"
    ehlo = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n" + \
        (b"250-CHUNKING\r\n" if sink_takes == "BDAT" else b"") + b"250 SIZE 100000000\r\n"
    with Sink(lab.address(10), alpha.mx, {"EHLO": ehlo}) as sink:
        with alpha.submit(ALICE) as s:
            taken = attack(s, way, ALICE, to)
        alpha.wait_empty_queue()
        assert taken and len(sink.mails) == taken
        for sender, rcpts, body in sink.mails:
            assert (sender, rcpts) == (ALICE, [to]) and clean(body)
        commands = [line for line in sink.lines if line.startswith((b"MAIL", b"RCPT"))]
        assert len(commands) == 2 * taken and all(b"forged" not in c and b"\r\n" == c[-2:] for c in commands)
        assert [line for line in sink.lines if line.startswith(b"BDAT")] if sink_takes == "BDAT" else True
    neighbour.want("250 2.0.0", "NOOP")


@pytest.mark.parametrize("how", ["one octet at a time", "cut in the middle"])
def test_however_it_is_cut(alpha, how):
    """What the network makes of a false end changes nothing."""
    to, _ = alpha.account()
    with alpha.smtp_in() as s:
        for end in (b"\r\n.\r", b"\r\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r\n.\r\r\n"):
            raw = carrier(to, end)
            s.envelope(X, to)
            s.want("354", "DATA")
            at = raw.index(b"MAIL FROM")
            cuts = range(at - 6, at + 1) if how == "one octet at a time" else [at - 2]
            for a, b in zip([0, *cuts], [*cuts, len(raw)]):
                s.send(raw[a:b])
                s.sock.getpeername()  # each piece leaves by itself: TCP_NODELAY
            s.send(b".\r\n")
            assert s.reply().startswith("550 5.6.0")
    assert alpha.messages(to) == []


def test_binary_leaves_as_text(lab, alpha):
    """BINARYMIME may hold anything; to a host that takes text only it goes as text, or not at all (RFC 3030 3)."""
    to = "victim@sink.test"
    head = (f"From: <{ALICE}>\r\nTo: <{to}>\r\nSubject: binary\r\nDate: Thu, 01 Jan 2026 12:00:00 +0000\r\n"
            "Message-ID: <binary@test>\r\nMIME-Version: 1.0\r\n").encode()
    blob = b"\n.\nMAIL FROM:<forged@sink.test>\n\r.\r\0" + bytes(range(256)) + b"\r\n.\r\n"
    part = head + b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n" + blob
    with Sink(lab.address(10), alpha.mx) as sink:
        with alpha.submit(ALICE) as s:
            for raw, want in ((part, "250 2.0.0"), (head + b"X: a\nb\0c\r\n\r\n" + blob, "550 5.6.0")):
                s.want("250", f"MAIL FROM:<{ALICE}> BODY=BINARYMIME")
                s.want("250", f"RCPT TO:<{to}>")
                assert s.cmd("DATA").startswith("503 5.5.1")
                assert by_bdat(s, raw).startswith(want), raw
        alpha.wait_empty_queue()
        (_, _, body), = sink.mails
        assert clean(body) and b"base64" in unstuff(body)


def test_two_hosts_in_a_row(alpha, beta):
    """Through one of us into another: both read the same number of messages."""
    to, _ = beta.account()
    with alpha.submit(ALICE) as s:
        taken = attack(s, "chunks", ALICE, to)
    got = beta.wait_messages(to, taken)
    alpha.wait_empty_queue()
    assert len(beta.messages(to)) == taken
    assert all(clean(m) and m.count(b"with ESMTPS") >= 1 for m in got)


def test_by_lmtp_from_a_trusted_host(alpha):
    """The third door reads by the same rules."""
    to, _ = alpha.account()
    with Smtp("127.0.0.1", alpha.lmtp, ehlo=None) as s:
        s.want("250", "LHLO client.test")
        for end in (b"\r\n.\r", b"\n.\n", b"\r.\r", b"\n.\r\n"):
            s.envelope(X, to)
            got = by_data(s, carrier(to, end))
            assert got.startswith("550 5.6.0") and not s.data, got
    assert alpha.messages(to) == []
