"""Logging in: every mechanism over every protocol, with other people's clients as judges."""

import base64
import json
import os
import shutil
import ssl
import subprocess
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from lab import Imap, Lab, Smtp, run, temp_dir, wait_for

ISSUER, AUDIENCE = "https://id.example", "postrider"
EVERYTHING = ("SCRAM-SHA-256-PLUS, SCRAM-SHA-256, SCRAM-SHA-1-PLUS, SCRAM-SHA-1, PLAIN, LOGIN, "
              "OAUTHBEARER, XOAUTH2, EXTERNAL")


def b64u(n, size=None):
    raw = n if isinstance(n, bytes) else n.to_bytes(size or (n.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Keys:
    def __init__(self):
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.ed = ed25519.Ed25519PrivateKey.generate()
        n, e = self.rsa.public_key().public_numbers(), self.ec.public_key().public_numbers()
        raw = self.ed.public_key().public_bytes(serialization.Encoding.Raw,
                                                serialization.PublicFormat.Raw)
        self.jwks = {"keys": [
            {"kty": "RSA", "kid": "r", "use": "sig", "n": b64u(n.n), "e": b64u(n.e)},
            {"kty": "EC", "kid": "e", "crv": "P-256", "x": b64u(e.x, 32), "y": b64u(e.y, 32)},
            {"kty": "OKP", "kid": "d", "crv": "Ed25519", "x": b64u(raw)}]}

    def token(self, email, alg="RS256", kid=None, headers=None, **claims):
        key, k = {"RS256": (self.rsa, "r"), "ES256": (self.ec, "e"), "EdDSA": (self.ed, "d")}[alg]
        body = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "email": email}
        body.update(claims)
        body = {k: v for k, v in body.items() if v is not None}
        return jwt.encode(body, key, algorithm=alg, headers={"kid": kid or k, **(headers or {})})


@pytest.fixture(scope="module")
def site():
    box = temp_dir("postrider-auth-")
    os.chmod(box, 0o755)
    keys = Keys()
    with open(f"{box}/jwks.json", "w") as f:
        json.dump(keys.jwks, f)
    for who in ("alice", "nobody"):
        for ca in ("good", "evil"):
            if not os.path.exists(f"{box}/{ca}.pem"):
                openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                        "-nodes", "-keyout", f"{box}/{ca}.key", "-out", f"{box}/{ca}.pem",
                        "-subj", f"/CN={ca} ca", "-days", "2")
            openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", f"{box}/{ca}-{who}.key", "-out", f"{box}/csr", "-subj", f"/CN={who}")
            with open(f"{box}/ext", "w") as f:
                f.write(f"subjectAltName=email:{who}@alpha.test\nextendedKeyUsage=clientAuth\n")
            openssl("x509", "-req", "-in", f"{box}/csr", "-CA", f"{box}/{ca}.pem", "-CAkey",
                    f"{box}/{ca}.key", "-CAcreateserial", "-days", "1", "-extfile", f"{box}/ext",
                    "-out", f"{box}/{ca}-{who}.pem")
    with Lab() as lab:
        lab.keys, lab.box = keys, box
        a = lab.alpha
        with open(a.config) as f:
            text = f.read().replace("tls:\n", f"tls:\n  client_ca: {box}/good.pem\n", 1)
        with open(a.config, "w") as f:
            f.write(text + f"auth:\n  mechanisms: [{EVERYTHING}]\n  oauth:\n    - issuer: {ISSUER}\n"
                    f"      audience: {AUDIENCE}\n      jwks_file: {box}/jwks.json\n")
        a.ask("reload")

        def offered():
            with Smtp("127.0.0.1", a.submissions, tls=lab.tls) as s:
                return "SCRAM-SHA-1 " in s.features and "XOAUTH2" in s.features
        wait_for(offered, what="the new configuration")
        a.account("scram")  # its verifiers are those that are asked for now
        yield lab
    shutil.rmtree(box)


