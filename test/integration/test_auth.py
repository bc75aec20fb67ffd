"""Logging in: every mechanism over every protocol, with other people's clients as judges."""

import base64
import contextlib
import http.server
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from lab import Imap, Lab, Raw, Smtp, postrider, run, temp_dir, wait_for

ISSUER, AUDIENCE = "https://id.example", "postrider"
BY_URL, BY_QUESTION = "https://keys.example", "https://ask.example"
SECRET = "s3cret:ü"
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
        body = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 7200, "email": email}
        body.update(claims)
        body = {k: v for k, v in body.items() if v is not None}
        return jwt.encode(body, key, algorithm=alg, headers={"kid": kid or k, **(headers or {})})


class Pop3(Raw):
    def __init__(self, *a, **kw):
        super().__init__(*a, **kw)
        assert self.line().startswith(b"+OK")

    def cmd(self, text):
        self.send(text.encode() + b"\r\n")
        return self.line()


class Issuer:
    """A web server that gives out KEYS, and answers questions about tokens from TOKENS: an object,
    or (status, bytes), or a function that gives one.  Without a certificate until listen()."""

    def __init__(self):
        self.keys, self.tokens, self.asked, self.fetched = {"keys": []}, {}, [], 0
        self.open = []
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                issuer.open.append(self.connection)

            def answer(self, got):
                got = got() if callable(got) else got
                status, text = got if isinstance(got, tuple) else (200, json.dumps(got).encode())
                with contextlib.suppress(OSError):  # who heard enough closes
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)

            def do_GET(self):
                issuer.fetched += 1
                self.answer(issuer.keys)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = urllib.parse.parse_qs(body, strict_parsing=True)
                issuer.asked.append((self.headers["Authorization"], form))
                self.answer(issuer.tokens.get(form["token"][0], {"active": False}))

            def log_message(self, *_):
                pass

        self.handler, self.server = Handler, http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]

    def listen(self, tls):
        """Serves, again if it was stopped."""
        if not self.server:
            self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), self.handler)
        self.server.daemon_threads = True
        self.server.socket = tls.wrap_socket(self.server.socket, server_side=True,
                                             do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.server = None
        for c in self.open:  # they would be used again
            with contextlib.suppress(OSError):
                c.shutdown(socket.SHUT_RDWR)
        self.open = []


@pytest.fixture(scope="module")
def site():
    box = temp_dir("postrider-auth-")
    os.chmod(box, 0o755)
    keys = Keys()
    with open(f"{box}/jwks.json", "w") as f:
        json.dump(keys.jwks, f)
    with open(f"{box}/secret", "w", opener=lambda p, fl: os.open(p, fl, 0o600)) as f:
        f.write(SECRET + "\nwhat follows is no part of it\n")
    issuer = Issuer()
    issuer.keys = {"keys": keys.jwks["keys"][:1]}
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
        lab.keys, lab.box, lab.issuer = keys, box, issuer
        a = lab.alpha
        lab.cert = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        lab.cert.load_cert_chain(f"{a.dir}/cert.pem", f"{a.dir}/key.pem")
        issuer.listen(lab.cert)
        with open(a.config) as f:
            text = f.read().replace("tls:\n", f"tls:\n  client_ca: {box}/good.pem\n", 1)
        with open(a.config, "w") as f:
            f.write(text + f"auth:\n  mechanisms: [{EVERYTHING}]\n  oauth:\n    - issuer: {ISSUER}\n"
                    f"      audience: {AUDIENCE}\n      jwks_file: {box}/jwks.json\n"
                    f"    - {{issuer: '{BY_URL}', audience: {AUDIENCE}, "
                    f"jwks_url: 'https://localhost:{issuer.port}/jwks'}}\n"
                    f"    - {{issuer: '{BY_QUESTION}', audience: {AUDIENCE}, claim: username, "
                    f"introspection_url: 'https://localhost:{issuer.port}/introspect', "
                    f"client_id: mail & co, secret_file: {box}/secret}}\n")
        a.ask("reload")

        def offered():
            with Smtp("127.0.0.1", a.submissions, tls=lab.tls) as s:
                return "SCRAM-SHA-1 " in s.features and "XOAUTH2" in s.features
        wait_for(offered, what="the new configuration")
        a.account("scram")  # its verifiers are those that are asked for now
        yield lab
    if issuer.server:
        issuer.stop()
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


# ------------------------------------------------------------------ issuers that are asked

def say_token(site, token, proto="imap", user=""):
    """The answer to OAUTHBEARER with TOKEN: the line, and the reason that came before a refusal."""
    a = site.alpha
    text = base64.b64encode(f"n,{'a=' + user if user else ''},\x01auth=Bearer {token}\x01\x01"
                            .encode()).decode()
    kind, port, command = {"imap": (Imap, a.imaps, "a AUTHENTICATE"), "pop3": (Pop3, a.pop3s, "AUTH"),
                           "smtp": (Smtp, a.submissions, "AUTH")}[proto]
    with kind("127.0.0.1", port, tls=site.tls) as c:
        c.send(f"{command} OAUTHBEARER {text}\r\n".encode())
        got = c.line()
        if got.startswith((b"+ ", b"334")):
            c.send(b"AQ==\r\n")
            got = c.line()
        return got.decode().removeprefix("a ").strip()


LATER = {"imap": "NO [UNAVAILABLE]", "pop3": "-ERR [SYS/TEMP]", "smtp": "454 4.7.0"}
WELCOME = {"imap": "OK", "pop3": "+OK", "smtp": "235 2.7.0"}
WRONG = {"imap": "NO [AUTHENTICATIONFAILED]", "pop3": "-ERR [AUTH]", "smtp": "535 5.7.8"}


@pytest.mark.parametrize("proto", ["imap", "pop3", "smtp"])
def test_introspection(site, proto):
    alice, i, now = "alice@alpha.test", site.issuer, int(time.time())
    good = {"active": True, "username": alice}
    i.tokens = {
        "good+/~.-_token==": {**good, "iss": BY_QUESTION, "aud": AUDIENCE, "exp": now + 60},
        "bare": good, "status": (500, b"{}"), "moved": (302, b""), "garbage": (200, b"\xff{"),
        "list": (200, b"[]"), "huge": (200, b'{"active": true, "x": "' + b"y" * 200000 + b'"}'),
        "deep": (200, b"[" * 60000),
        "word": {**good, "active": "true"}, "nobody": {"active": True}, "expired": {**good, "exp": now - 120},
        "foreign": {**good, "aud": "other"}, "issuer": {**good, "iss": ISSUER},
        "long": {**good, "username": "a" * 1000 + "@alpha.test"}, "number": {**good, "username": 7},
        "elsewhere": {**good, "username": "x@elsewhere.test"}}
    i.asked.clear()
    assert say_token(site, "good+/~.-_token==", proto).startswith(WELCOME[proto])
    (who, form), = i.asked
    assert form["token"] == ["good+/~.-_token=="]
    name, secret = base64.b64decode(who.removeprefix("Basic ")).decode().split(":")
    assert (urllib.parse.unquote(name), urllib.parse.unquote(secret)) == ("mail & co", SECRET)
    assert say_token(site, "bare", proto, alice).startswith(WELCOME[proto])
    assert say_token(site, "bare", proto, "bob@alpha.test").startswith(WRONG[proto])
    for token in ("inactive", "word", "nobody", "expired", "foreign", "issuer", "long", "number", "elsewhere"):
        assert say_token(site, token, proto).startswith(WRONG[proto]), token
    for token in ("status", "moved", "garbage", "list", "huge", "deep"):
        assert say_token(site, token, proto).startswith(LATER[proto]), token


def test_issuer_is_down(site):
    site.issuer.tokens = {"good": {"active": True, "username": "alice@alpha.test"}}
    site.issuer.stop()
    try:
        for proto, answer in LATER.items():
            assert say_token(site, "good", proto).startswith(answer)
    finally:
        site.issuer.listen(site.cert)
    assert say_token(site, "good").startswith("OK")


def test_slow_issuer_stops_nobody_else(site):
    """More sessions wait for it than there are threads; they go on when it answers."""
    a, go = site.alpha, threading.Event()

    def slow():
        go.wait(60)
        return {"active": True, "username": "alice@alpha.test"}
    site.issuer.tokens = {"slow": slow, "fast": {"active": True, "username": "alice@alpha.test"}}
    site.issuer.asked.clear()
    text = base64.b64encode(b"n,,\x01auth=Bearer slow\x01\x01")
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(Imap("127.0.0.1", a.imaps, tls=site.tls)) for _ in range(20)]
        for c in waiting:
            c.send(b"a AUTHENTICATE OAUTHBEARER " + text + b"\r\n")
        wait_for(lambda: len(site.issuer.asked) == 20)
        assert say_token(site, "fast").startswith("OK")
        assert say_token(site, site.keys.token("alice@alpha.test")).startswith("OK")
        with a.submit("alice@alpha.test") as s:
            s.want("250", "NOOP")
        waiting.pop().close()  # gone before the answer
        go.set()
        for c in waiting:
            assert c.line().startswith(b"a OK")


