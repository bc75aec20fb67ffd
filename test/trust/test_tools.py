"""The commands themselves: what they take, what they say, and that a forger gets nowhere with them."""
import pytest
import suites

ZONE = [
    ('org.test', 'TXT', suites.quoted('v=spf1 ip4:192.0.2.1 -all exp=why.org.test')),
    ('why.org.test', 'TXT', suites.quoted('%{i} is none of ours')),
    ('_dmarc.org.test', 'TXT', suites.quoted('v=DMARC1; p=reject; sp=quarantine; rua=mailto:d@org.test')),
    ('shop.org.test', 'A', '192.0.2.7'),
    ('evil.test', 'TXT', suites.quoted('v=spf1 +all')),
    ('slow.test', 'TIMEOUT', None),
]


@pytest.fixture
def zone(tmp_path):
    return suites.write_zone(tmp_path / 'zone', ZONE)


def dmarc(zone, header, ip='192.0.2.1', sender='bounce@org.test'):
    return suites.tool('dmarc', 'check', '-', '--zone', zone, '--ip', ip, '--helo', 'mx.org.test', '--from', sender,
                       stdin=header.encode() + b'\n\nHello\n')


def test_offline_only(tmp_path):
    path = tmp_path / 'mail'
    path.write_bytes(b'From: a@b.test\n\n')
    for args in (('spf', 'check', '--ip', '192.0.2.1'), ('dkim', 'verify', str(path)), ('arc', 'verify', str(path)),
                 ('dmarc', 'check', str(path), '--ip', '192.0.2.1')):
        assert 'give --zone FILE' in suites.tool_fails(*args)


def test_bad_arguments(zone, tmp_path):
    assert '--ip' in suites.tool_fails('spf', 'check', '--zone', zone, '--ip', '192.0.2.999')
    assert 'zone file, line' in suites.tool_fails('spf', 'check', '--zone', __file__, '--ip', '192.0.2.1')
    assert 'No such file' in suites.tool_fails('dkim', 'verify', str(tmp_path / 'none'), '--zone', zone)
    assert '--key' in suites.tool_fails('dkim', 'sign', __file__)
    assert 'PEM' in suites.tool_fails('dkim', 'sign', __file__, '--domain', 'a.test', '--selector', 's', '--key', __file__)
    assert '--time' in suites.tool_fails('dkim', 'verify', __file__, '--zone', zone, '--time', 'now')


def test_spf(zone):
    row = suites.tool('spf', 'check', '--zone', zone, '--ip', '192.0.2.9', '--helo', 'mx.org.test', '--from', '<a@org.test>')
    assert (row['result'], row['explanation'], row['term']) == ('fail', '192.0.2.9 is none of ours', '-all')
    assert row['helo']['result'] == 'none' and row['identity'] == 'mailfrom'
    row = suites.tool('spf', 'check', '--zone', zone, '--ip', '192.0.2.1', '--helo', 'org.test', '--from', '<>')
    assert (row['result'], row['identity']) == ('pass', 'helo')
    row = suites.tool('spf', 'check', '--zone', zone, '--ip', '::ffff:192.0.2.1', '--helo', 'x', '--from', 'a@slow.test')
    assert row['result'] == 'temperror'
    text = suites.run('spf', 'check', '--zone', zone, '--ip', '192.0.2.1', '--helo', 'x', '--from', 'a@org.test').stdout
    assert text == b'spf: pass (a term matched: ip4:192.0.2.1)\n'


def test_dmarc(zone):
    row = dmarc(zone, 'From: Anna <anna@org.test>')
    assert (row['result'], row['spf_aligned'], row['policy']) == ('pass', True, 'reject')
    row = dmarc(zone, 'From: Anna <anna@shop.org.test>', sender='x@evil.test')
    assert (row['result'], row['policy'], row['record_domain']) == ('fail', 'quarantine', 'org.test')
    assert dmarc(zone, 'From: a@slow.test')['result'] in ('none', 'temperror')
    assert dmarc(zone, 'From: a@nothing.test')['result'] == 'none'


@pytest.mark.parametrize('header', [
    'From: a@org.test\nFrom: b@evil.test',
    'From: b@evil.test\nFrom: a@org.test',
    'From: a@org.test, b@evil.test',
    'From: <a@org.test> <b@evil.test>',
    'From: a@org.test <b@evil.test>',
    'From: list: a@org.test;',
    'From: a@org.test@evil.test',
    'From: <@evil.test,@x.test:a@org.test',
    'From: a@org.test\x00@evil.test',
    'From: =?utf-8?q?a=40org.test?=',
    'From : a@org.test\nfrom: b@evil.test',
    'Subject: none',
])
def test_no_single_author(zone, header):
    """Programs may show another author than we judge: then nobody vouches for the message."""
    row = dmarc(zone, header, sender='x@evil.test')
    assert row['result'] in ('permerror', 'fail'), row
    assert row['spf']['result'] == 'pass'