def openssl(*argv):
    p = run(["openssl", *argv])
    assert p.returncode == 0, p.stderr


# ------------------------------------------------------------------ SCRAM

@pytest.mark.parametrize("proto, port", [("smtp", "submission"), ("imap", "imap")])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256",
                                       "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"])
def test_gsasl(site, proto, port, mechanism):
    a, who = site.alpha, "scram@alpha.test"

    def go(password):
        return run(["gsasl", f"--{proto}", "--connect", f"localhost:{getattr(a, port)}",
                    "--x509-ca-file", site.ca, "--mechanism", mechanism, "--authentication-id", who,
                    "--authorization-id", "", "--password", password, "--verbose",
                    *([] if mechanism.endswith("PLUS") else ["--no-cb"])], input="")
    good = go(a.password(who))
    assert good.returncode == 0 and "uthenti" in good.stdout + good.stderr, good.stderr + good.stdout
    assert go("wrong").returncode != 0


# ------------------------------------------------------------------ OAuth

def curl(site, proto, user, token, xoauth2=False):
    a = site.alpha
    url = {"smtp": f"smtps://localhost:{a.submissions}", "imap": f"imaps://localhost:{a.imaps}/INBOX",
           "pop3": f"pop3s://localhost:{a.pop3s}"}[proto]
    argv = ["curl", "-sS", "--cacert", site.ca, "--user", user, "--oauth2-bearer", token, url]
    if xoauth2:
        argv[1:1] = ["--login-options", "AUTH=XOAUTH2"]
    if proto == "smtp":
        argv += ["-X", "NOOP"]
    return run(argv)


@pytest.mark.parametrize("xoauth2", [False, True])
@pytest.mark.parametrize("proto", ["smtp", "imap", "pop3"])
def test_curl_oauth(site, proto, xoauth2):
    alice = "alice@alpha.test"
    p = curl(site, proto, alice, site.keys.token(alice), xoauth2)
    assert p.returncode == 0, p.stderr
    assert curl(site, proto, alice, site.keys.token("bob@alpha.test"), xoauth2).returncode == 67


def bearer(site, token, user=""):
    with Imap("127.0.0.1", site.alpha.imaps, tls=site.tls) as c:
        text = f"n,{'a=' + user if user else ''},\x01auth=Bearer {token}\x01\x01"
        c.send(b"a AUTHENTICATE OAUTHBEARER " + base64.b64encode(text.encode()) + b"\r\n")
        got = c.line()
        if got.startswith(b"+"):
            assert json.loads(base64.b64decode(got[2:]))["status"] == "invalid_token"
            c.send(b"AQ==\r\n")
            got = c.line()
        return got.split()[1].decode()


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
def test_good_tokens(site, alg):
    t = site.keys.token("alice@alpha.test", alg)
    assert bearer(site, t) == "OK"
    assert bearer(site, t, "alice@alpha.test") == "OK"
    assert bearer(site, site.keys.token("alice@alpha.test", alg, aud=["x", AUDIENCE])) == "OK"


