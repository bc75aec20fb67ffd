"""Messages of many shapes whose bytes must arrive as they were sent."""

import base64
import hashlib
import random

WORDS = "post rider letter stamp road inn horse bag seal ledger bridge toll".split()


def _prose(rng, lines):
    return "".join(" ".join(rng.choices(WORDS, k=rng.randint(3, 12))) + "\r\n" for _ in range(lines)).encode()


def _plain(rng):
    return b"", _prose(rng, rng.randint(1, 60))


def _empty(rng):
    return b"", b""


def _dots(rng):
    lines = [b".", b"..", b".a", b"", b"...b.", b" .", b".\t"]
    return b"", b"".join(rng.choice(lines) + b"\r\n" for _ in range(40)) + b".\r\n"


def _eight_bit(rng):
    text = "Grüße aus Köln, déjà vu, žluťoučký kůň, 日本語\r\n" * rng.randint(1, 20)
    return (b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n",
            text.encode())


def _odd_bytes(rng):
    octets = bytes(b for b in range(1, 256) if b not in (10, 13))
    return (b"MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: 8bit\r\n",
            octets + b"\r\n" + bytes(rng.choices(octets, k=500)) + b"\r\n")


def _longest_lines(rng):
    """998 octets, the most that RFC 5322 2.1.1 allows, and a dot in front so that stuffing makes it one more."""
    return b"", b"x" * 998 + b"\r\n." + b"y" * 997 + b"\r\n"


def _blank_lines(rng):
    return b"", b"\r\n" * 50 + b"end\r\n" + b"\r\n" * 50


def _trailing_space(rng):
    return b"", b"spaces   \r\ntab\t\r\n   \r\n-- \r\n"


def _folded_header(rng):
    return (b"X-Folded: one\r\n two\r\n\tthree\r\nX-Empty:\r\nx-case: kEpT\r\nX-Many: "
            + b"\r\n ".join(b"part%d" % i for i in range(200)) + b"\r\n", b"text\r\n")


def _from_line(rng):
    return b"", b"From the start\r\n>From quoted\r\n\r\nFrom after a blank\r\n"


def _parts(rng):
    part = b"--b\r\nContent-Type: text/plain\r\n\r\n" + _prose(rng, 5)
    return (b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n', b"preamble\r\n" + part * 3 + b"--b--\r\n")


def _overlong_lines(rng):
    """Beyond what RFC 5322 allows, as programs write all the same."""
    return b"X-Long: " + b"v" * 3000 + b"\r\n", b"q" * 2047 + b"\r\n" + b"r" * 2048 + b"\r\n" + b"." * 70000 + b"\r\n"


def _big_header(rng):
    return (b"".join(b"X-Field-%d: %s\r\n" % (i, b" ".join(w.encode() for w in rng.choices(WORDS, k=12)))
                     for i in range(400)), b"after a large header\r\n")


def _nested(rng):
    inner = b"From: <a@far.test>\r\nSubject: inner\r\n\r\n.\r\nFrom here\r\n"
    blob = base64.encodebytes(rng.randbytes(rng.randint(1, 3000))).replace(b"\n", b"\r\n")
    return (b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="=_o.1"\r\n',
            b'--=_o.1\r\nContent-Type: multipart/alternative; boundary="=_o.1.2"\r\n\r\n'
            b"--=_o.1.2\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=2E=\r\n.=0D=0A\r\n--=_o.1.2--\r\n"
            b"--=_o.1\r\nContent-Type: message/rfc822\r\n\r\n" + inner +
            b"\r\n--=_o.1\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + blob +
            b"--=_o.1--\r\nepilogue\r\n")


def _eight_bit_header(rng):
    return ("X-Name: Jürgen Müller\r\n".encode() + b"X-Latin: caf\xe9\r\n", b"text\r\n")


def _large(rng):
    return b"", _prose(rng, 1) + (b"0123456789abcdef" * 4 + b"\r\n") * (300 * 1024 // 66)


SHAPES = [_plain, _empty, _dots, _eight_bit, _odd_bytes, _longest_lines, _blank_lines, _trailing_space,
          _folded_header, _from_line, _parts, _overlong_lines, _big_header, _nested, _eight_bit_header]


def digest(body):
    return hashlib.sha256(body).hexdigest().encode()


def whole(m):
    """Whether the body is what the header says."""
    head, _, body = m.partition(b"\r\n\r\n")
    return b"\r\nX-Digest: " + digest(body) + b"\r\n" in head


def make(n, sender, to):
    """Message N: its bytes begin with "X-Number: N", so that what stands before it was added on the way.  It carries
    a digest of its body."""
    rng = random.Random(n)
    shape = _large if n % 40 == 7 else SHAPES[n % len(SHAPES)]
    header, body = shape(rng)
    return (b"X-Number: %d\r\nX-Digest: %s\r\nFrom: <%s>\r\nTo: <%s>\r\nSubject: %s %d\r\nDate: Thu, 01 Jan 2026 12:00:00 +0000\r\n"
            b"Message-ID: <%d.%s@postfix.test>\r\n%s\r\n%s"
            % (n, digest(body), sender.encode(), to.encode(), shape.__name__[1:].encode(), n, n, shape.__name__[1:].encode(),
               header, body))
