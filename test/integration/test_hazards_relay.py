"""Servers that answer what they should not, and what must never leave us."""

import ssl

import pytest

from conftest import ZONE
from lab import Lab, Sink, message, unstuff, wait_for

from test_mail import events, submit_from_new

STEPS = ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "."]
FLOOD_MAX = 1 << 30


@pytest.fixture(scope="module")
def lab():
    with Lab(zone=ZONE) as it:
        yield it


def deferred(host, to):
    """The reason why TO waits, after one attempt."""
    rcpt, = wait_for(lambda: [r for q in host.queue(to=to) for r in q["recipients"] if r["attempts"] == 1
                              and not r["in_delivery"]])
    assert rcpt["status"].startswith("4."), rcpt
    return rcpt["reply"]


def dropped(host, to):
    assert host.ask("queue drop", to=to) == [{"recipients": 1}]


class Flood:
    """Says WORDS again and again, up to a gigabyte; `said` counts octets, -1 once it said them all."""

    def __init__(self, words, once=b""):
        self.words, self.once, self.said, self.over = words, once, 0, False

    def __call__(self, sink, sock, line):
        piece = self.words * (65536 // len(self.words))
        try:
            sock.sendall(self.once)
            while self.said < FLOOD_MAX:
                sock.sendall(piece)
                self.said += len(piece)
        except OSError:
            self.over = True
        return False


def reply_code(step):
    return {"greeting": b"220", "DATA": b"354"}.get(step, b"250")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["line", "lines"])
def test_endless_reply(alpha, place, step, kind):
    """A gigabyte as a reply, in one line or in many: the connection ends long before."""
    code = reply_code(step)
    flood = Flood(b"x", code + b" ") if kind == "line" else Flood(code + b"-more\r\n")
    to = f"x@{place.domain}"
    with place.sink({step: flood}) as sink:
        submit_from_new(alpha, to)
        assert "endless" in deferred(alpha, to)
        wait_for(lambda: flood.over, what="the end of the flood")
        assert sink.mails == [] and flood.said < 64 << 20, "more than the sockets' buffers were taken"
    dropped(alpha, to)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("words", [
    b"%s-one\r\n550 two\r\n",  # the code changes
    b"%s-one\r\n%s_two\r\n",
    b"hello\r\n",
    b"999 what\r\n",
    b"\r\n",
    b"-1 no\r\n",
], ids=["code", "underscore", "word", "999", "empty", "minus"])
def test_replies_that_are_none(alpha, place, step, words):
    code = reply_code(step)
    to = f"x@{place.domain}"
    with place.sink({step: words.replace(b"%s", code)}) as sink:
        submit_from_new(alpha, to)
        assert "cannot be read" in deferred(alpha, to)
        assert sink.mails == [] or step == "."
    dropped(alpha, to)


@pytest.mark.parametrize("words, reply", [
    (b"250 2.0.0 a\0b\x1b[2J\x07\r\n", "250 2.0.0 a?b?[2J?"),
    (b"250 2.0.0\r\n", "250 2.0.0"),  # an enhanced code and no text
    (b"250\r\n", "250"),
    (b"250 5.0.0 odd\r\n", "250 5.0.0 odd"),  # a code of another class is text
    (b"250 ok\n", "250 ok"),  # without CR
], ids=["control", "code only", "bare", "class", "LF"])
def test_odd_but_clear_replies(alpha, place, words, reply):
    to = f"x@{place.domain}"
    with place.sink({".": words}) as sink:
        _, _, trace = submit_from_new(alpha, to)
        sink.wait()
        done, = wait_for(lambda: events(alpha.trace(trace), "rcpt.delivered"))
    assert done["reply"] == reply
    assert b"\x1b" not in alpha.log_text() and b"\0" not in alpha.log_text()


def test_accepted_before_it_was_sent(alpha, place):
    """A 250 that comes with the 354 is no promise: the peer cannot have the message."""
    to = f"x@{place.domain}"

    def data(sink, sock, line):
        sock.sendall(b"354 go\r\n250 2.0.0 taken\r\n")
        return False

    with place.sink({"DATA": data}):
        submit_from_new(alpha, to)
        assert "before it has the whole message" in deferred(alpha, to)
    dropped(alpha, to)


def test_refused_in_the_middle(alpha, place):
    """A refusal counts at once; the rest is not sent."""
    to = f"x@{place.domain}"
    took = []

    def data(sink, sock, line):
        sock.sendall(b"354 go\r\n")
        took.append(len(sock.recv(65536)))
        sock.sendall(b"552 5.3.4 too much\r\n")
        try:
            while got := sock.recv(1 << 20):
                took.append(len(got))
        except OSError:
            pass
        return False

    with place.sink({"DATA": data}):
        _, _, trace = submit_from_new(alpha, to, text=("x" * 70 + "\r\n") * 300000)
        failed, = wait_for(lambda: events(alpha.trace(trace), "rcpt.failed"))
    assert failed["status"] == "5.3.4"
    assert sum(took) < 16 << 20