def test_keys_by_url(site):
    """An unknown key makes us look again, once; what is no key set changes nothing."""
    alice, i = "alice@alpha.test", site.issuer
    old = site.keys.token(alice, iss=BY_URL)
    new = site.keys.token(alice, "ES256", iss=BY_URL)
    wait_for(lambda: say_token(site, old).startswith("OK"), what="the first keys")
    before = i.fetched
    i.keys = site.keys.jwks
    assert say_token(site, new).startswith(LATER["imap"])
    wait_for(lambda: say_token(site, new).startswith("OK"), what="the new keys")
    assert i.fetched == before + 1 and say_token(site, old).startswith("OK")
    for kid in "xyz":
        strange = site.keys.token(alice, kid=kid, iss=BY_URL)
        assert say_token(site, strange).startswith(WRONG["imap"])
    assert i.fetched == before + 1


@pytest.mark.parametrize("keys", [{"keys": []}, {"keys": "x"}, (200, b"{" * 60000), (200, b"x" * 300000), (404, b"")])
def test_hostile_key_sets(site, keys):
    """They come at the start, when there are no keys yet: every answer is temporary."""
    a, i = site.alpha, site.issuer
    good, before = i.keys, i.fetched
    i.keys = keys
    a.ask("reload")
    try:
        token = site.keys.token("alice@alpha.test", iss=BY_URL)
        wait_for(lambda: say_token(site, token).startswith(LATER["imap"]) and i.fetched > before,
                 what="a look at the keys")
        assert say_token(site, token).startswith(LATER["imap"])
        assert say_token(site, site.keys.token("alice@alpha.test")).startswith("OK")
    finally:
        i.keys = good
        a.ask("reload")


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
    for s_client in (("imap", a.imap, "a AUTHENTICATE EXTERNAL =", "a OK"),
                     ("smtp", a.submission, "EHLO x\r\nAUTH EXTERNAL =", "235 2.7.0"),
                     ("pop3", a.pop3, "AUTH EXTERNAL =", "+OK Logged in")):
        proto, port, say, answer = s_client
        p = subprocess.Popen(["openssl", "s_client", "-starttls", proto, "-connect", f"localhost:{port}", "-quiet",
                              "-verify_return_error", "-CAfile", site.ca, "-cert", f"{site.box}/good-alice.pem",
                              "-key", f"{site.box}/good-alice.key"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        p.stdin.write(say + "\r\n")
        p.stdin.flush()
        heard = []
        while not heard or not heard[-1].startswith(answer):
            heard.append(p.stdout.readline())
            assert heard[-1], (heard, p.stderr.read())
        p.stdin.write("a LOGOUT\r\n" if proto == "imap" else "QUIT\r\n")
        p.stdin.flush()
        assert p.wait(30) == 0
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
    out = a.cli("account", "app-password", "add", who, "--name", "old", "--expires", "30m")
    assert out.returncode == 0, out.stderr
    old = out.stdout.split()[1]
    assert imap(old) and smtp(old)
    site.clock("1h")
    assert not imap(old) and not smtp(old) and imap(secret)
    a.ask("account app-password rm", address=who, name="phone")
    assert not imap(secret)


# ------------------------------------------------------------------ logins that end

@pytest.mark.parametrize("change", ["passwd", "suspend", "app password"])
def test_changed_account_must_log_in_again(site, change):
    a = site.alpha
    who, main = a.account()
    out = a.cli("account", "app-password", "add", who, "--name", "pad")
    secret = out.stdout.split()[1] if change == "app password" else main
    plain = base64.b64encode(f"\0{who}\0{secret}".encode()).decode()
    with Smtp("127.0.0.1", a.submissions, tls=site.tls) as one, \
            Smtp("127.0.0.1", a.submissions, tls=site.tls) as two, \
            Pop3("127.0.0.1", a.pop3s, tls=site.tls) as pop:
        for s in (one, two):
            s.want("235", "AUTH PLAIN " + plain)
        assert pop.cmd("AUTH PLAIN " + plain).startswith(b"+OK")
        two.envelope(who, who)  # what was begun is ended
        {"passwd": lambda: a.ask("account passwd", address=who, password="another one"),
         "suspend": lambda: a.ask("account set", address=who, suspended="yes"),
         "app password": lambda: a.ask("account app-password rm", address=who, name="pad")}[change]()
        one.send(f"MAIL FROM:<{who}>\r\nRCPT TO:<{who}>\r\nDATA\r\n".encode())
        assert one.line().startswith(b"250") and one.line().startswith(b"530 5.7.0")
        assert one.line() is None
        assert two.body(b"Subject: x\r\n\r\nx\r\n").startswith("250")
        assert two.cmd(f"MAIL FROM:<{who}>").startswith("250")
        assert two.cmd(f"RCPT TO:<{who}>").startswith("530 5.7.0")
        assert pop.cmd("NOOP").startswith(b"-ERR [AUTH]") and pop.line() is None


# ------------------------------------------------------------------ files

@pytest.mark.parametrize("option", ["jwks_file", "secret_file", "client_ca"])
def test_missing_files(site, option):
    """`config check` names the option and the file; a reload refuses, and all stays as it was."""
    a = site.alpha
    with open(a.config) as f:
        text = f.read()
    bad = text.replace(f"{option}: {site.box}/", f"{option}: {site.box}/none-")
    assert bad != text
    with open(a.config, "w") as f:
        f.write(bad)
    try:
        p = postrider("--config", a.config, "config", "check")
        assert p.returncode == 78 and option in p.stderr and f"{site.box}/none-" in p.stderr
        if option != "jwks_file":
            p = a.cli("reload")
            assert p.returncode != 0 and f"{site.box}/none-" in p.stderr
    finally:
        with open(a.config, "w") as f:
            f.write(text)
    assert postrider("--config", a.config, "config", "check").returncode == 0
    assert say_token(site, site.keys.token("alice@alpha.test")).startswith("OK")
