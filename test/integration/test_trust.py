"""Who stands behind a message, asked while it is accepted: SPF, DKIM, DMARC, ARC and the client's
name, over the lab's signed DNS.  dkimpy signs and judges."""

import base64
import os
import re
import subprocess

import dkim
import pytest
from nacl.signing import SigningKey

from lab import Lab, message, wait_for

KEY = SigningKey(b"\x07" * 32)
PEM_SEED = base64.b64encode(KEY._seed)
RECORD = "v=DKIM1; k=ed25519; p=" + base64.b64encode(bytes(KEY.verify_key)).decode()


def zone(sealer):
    """good: authentic both ways; strict: only its DKIM helps; soft: quarantine; loose: p=none."""
    rows = ["client.good.test A 127.0.0.1", "slow.test SERVFAIL", "_dmarc.slow.test SERVFAIL"]
    for name, spf, policy in (("good", "ip4:127.0.0.1", "reject"), ("strict", "ip4:192.0.2.1", "reject"),
                              ("soft", "ip4:192.0.2.1", "quarantine"), ("loose", "ip4:192.0.2.1", "none")):
        rows += [f'{name}.test TXT "v=spf1 {spf} -all"', f'_dmarc.{name}.test TXT "v=DMARC1; p={policy}"',
                 f"{name}.test MX 10 client.good.test", f'k._domainkey.{name}.test TXT "{RECORD}"']
    rows.append(f'k._domainkey.sealer.test TXT "v=DKIM1; p={sealer}"')
    return "\n".join(rows) + "\n"


@pytest.fixture(scope="module")
def rsa():
    pem = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, check=True).stdout
    der = subprocess.run(["openssl", "rsa", "-pubout", "-outform", "DER"], input=pem, capture_output=True, check=True).stdout
    return pem, base64.b64encode(der).decode()


@pytest.fixture(scope="module")
def beta(rsa):
    with Lab(zone=zone(rsa[1])) as lab:
        configure(lab.beta, "check: all", "sealers: sealer.test")
        yield lab.beta


def configure(host, *lines):
    path = os.path.join(host.dir, "postrider.yaml")
    with open(path) as f:
        text = re.sub(r"\ntrust:\n(  .*\n)*", "\n", f.read())
    with open(path, "w") as f:
        f.write(text + "\ntrust:\n" + "".join(f"  {line}\n" for line in lines))
    assert host.cli("reload").returncode == 0


def signed(text, domain):
    return dkim.sign(text, b"k", domain.encode(), PEM_SEED, signature_algorithm=b"ed25519-sha256",
                     canonicalize=(b"relaxed", b"relaxed")) + text


def send(beta, sender, text, to=None, helo="client.good.test"):
    to = to or beta.account()[0]
    with beta.smtp_in(ehlo=helo) as s:
        s.envelope(sender, to)
        return to, s.body(text)


def results(raw):
    """method -> result of our own field, which stands in the trace above everything else."""
    field = re.search(rb"\nAuthentication-Results: (.*?)\r\n(?![ \t])", raw, re.S)[1].decode()
    return field, dict(re.findall(r";\s*(\w+)=(\w+)", field))


def test_authentic(beta):
    text = signed(message("a@good.test", "x@beta.test"), "good.test")
    to, reply = send(beta, "a@good.test", text)
    assert reply.startswith("250"), reply
    raw = beta.wait_messages(to)[0]
    field, got = results(raw)
    assert got == {"spf": "pass", "dkim": "pass", "arc": "none", "dmarc": "pass", "iprev": "pass"}, field
    assert field.startswith("mx.beta.test;") and "header.from=good.test" in field
    assert b"(localhost [127.0.0.1])" in raw  # the resolver's own answer for loopback
    assert dkim.verify(raw, dnsfunc=lambda *a, **k: RECORD.encode())
    verdict = next(e for e in wait_for(lambda: beta.trace(reply.split()[-1])) if e["event"] == "trust.verdict")
    assert verdict["dmarc_record"] == "good.test" and verdict["spf_term"] == "ip4:127.0.0.1", verdict


@pytest.mark.parametrize("domain,dkim_of,code,mailbox", [
    ("strict.test", "strict.test", "250", "INBOX"),
    ("strict.test", None, "550 5.7.1", None),
    ("strict.test", "loose.test", "550 5.7.1", None),  # somebody else's signature does not count
    ("soft.test", None, "250", "Junk"),
    ("loose.test", None, "250", "INBOX"),
    ("nobody.alpha.test", None, "250", "INBOX"),  # no record, no policy
])
def test_policy(beta, domain, dkim_of, code, mailbox):
    text = message(f"a@{domain}", "x@beta.test")
    to, reply = send(beta, f"a@{domain}", signed(text, dkim_of) if dkim_of else text)
    assert reply.startswith(code), reply
    if mailbox:
        assert beta.wait_messages(to, mailbox=mailbox)
    else:
        assert "DMARC" in reply and domain in reply and not beta.messages(to)