def test_words_after_the_farewell(alpha, place):
    to = f"x@{place.domain}"
    with place.sink({"QUIT": b"221 bye\r\n250 and more\r\n", ".": b"250 ok\r\n"}) as sink:
        for n in (1, 2):
            submit_from_new(alpha, to)
            sink.wait(n)
        wait_for(lambda: any(line.startswith(b"QUIT") for line in sink.lines))
    wait_for(lambda: alpha.queue(to=to) == [])


def test_unasked_words(alpha, place):
    """Who speaks between two messages is not believed any more."""
    to = f"x@{place.domain}"
    with place.sink({".": b"250 ok\r\n250 of the next one\r\n"}) as sink:
        for n in (1, 2):
            submit_from_new(alpha, to)
            sink.wait(n)
        assert sink.connections == 2


def server_context(host):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{host.dir}/cert.pem", f"{host.dir}/key.pem")
    return context


def test_words_in_clear_behind_starttls(lab, alpha, beta, place):
    """What somebody adds to the 220 in clear is not an answer to the EHLO inside TLS."""
    to = f"x@{place.domain}"
    with place.sink({"STARTTLS": b"220 go\r\n250-evil\r\n250 SIZE 1\r\n"},
                    tls=server_context(beta)) as sink:
        _, sent, trace = submit_from_new(alpha, to)
        (_, _, body), = sink.wait()
        done = wait_for(lambda: events(alpha.trace(trace), "rcpt.delivered") and alpha.trace(trace))
    assert unstuff(body).endswith(sent)
    assert events(done, "relay.tls") and len([x for x in sink.lines if x.startswith(b"EHLO")]) == 2


def test_a_peer_that_hangs_up_everywhere(alpha, place):
    """At each step: the message waits, and none is lost."""
    to = f"x@{place.domain}"
    for step in STEPS:
        with place.sink({step: lambda *_: False}) as sink:
            submit_from_new(alpha, to)
            assert deferred(alpha, to)
            assert step == "." or sink.mails == []
        dropped(alpha, to)


# ------------------------------------------------------------------ smuggling

ENDS = [a + b"." + b for a in (b"\n", b"\r", b"\r\n", b"\n\r", b"\0\r\n", b"\r\0\n")
        for b in (b"\n", b"\r", b"\r\n", b"\n\r", b"\r\r\n", b"\r\0\n")]
TAIL = b"MAIL FROM:<evil@x.test>\r\nRCPT TO:<victim@x.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"


def submit_raw(s, address, to, body, how):
    """BODY by DATA (dots doubled as a client does) or BDAT; the answer."""
    s.envelope(address, to)
    if how == "DATA":
        s.want("354", "DATA")
        s.send(body.replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n")
    else:
        s.send(b"BDAT %d LAST\r\n" % len(body) + body)
    got = s.reply()
    if not got.startswith("250"):
        s.want("250", "RSET")
    return got


@pytest.mark.parametrize("out", ["DATA", "BDAT"])
@pytest.mark.parametrize("how", ["DATA", "BDAT"])
def test_nothing_is_smuggled_out(how, out):
    """Every end of data that some server somewhere takes for one: refused on the way in, or one message on the way
    out, without a CR or LF of its own."""
    offer = b"250-sink\r\n250-CHUNKING\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
    to, address = "x@h20.test", "alice@alpha.test"
    with Lab(zone=ZONE) as lab:
        alpha = lab.alpha
        if out == "BDAT":
            alpha.settings("relay:\n  chunking: yes\n")
        with Sink(lab.address(20), alpha.mx, {"EHLO": offer}) as sink, alpha.submit(address) as s:
            taken = 0
            for end in ENDS:
                body = message(address, to, text="before").replace(b"before", b"before" + end + TAIL)
                taken += submit_raw(s, address, to, body, how).startswith("250")
            assert 1 <= taken < len(ENDS)
            sink.wait(taken)
            wait_for(lambda: alpha.queue() == [])
        assert len(sink.mails) == taken
        for sender, rcpts, body in sink.mails:
            assert rcpts == [to] and sender == address
            rest = body.replace(b"\r\n", b"")
            assert b"\r" not in rest and b"\n" not in rest and b"\0" not in rest
        assert not [line for line in sink.lines if b"evil" in line]
        used = {line.split()[0] for line in sink.lines if line.split()[0] in (b"DATA", b"BDAT")}
        assert used == {out.encode()}
