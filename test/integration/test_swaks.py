"""What swaks gets on each port, by each way to TLS, with each login, alone or pipelined: one table of expected ends."""

import itertools

import pytest

from lab import run

ALICE, FAR = "alice@alpha.test", "ann@far.test"
PORTS = {"25": "smtp", "587": "submission", "465": "submissions"}
TLS = {"none": [], "STARTTLS": ["-tls"], "TLS": ["-tlsc"]}
PIPELINED = ([], ["--pipeline"])
LOGINS = ("none", "PLAIN", "LOGIN", "CRAM-MD5", "wrong password")

# Why swaks ends as it does (its exit codes).
DELIVERED, NO_BANNER, NO_MAIL, NO_LOGIN, NOT_OFFERED, NO_TLS = 0, 21, 23, 28, 28, 29


def expected(port, tls, login):
    """(exit code, what the server said about it)"""
    if tls == "TLS" and port != "465":
        return NO_TLS, ""  # it greets in clear
    if tls != "TLS" and port == "465":
        return NO_BANNER, ""  # it waits for a handshake
    if port == "25" or tls == "none":
        if login != "none":
            return NOT_OFFERED, ""  # swaks sends nothing to a server that offers no login
        return (DELIVERED, "250 2.0.0") if port == "25" else (NO_MAIL, "530 5.7.0")
    return {"none": (NO_MAIL, "530 5.7.0"), "CRAM-MD5": (NOT_OFFERED, ""),
            "wrong password": (NO_LOGIN, "535 5.7.8")}.get(login, (DELIVERED, "250 2.0.0"))


def login_words(alpha, login):
    if login == "none":
        return []
    mechanism, password = ("PLAIN", "guess") if login == "wrong password" else (login, alpha.password(ALICE))
    return ["--auth", mechanism, "--auth-user", ALICE, "--auth-password", password]


def swaks(lab, sender, *argv):
    return run(["swaks", "--timeout", "10", "--helo", "client.test", "--from", sender, "--to", "bob@alpha.test",
                *(["--tls-verify", "--tls-ca-path", lab.ca] if {"-tls", "-tlsc"} & set(argv) else []), *argv])


CASES = [case for case in itertools.product(PORTS, TLS, LOGINS, PIPELINED)
         # who waits in vain for a greeting gets no further, whatever else was asked for
         if not (case[0] == "465" and case[1] != "TLS" and (case[2] != "none" or case[3]))]


@pytest.mark.parametrize("port, tls, login, pipeline", CASES)
def test_swaks(lab, alpha, port, tls, login, pipeline):
    want, says = expected(port, tls, login)
    p = swaks(lab, ALICE if login != "none" else FAR, "--server", "127.0.0.1",
              "--port", str(getattr(alpha, PORTS[port])), *TLS[tls], *login_words(alpha, login), *pipeline,
              *(["--timeout", "1"] if want == NO_BANNER else []))
    assert p.returncode == want and says in p.stdout, p.stdout + p.stderr


LOCAL = {"LMTP": lambda h: ["--protocol", "LMTP", "--server", "127.0.0.1", "--port", str(h.lmtp)],
         "a socket of this machine": lambda h: ["--socket", f"{h.dir}/data/submit.sock"]}


@pytest.mark.parametrize("way, tls, pipeline", itertools.product(LOCAL, ("none", "STARTTLS"), PIPELINED))
def test_local_ways(lab, alpha, way, tls, pipeline):
    p = swaks(lab, FAR, *LOCAL[way](alpha), *TLS[tls], *pipeline)
    if way == "LMTP" or tls == "none":
        assert p.returncode == DELIVERED and "250 2.0.0 accepted" in p.stdout, p.stdout + p.stderr
    else:
        assert p.returncode == NO_TLS, "between two programs of one machine there is nothing to hide"