def test_bad_tokens(site):
    alice, k, now = "alice@alpha.test", site.keys, int(time.time())
    public = k.rsa.public_key().public_bytes(serialization.Encoding.PEM,
                                             serialization.PublicFormat.SubjectPublicKeyInfo)
    head, claims, sign = k.token(alice).split(".")

    def forged(header, signature=sign):
        return f"{b64u(json.dumps(header).encode())}.{claims}.{signature}"
    import hashlib
    import hmac
    hs = b64u(b'{"alg":"HS256","kid":"r"}') + "." + claims
    bad = {
        "alg none": forged({"alg": "none", "kid": "r"}),
        "alg none, no signature": forged({"alg": "none", "kid": "r"}, "AA"),
        "HS256 with the public key": hs + "." + b64u(hmac.digest(public, hs.encode(), hashlib.sha256)),
        "another algorithm's name": forged({"alg": "ES256", "kid": "r"}),
        "expired": k.token(alice, exp=now - 120), "no exp": k.token(alice, exp=None),
        "not yet": k.token(alice, nbf=now + 300), "wrong aud": k.token(alice, aud="other"),
        "no aud": k.token(alice, aud=None), "wrong iss": k.token(alice, iss="https://evil.example"),
        "unknown kid": k.token(alice, kid="zzz"), "crit": k.token(alice, headers={"crit": ["x"]}),
        "no kid": jwt.encode(jwt.decode(k.token(alice), options={"verify_signature": False}), k.rsa,
                             algorithm="RS256"),
        "not verified": k.token(alice, email_verified=False), "no email": k.token(None),
        "foreign": k.token("x@elsewhere.test"), "changed": f"{head}.{claims}x.{sign}",
        "no JWT": "opaque", "huge exp": k.token(alice, exp=10 ** 300 // 10 ** 280)}
    for why, token in bad.items():
        assert bearer(site, token) == "NO", why
    assert bearer(site, k.token(alice), "bob@alpha.test") == "NO"
    assert bearer(site, k.token(alice)) == "OK"


# ------------------------------------------------------------------ EXTERNAL

def test_external(site):
    a = site.alpha

    def context(name):
        c = ssl.create_default_context(cafile=site.ca)
        c.load_cert_chain(f"{site.box}/{name}.pem", f"{site.box}/{name}.key")
        return c
    with Imap("127.0.0.1", a.imaps, tls=context("good-alice")) as c:
        assert b"AUTH=EXTERNAL" in c.greeting
        c.ok("AUTHENTICATE EXTERNAL =")
    with Smtp("127.0.0.1", a.submissions, tls=context("good-alice")) as s:
        assert "EXTERNAL" in s.features
        s.want("535", "AUTH EXTERNAL " + base64.b64encode(b"bob@alpha.test").decode())
        s.want("235", "AUTH EXTERNAL =")
    with Imap("127.0.0.1", a.imaps, tls=context("good-nobody")) as c:
        assert c.cmd("AUTHENTICATE EXTERNAL =")[1].startswith(b"NO")
    for tls in (context("evil-alice"), site.tls):  # a wrong certificate is as good as none
        with Imap("127.0.0.1", a.imaps, tls=tls) as c:
            assert b"AUTH=PLAIN" in c.greeting and b"EXTERNAL" not in c.greeting


# ------------------------------------------------------------------ app passwords

def test_app_passwords(site):
    a = site.alpha
    who, main = a.account()
    out = a.cli("account", "app-password", "add", who, "--name", "phone", "--scope", "imap")
    assert out.returncode == 0, out.stderr
    secret = out.stdout.split()[1]
    assert len(secret) == 29

    def imap(password):
        with Imap("127.0.0.1", a.imaps, tls=site.tls) as c:
            return c.cmd(f'LOGIN {who} "{password}"')[1][:2] == b"OK"

    def smtp(password):
        with Smtp("127.0.0.1", a.submissions, tls=site.tls) as s:
            plain = base64.b64encode(f"\0{who}\0{password}".encode()).decode()
            return s.cmd("AUTH PLAIN " + plain).startswith("235")
    assert imap(secret) and imap(secret.replace("-", " ").upper()) and not smtp(secret)
    assert imap(main) and smtp(main)
    row, = a.cli_json("account", "app-password", "list", who)
    assert row["name"] == "phone" and row["scope"] == "imap" and row["used"]
    assert row["peer"] == "127.0.0.1" and "password" not in row
    a.ask("account set", address=who, app_only="yes")
    assert imap(secret) and not imap(main) and not smtp(main)
    a.ask("account app-password add", address=who, name="old", expires="1s")
    site.clock("1h")
    a.ask("account app-password rm", address=who, name="phone")
    assert not imap(secret)
