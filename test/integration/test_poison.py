"""Poison: bytes in whose parsing core died are carried unparsed from then on; one message costs one job."""

import smtplib
import time

import pytest

from lab import Lab, wait_for

# The second message that a core parses ends it as a bug in the parser would.
FAULT = "mail.receive.parse:2:fault"


def message(subject):
    return (f"From: x@elsewhere.example\r\nTo: dave@beta.test\r\nSubject: {subject}\r\n"
            "Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\n"
            'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
            f"--b\r\n\r\n{subject}\r\n--b--\r\n").encode()


def send(host, body):
    with smtplib.SMTP("127.0.0.1", host.smtp, timeout=30) as s:
        s.ehlo("client.test")
        s.sendmail("x@elsewhere.example", ["dave@beta.test"], body)


@pytest.fixture
def faulty_lab(monkeypatch):
    monkeypatch.setenv("POSTRIDER_FAILPOINT", FAULT)
    with Lab() as lab:
        lab.may_die = True
        yield lab


def test_a_message_that_kills_core_is_carried_unparsed(faulty_lab):
    beta = faulty_lab.beta
    core = beta.roles()["core"]
    send(beta, message("harmless"))
    with pytest.raises((smtplib.SMTPException, OSError)):
        send(beta, message("deadly"))
    wait_for(lambda: beta.roles().get("core") not in (None, core), what="core's return")

    def again():  # the parent may wait a moment before it starts core again
        try:
            send(beta, message("deadly"))
            return True
        except (smtplib.SMTPException, OSError):
            time.sleep(0.1)
            return False

    wait_for(again, what="the message to be taken")
    stored = beta.wait_messages("dave@beta.test", 2)
    assert [m for m in stored if m.endswith(message("deadly"))], "byte for byte, though never parsed"
    assert any(r["event"] == "mail.poison" for r in beta.trace("dave@beta.test"))
    assert beta.ask("status")[0]["counters"]["poison"] == 1
    # It does not become a habit: another message is parsed again.
    send(beta, message("harmless too"))
    beta.wait_messages("dave@beta.test", 3)


def test_a_killed_core_makes_nothing_suspect(monkeypatch):
    monkeypatch.setenv("POSTRIDER_FAILPOINT", FAULT.replace(":fault", ""))
    with Lab() as lab:
        lab.may_die = True
        beta = lab.beta
        core = beta.roles()["core"]
        send(beta, message("harmless"))
        with pytest.raises((smtplib.SMTPException, OSError)):
            send(beta, message("unlucky"))
        wait_for(lambda: beta.roles().get("core") not in (None, core), what="core's return")
        wait_for(lambda: beta.ask("status"), what="core's answer")
        assert beta.ask("status")[0]["counters"]["poison"] == 0
