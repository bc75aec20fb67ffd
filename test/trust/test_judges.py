"""Others judge: what we sign, dkimpy verifies, and the other way round; pyspf says what it thinks of our
SPF verdicts; forged and broken input comes out the same."""
import base64
import itertools
import subprocess

import pytest
import suites

dkim = pytest.importorskip('dkim')
spf = pytest.importorskip('spf')

MESSAGE = b'''From: Anna <anna@alpha.test>
To: Ben <ben@beta.test>
Subject:  white   space and
\ta fold
Date: Sat, 21 Nov 2026 10:00:00 +0000
Message-ID: <1@alpha.test>
MIME-Version: 1.0
Content-Type: text/plain

A line  with trailing space \t
and a last one.


'''.replace(b'\n', b'\r\n')


def openssl(*args, stdin=None):
    return subprocess.run(['openssl', *args], input=stdin, capture_output=True, check=True).stdout


@pytest.fixture(scope='module')
def keys(tmp_path_factory):
    """kind -> (PEM file, selector, key record)"""
    folder, out = tmp_path_factory.mktemp('keys'), {}
    for kind, options in (('rsa', ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048']),
                          ('ed25519', ['-algorithm', 'ED25519'])):
        path = folder / f'{kind}.pem'
        path.write_bytes(openssl('genpkey', *options))
        der = openssl('pkey', '-in', str(path), '-pubout', '-outform', 'DER')
        public = base64.b64encode(der if kind == 'rsa' else der[-32:]).decode()
        out[kind] = (path, kind, f'v=DKIM1; k={kind}; p={public}')
    return out


@pytest.fixture
def zone(keys, tmp_path):
    return suites.keys_zone(tmp_path / 'zone', {f'{s}._domainkey.alpha.test': text for _, s, text in keys.values()})


def answer(keys):
    table = {f'{s}._domainkey.alpha.test.': text.encode() for _, s, text in keys.values()}
    return lambda name, timeout=5: table.get(name.decode() if isinstance(name, bytes) else name)


CANONS = ['/'.join(c) for c in itertools.product(('simple', 'relaxed'), repeat=2)]


@pytest.mark.parametrize('canon', CANONS)
@pytest.mark.parametrize('kind', ['rsa', 'ed25519'])
def test_we_sign(kind, canon, keys, zone):
    pem, selector, _ = keys[kind]
    signed = suites.run('dkim', 'sign', '-', '--domain', 'alpha.test', '--selector', selector, '--key', str(pem), '--canon', canon,
                        '--time', '1700000000', stdin=MESSAGE)
    assert signed.returncode == 0, signed.stderr
    assert dkim.verify(signed.stdout, dnsfunc=answer(keys))
    assert suites.tool('dkim', 'verify', '-', '--zone', zone, stdin=signed.stdout)['result'] == 'pass'
    # Oversigned: nothing that a reader sees can be added.
    for extra in (b'From: Eve <eve@evil.test>\r\n', b'Subject: other\r\n', b'Content-Type: text/html\r\n'):
        assert suites.tool('dkim', 'verify', '-', '--zone', zone, stdin=extra + signed.stdout)['result'] == 'fail'
        assert not dkim.verify(extra + signed.stdout, dnsfunc=answer(keys))


@pytest.mark.parametrize('canon', CANONS)
@pytest.mark.parametrize('kind', ['rsa', 'ed25519'])
def test_dkimpy_signs(kind, canon, keys, zone):
    pem, selector, _ = keys[kind]
    if kind == 'rsa':
        key, algorithm = pem.read_bytes(), b'rsa-sha256'
    else:
        der = openssl('pkey', '-in', str(pem), '-outform', 'DER')
        key, algorithm = base64.b64encode(der[-32:]), b'ed25519-sha256'
    field = dkim.sign(MESSAGE, selector.encode(), b'alpha.test', key, canonicalize=tuple(c.encode() for c in canon.split('/')),
                      signature_algorithm=algorithm)
    row = suites.tool('dkim', 'verify', '-', '--zone', zone, stdin=field + MESSAGE)
    assert row['result'] == 'pass', row
    assert row['signatures'][0]['algorithm'] == algorithm.decode()
    broken = field + MESSAGE.replace(b'last', b'lost')
    assert suites.tool('dkim', 'verify', '-', '--zone', zone, stdin=broken)['result'] == 'fail'


def test_length_is_reported(keys, zone):
    pem, selector, _ = keys['rsa']
    field = dkim.sign(MESSAGE, selector.encode(), b'alpha.test', pem.read_bytes(), length=True)
    row = suites.tool('dkim', 'verify', '-', '--zone', zone, stdin=field + MESSAGE + b'<h1>more</h1>\r\n')
    signature = row['signatures'][0]
    assert row['result'] == 'pass' and not signature['counts_for_dmarc']
    assert signature['signed_length'] < signature['body_length']


def test_arc(keys, zone):
    pem, selector, _ = keys['rsa']
    message = b'Authentication-Results: alpha.test; spf=pass smtp.mailfrom=a@b.test\r\n' + MESSAGE
    for instance in (1, 2, 3):
        done = suites.run('arc', 'seal', '-', '--domain', 'alpha.test', '--selector', selector, '--key', str(pem), '--zone', zone,
                          '--headers', 'from:to:subject:date:message-id', stdin=message)
        assert done.returncode == 0, done.stderr
        message = done.stdout
        cv, _, why = dkim.arc_verify(message, dnsfunc=answer(keys))
        assert cv == b'pass', (instance, why)
        row = suites.tool('arc', 'verify', '-', '--zone', zone, stdin=message)
        assert (row['result'], row['instance']) == ('pass', instance)
    broken = message.replace(b'Anna', b'Eve')
    assert suites.tool('arc', 'verify', '-', '--zone', zone, stdin=broken)['result'] == 'fail'
    assert dkim.arc_verify(broken, dnsfunc=answer(keys))[0] == b'fail'


# name -> [(type, value)] as pyspf wants them
SPF_ZONE = {
    'a.test': [('A', '192.0.2.1'), ('AAAA', '2001:db8::1')],
    'mx.test': [('MX', (10, 'a.test')), ('A', '192.0.2.9')],
    'many.test': [('MX', (n, f'h{n}.test')) for n in range(11)],
    '1.2.0.192.in-addr.arpa': [('PTR', 'a.test')],
    'inc.test': [('TXT', 'v=spf1 ip4:192.0.2.0/28 -all')],
    'soft.test': [('TXT', 'v=spf1 ~all')],
    'user.a.spf.test': [('A', '127.0.0.2')],
    'down.test': ['TIMEOUT'],
    'why.test': [('TXT', 'do not use %{i}')],
    'loop.test': [('TXT', 'v=spf1 include:loop.test -all')],
}
RECORDS = [
    'v=spf1 -all', 'v=spf1', 'v=spf1 +all', 'v=spf1 a:a.test -all', 'v=spf1 a:a.test/24//64 -all', 'v=spf1 mx:mx.test -all',
    'v=spf1 mx:many.test -all', 'v=spf1 ptr:a.test -all', 'v=spf1 ip4:192.0.2.0/24 -all', 'v=spf1 ip6:2001:db8::/32 -all',
    'v=spf1 include:inc.test -all', 'v=spf1 include:soft.test ?all', 'v=spf1 include:none.test -all', 'v=spf1 redirect=inc.test',
    'v=spf1 redirect=none.test', 'v=spf1 exists:%{l}.a.spf.test -all', 'v=spf1 exists:%{l1r-}.%{d2}.test -all', 'v=spf1 a:down.test -all',
    'v=spf1 a:x1.test a:x2.test a:x3.test -all', 'v=spf1 include:loop.test -all', 'v=spf1 -all exp=why.test', 'v=spf1 ip4:192.0.2.1/33 -all',
    'v=spf1 ip4:192.0.2 -all', 'v=spf1 a: -all', 'v=spf1 foo:bar -all', 'v=spf1 foo=bar -all', 'v=spf1 all:x', 'v=spf1 redirect=a.test redirect=a.test',
    'v=spf1 %{d} -all', 'v=spf1 a:%{x}.test -all', 'v=spf1 ' + 'a:a.test ' * 11 + '-all', 'V=SPF1 A:A.TEST -ALL',
]


def spf_records():
    zone = dict(SPF_ZONE)
    zone.update({f'r{n}.test': [('TXT', text)] for n, text in enumerate(RECORDS)})
    return zone


def as_zone(zone):
    for owner, entries in zone.items():
        for entry in entries:
            if entry == 'TIMEOUT':
                yield owner, 'TIMEOUT', None
            elif entry[0] == 'MX':
                yield owner, 'MX', f'{entry[1][0]} {suites.name(entry[1][1])}'
            elif entry[0] == 'TXT':
                yield owner, 'TXT', suites.quoted(entry[1])
            elif entry[0] == 'PTR':
                yield owner, 'PTR', suites.name(entry[1])
            else:
                yield owner, entry[0], entry[1]


def test_pyspf(tmp_path, monkeypatch):
    table = spf_records()
    path = suites.write_zone(tmp_path / 'zone', as_zone(table))

    def lookup(name, kind, strict=True, timeout=20, level=0):
        out = []
        for entry in table.get(name.lower().rstrip('.'), []):
            if entry == 'TIMEOUT':
                raise spf.TempError('DNS timeout')
            if entry[0] == kind:
                value = (entry[1].encode(),) if kind == 'TXT' else entry[1]
                if kind == 'AAAA':
                    value = spf.ipaddress.ip_address(value).packed if hasattr(spf, 'ipaddress') else value
                out.append(((name, kind), value))
        return out

    monkeypatch.setattr(spf, 'DNSLookup', lookup)
    wrong = []
    for n, text in enumerate(RECORDS):
        for ip in ('192.0.2.1', '192.0.2.77', '2001:db8::1'):
            theirs = spf.check2(ip, f'user@r{n}.test', 'helo.test')[0]
            ours = suites.tool('spf', 'check', '--zone', path, '--ip', ip, '--helo', 'helo.test', '--from', f'user@r{n}.test')
            if ours['result'] != theirs:
                wrong.append(f'{text!r} for {ip}: {ours}, pyspf says {theirs}')
    assert not wrong, '\n'.join(wrong)