def test_junk_through_the_queue(beta):
    """Several recipients go by the queue, which remembers where they belong."""
    one, two = beta.account()[0], beta.account()[0]
    with beta.smtp_in() as s:
        s.envelope("a@soft.test", one, two)
        assert s.body(message("a@soft.test", one)).startswith("250")
    for to in (one, two):
        assert beta.wait_messages(to, mailbox="Junk") and not beta.messages(to)


def test_dns_fails(beta):
    """Nobody is bounced because DNS does not answer."""
    to, reply = send(beta, "a@slow.test", message("a@slow.test", "x@beta.test"))
    assert reply.startswith("451 4.7.1") and "DMARC" in reply, reply
    assert not beta.messages(to)


def test_changed_on_the_way(beta):
    text = signed(message("a@strict.test", "x@beta.test", text="Pay 10.\r\n"), "strict.test")
    to, reply = send(beta, "a@strict.test", text.replace(b"Pay 10.", b"Pay 99."))
    assert reply.startswith("550 5.7.1") and "DKIM fail" in reply, reply


def test_large(beta):
    """The body is on disk when its signature is checked."""
    body = "0123456789abcdef" * 4 + "\r\n"
    text = signed(message("a@strict.test", "x@beta.test", text=body * 20000), "strict.test")
    to, reply = send(beta, "a@strict.test", text)
    assert reply.startswith("250"), reply
    raw = beta.wait_messages(to)[0]
    assert results(raw)[1]["dkim"] == "pass" and raw.endswith(text[-1000:])
    to, reply = send(beta, "a@strict.test", text[:-100] + b"X" + text[-99:])
    assert reply.startswith("550 5.7.1"), reply


def test_forged_results(beta):
    """A field that names us is taken out, one of others stays, whatever it looks like."""
    name = results(probe(beta))[0].split(";")[0]
    forged = f"Authentication-Results: {name}; dmarc=pass header.from=bank.test\r\n"
    folded = f'authentication-results:\r\n\t(c) "{name}" 1;\r\n\tspf=pass\r\n'
    other = "Authentication-Results: elsewhere.test; spf=fail\r\n"
    to, reply = send(beta, "a@loose.test", (forged + folded + other).encode() + message("a@loose.test", "x@beta.test"))
    assert reply.startswith("250"), reply
    raw = beta.wait_messages(to)[0]
    assert b"bank.test" not in raw and raw.lower().count(b"authentication-results:") == 2
    assert other.encode() in raw


def probe(beta):
    to, _ = send(beta, "a@loose.test", message("a@loose.test", "x@beta.test"))
    return beta.wait_messages(to)[0]


def test_arc_override(beta, rsa):
    """A list that we trust broke the signature, and sealed that it was good when it came."""
    text = b"Authentication-Results: lists.sealer.test; dmarc=pass header.from=strict.test\r\n" + \
        message("a@strict.test", "x@beta.test")
    fields = dkim.arc_sign(text, b"k", b"sealer.test", rsa[0], b"lists.sealer.test")
    to, reply = send(beta, "list@sealer.test", b"".join(fields) + text)
    assert reply.startswith("250"), reply
    assert results(beta.wait_messages(to)[0])[1]["arc"] == "pass"
    to, reply = send(beta, "list@sealer.test", b"".join(fields) + text.replace(b"Hello", b"Hullo"))
    assert reply.startswith("550 5.7.1"), reply
    text = text.replace(b"dmarc=pass", b"dmarc=fail")  # it was forged when the list got it
    to, reply = send(beta, "list@sealer.test", b"".join(dkim.arc_sign(text, b"k", b"sealer.test", rsa[0], b"lists.sealer.test")) + text)
    assert reply.startswith("550 5.7.1"), reply


def test_users_are_not_checked(beta):
    """Who logged in is known by that."""
    one, two = beta.account()[0], beta.account()[0]
    with beta.submit(one) as s:
        s.envelope(one, two)
        assert s.body(message(one, two)).startswith("250")
    assert b"Authentication-Results" not in beta.wait_messages(two)[0]


def test_many_at_once(beta):
    """Sessions wait for DNS without threads: more of them than there are workers."""
    to = beta.account()[0]
    sessions = [beta.smtp_in() for _ in range(60)]
    for n, s in enumerate(sessions):
        s.envelope(f"a@n{n}.loose.test", to)
    for s in sessions:
        s.cmd("DATA")
    for n, s in enumerate(sessions):
        s.send(message(f"a@n{n}.loose.test", to) + b".\r\n")
    for s in sessions:
        assert s.reply().startswith("250")
        s.close()
    assert len(beta.wait_messages(to, n=60)) == 60
