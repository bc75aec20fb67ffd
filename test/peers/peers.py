"""Debian's Postfix, Exim, OpenSMTPD and Dovecot as neighbours of the servers under test: each in a root of its own (see
`roots`), on a loopback address of its own, in a network that ends at this process."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
VMAIL = 5000  # owner of every mailbox, as `roots` made it
CLONE_NEWNS, CLONE_NEWNET, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x40000000, 4096, 16384, 1 << 18

libc = ctypes.CDLL(None, use_errno=True)


def _check(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(source, target, kind=None, flags=0):
    _check(libc.mount(source.encode(), target.encode(), kind.encode() if kind else None, flags, None),
           f"mount {target}")


def make_roots(*names):
    """Unpacks the peers, once; the folder they are in.  Needs the network the first time."""
    done = subprocess.run([os.path.join(HERE, "roots"), *names], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def leave_the_network():
    """From here on this process and its children see only a loopback device of their own, and what
    they mount vanishes with them.  Not for processes with threads."""
    _check(libc.unshare(CLONE_NEWNET | CLONE_NEWNS), "unshare")
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def wait_port(address, port, alive=lambda: True, timeout=30):
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((address, port), 1).close()
            return
        except OSError:
            assert alive() and time.monotonic() < end, f"nothing listens on {address}:{port}"
            time.sleep(0.05)


class Peer:
    """One server in a copy of its root.  Subclasses configure and start it."""

    name = None
    command = None

    def __init__(self, roots, address, port):
        self.address, self.port = address, port
        self.dir = tempfile.mkdtemp(prefix=f"postrider-{self.name}-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.root = os.path.join(self.dir, "root")
        subprocess.run(["cp", "-a", os.path.join(roots, self.name), self.root], check=True)
        _mount("/dev", self.path("dev"), None, MS_BIND | MS_REC)
        _mount("proc", self.path("proc"), "proc")
        self.process = None

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def write(self, path, text, mode=0o644):
        full = self.path(path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(full, mode)

    def folder(self, path, uid, gid, mode=0o755):
        os.makedirs(self.path(path), exist_ok=True)
        os.chown(self.path(path), uid, gid)
        os.chmod(self.path(path), mode)

    def run(self, *argv, timeout=120, **kw):
        """A program of the peer's root, to its end; its output as text."""
        return subprocess.run(["chroot", self.root, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=timeout, **kw)

    def make_certificate(self, hostname, key_mode=0o600, gid=0):
        """Self-signed, as most mail servers have it."""
        key = self.path("etc", "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-days", "30", "-subj", f"/CN={hostname}", "-addext", f"subjectAltName=DNS:{hostname}",
                        "-keyout", key, "-out", self.path("etc", "cert.pem")],
                       check=True, stderr=subprocess.DEVNULL)
        os.chown(key, 0, gid)
        os.chmod(key, key_mode)

    def start(self):
        self.output = open(os.path.join(self.dir, "output"), "wb")
        self.process = subprocess.Popen(["chroot", self.root, *self.command], stdin=subprocess.DEVNULL,
                                        stdout=self.output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            wait_port(self.address, self.port, lambda: self.process.poll() is None)
        except AssertionError as e:
            raise AssertionError(f"{self.name} did not start: {e}\n{self.log_text()}") from e
        return self

    def pids(self):
        """All processes of the peer: those whose root is its root."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/root") == self.root:
                    found.append(int(pid))
            except OSError:
                pass
        return found

    def stop(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            for pid in self.pids():  # a delivery that was under way
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.output.close()
        for mounted in ("proc", "dev"):
            libc.umount2(self.path(mounted).encode(), 2)
        if not os.path.ismount(self.path("dev")):
            shutil.rmtree(self.dir, ignore_errors=True)

    def log_text(self):
        text = ""
        for path in (os.path.join(self.dir, "output"), self.path(self.log)):
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as f:
                    text += f.read()
        return text

    def maildir(self, user):
        """The messages of a mailbox, as bytes with LF line ends."""
        new, out = self.path("var", "vmail", user, "new"), []
        for name in sorted(os.listdir(new)) if os.path.isdir(new) else []:
            with open(os.path.join(new, name), "rb") as f:
                out.append(f.read())
        return out

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Postfix(Peer):
    """Takes what is for BOXES of DOMAIN into maildirs; everything else goes by ROUTES, domain -> (host, address, port),
    where HOST must prove its name to CA."""

    name, log = "postfix", "var/log/mail.log"
    command = ["postfix", "start-fg"]
    UID = 101

    def configure(self, domain, routes, ca, boxes):
        host = f"mx.{domain}"
        self.prepare()
        self.make_certificate(host)
        shutil.copy(ca, self.path("etc/ca.pem"))
        self.write("etc/hosts", "127.0.0.1 localhost\n" + "".join(f"{a} {h}\n" for h, a, _ in routes.values()))
        self.write("etc/postfix/transport",
                   "".join(f"{d} smtp:[{h}]:{port}\n" for d, (h, _, port) in routes.items()))
        self.write("etc/postfix/main.cf", f"""\
compatibility_level = 3.6
myhostname = {host}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
virtual_mailbox_domains = {domain}
virtual_mailbox_base = /var/vmail
virtual_mailbox_maps = texthash:/etc/postfix/boxes
virtual_minimum_uid = 100
virtual_uid_maps = static:{VMAIL}
virtual_gid_maps = static:{VMAIL}
transport_maps = texthash:/etc/postfix/transport
default_transport = error:no route
disable_dns_lookups = yes
smtp_host_lookup = native
smtp_tls_security_level = secure
smtp_tls_CAfile = /etc/ca.pem
smtp_tls_loglevel = 1
smtpd_tls_security_level = may
smtpd_tls_loglevel = 1
smtpd_tls_cert_file = /etc/cert.pem
smtpd_tls_key_file = /etc/key.pem
maillog_file = /var/log/mail.log
alias_maps =
alias_database =
local_header_rewrite_clients =
smtp_line_length_limit = 0
minimal_backoff_time = 2s
maximal_backoff_time = 5s
queue_run_delay = 2s
in_flow_delay = 0
""")
        self.write("etc/postfix/boxes", "".join(f"{b}@{domain} {b}/\n" for b in boxes))
        return self

    def setting(self, name, value):
        done = self.run("postconf", f"{name}={value}")
        assert done.returncode == 0, done.stdout

    def prepare(self):
        """master.cf as shipped, but without chroot and with our address."""
        self.folder("var/lib/postfix", self.UID, self.UID)
        shutil.copy(self.path("usr/share/postfix/master.cf.dist"), self.path("etc/postfix/master.cf"))
        listener = f"{self.address}:{self.port}/inet"
        for argv in (["-F", "*/*/chroot=n"], ["-MX", "smtp/inet"],
                     ["-M", f"{listener}={listener.replace('/', ' ')} n - n - - smtpd"]):
            done = self.run("postconf", *argv)
            assert done.returncode == 0, done.stdout


class Exim(Peer):
    """As Postfix above, and FORWARDS, local part -> address, sends mail for DOMAIN elsewhere.  With a LOGIN (user,
    password) only who knows it may send anything, over TLS."""

    name, log = "exim", "var/log/exim4/mainlog"
    command = ["exim4", "-bdf", "-q5s"]
    UID, GID = 102, 103

    def configure(self, domain, routes, ca, boxes, forwards, login=None):
        host = f"mx.{domain}"
        self.make_certificate(host, 0o640, self.GID)
        shutil.copy(ca, self.path("etc/ca.pem"))
        self.folder("var/spool/exim4", self.UID, self.GID, 0o750)
        self.folder("var/log/exim4", self.UID, self.GID, 0o750)
        self.write("etc/hosts", "127.0.0.1 localhost\n" + "".join(f"{a} {h}\n" for h, a, _ in routes.values()))
        self.write("etc/exim4/boxes", "".join(f"{b}: {b}\n" for b in boxes))
        self.write("etc/exim4/forwards", "".join(f"{local}: {to}\n" for local, to in forwards.items()))
        self.write("etc/exim4/routes", "".join(f"{d}: {h}::{port}\n" for d, (h, _, port) in routes.items()))
        self.write("etc/exim4/exim4.conf", f"""\
primary_hostname = {host}
domainlist local_domains = {domain}
domainlist known_domains = lsearch;/etc/exim4/routes
local_interfaces = {self.address}
daemon_smtp_ports = {self.port}
disable_ipv6 = true
tls_advertise_hosts = *
tls_certificate = /etc/cert.pem
tls_privatekey = /etc/key.pem
smtputf8_advertise_hosts = *
acl_smtp_rcpt = {"accept authenticated = *" if login else "accept"}
acl_smtp_data = accept
host_lookup =
keep_environment =
smtp_accept_max = 250
smtp_accept_queue = 0
smtp_connect_backlog = 250
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = 0
begin routers
forward:
  driver = redirect
  domains = +local_domains
  data = ${{lookup{{$local_part}}lsearch{{/etc/exim4/forwards}}}}
local:
  driver = accept
  domains = +local_domains
  local_parts = lsearch;/etc/exim4/boxes
  transport = box
away:
  driver = manualroute
  domains = +known_domains
  route_data = ${{lookup{{$domain}}lsearch{{/etc/exim4/routes}}}} byname
  host_find_failed = defer
  self = send
  transport = away
begin transports
away:
  driver = smtp
  allow_localhost
  hosts_require_tls = *
  tls_verify_certificates = /etc/ca.pem
  tls_verify_hosts = *
  hosts_try_fastopen =
  message_linelength_limit = 1000000
box:
  driver = appendfile
  maildir_format
  directory = /var/vmail/$local_part_data
  create_directory
  return_path_add
  user = vmail
  group = vmail
  mode = 0600
begin retry
* * F,1h,2s
begin rewrite
begin authenticators
""" + (self.authenticators(*login) if login else ""))
        return self


    @staticmethod
    def authenticators(user, password):
        return f"""\
plain:
  driver = plaintext
  public_name = PLAIN
  server_advertise_condition = ${{if def:tls_in_cipher}}
  server_condition = ${{if and{{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_advertise_condition = ${{if def:tls_in_cipher}}
  server_prompts = Username:: : Password::
  server_condition = ${{if and{{{{eq{{$auth1}}{{{user}}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
  server_set_id = $auth1
"""


class OpenSMTPD(Peer):
    """As Postfix above.  A host of ROUTES must prove its name to CA here too.  Debian 12's build offers STARTTLS but
    cannot use any key with OpenSSL 3, so that every handshake of its clients fails; as a client it is sound."""

    name, log = "opensmtpd", "var/log/none"  # it says everything on its terminal
    command = ["smtpd", "-d"]

    def configure(self, domain, routes, ca, boxes):
        host = f"mx.{domain}"
        self.make_certificate(host)
        self.folder("var/lib/opensmtpd/empty", 0, 0)
        self.folder("etc/ssl/certs", 0, 0)
        shutil.copy(ca, self.path("etc/ssl/certs/ca-certificates.crt"))
        self.write("etc/hosts", "127.0.0.1 localhost\n" + "".join(f"{a} {h}\n" for h, a, _ in routes.values()))
        self.write("etc/resolv.conf", "lookup file\n")
        self.write("etc/boxes", "".join(f"{b}@{domain}: vmail\n" for b in boxes))
        self.write("etc/smtpd.conf", f"""\
smtp max-message-size 50M
smtp limit max-mails 100000
mta limit session-mail-max 100000
mta limit conn-delay-host 0
mta limit conn-delay-route 0
mta limit conn-delay-relay 0
mta limit conn-delay-domain 0
pki {host} cert "/etc/cert.pem"
pki {host} key "/etc/key.pem"
table boxes file:/etc/boxes
listen on {self.address} port {self.port} hostname {host} tls pki {host}
action "box" maildir "/var/vmail/%{{rcpt.user}}" virtual <boxes>
match from any for domain "{domain}" action "box"
""" + "".join(f'action "to {d}" relay host "smtp+tls://{h}:{port}" tls helo {host}\n'
              f'match from any for domain "{d}" action "to {d}"\n' for d, (h, _, port) in routes.items()))
        return self


class Dovecot(Peer):
    """LMTP into maildirs, for any user."""

    name, log = "dovecot", "var/log/dovecot.log"
    command = ["dovecot", "-F"]

    def configure(self):
        self.folder("run/dovecot", 0, 0)
        self.write("etc/dovecot/dovecot.conf", f"""\
protocols = lmtp
listen = {self.address}
base_dir = /run/dovecot/
ssl = no
log_path = /var/log/dovecot.log
mail_location = maildir:~/Maildir
first_valid_uid = 100
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=vmail gid=vmail home=/var/vmail/%n
}}
namespace inbox {{
  inbox = yes
}}
service lmtp {{
  inet_listener lmtp {{
    address = {self.address}
    port = {self.port}
  }}
}}
""")
        return self
