"""Messages of many shapes whose bytes must arrive as they were sent."""

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


def _large(rng):
    return b"", _prose(rng, 1) + (b"0123456789abcdef" * 4 + b"\r\n") * (300 * 1024 // 66)


SHAPES = [_plain, _empty, _dots, _eight_bit, _odd_bytes, _longest_lines, _blank_lines, _trailing_space,
          _folded_header, _from_line, _parts]


def make(n, sender, to):
    """Message N: its bytes begin with "X-Number: N", so that what stands before it was added on the way."""
    rng = random.Random(n)
    shape = _large if n % 40 == 7 else SHAPES[n % len(SHAPES)]
    header, body = shape(rng)
    return (b"X-Number: %d\r\nFrom: <%s>\r\nTo: <%s>\r\nSubject: %s %d\r\nDate: Thu, 01 Jan 2026 12:00:00 +0000\r\n"
            b"Message-ID: <%d.%s@postfix.test>\r\n%s\r\n%s"
            % (n, sender.encode(), to.encode(), shape.__name__[1:].encode(), n, n, shape.__name__[1:].encode(),
               header, body))
