"""Signed messages of other projects, with the results they expect.  Where ours differ, the test says why."""
import json
import re

import pytest
import suites

VECTORS = suites.DATA / 'dkim'
NOW = '1700000000'


def need(path):
    if not path.exists():
        pytest.skip('needs POSTRIDER_TESTDATA')
    return path


def verify(path, zone):
    return suites.tool('dkim', 'verify', str(path), '--zone', zone, '--time', NOW)


def mail_dkim_records(path):
    for line in path.read_text(encoding='ascii').splitlines():
        owner, _, value = line.partition(' ')
        value = value.strip()
        if not value or line.startswith('#') or value == 'NXDOMAIN':
            continue
        if value.startswith('~~'):
            yield owner, 'TIMEOUT' if 'timed out' in value else 'SERVFAIL', None
        else:
            yield owner, 'TXT', suites.quoted('' if value == '""' else value)


def deviation(text):
    """Why a message that Mail::DKIM takes does not count: (our result, reason), by what it holds."""
    fields = re.findall(rb'^DKIM-Signature:((?:.*\r?\n)(?:[ \t].*\r?\n)*)', text, re.M | re.I)
    if not fields:
        return 'none', 'DomainKeys is historic (RFC 4870; RFC 6376 1)'
    versions = [re.search(rb'\bv\s*=\s*([^;\s]+)', f) for f in fields]
    if all(not v or v[1] != b'1' for v in versions):
        return 'permerror', 'a version of before the standard (RFC 6376 3.5, v=)'
    if all(re.search(rb'a\s*=\s*rsa-sha1', f) for f in fields):
        return 'permerror', 'rsa-sha1 has permanently failed (RFC 8301 3.1)'
    return None


def test_mail_dkim(tmp_path):
    folder = need(VECTORS / 'mail-dkim')
    zone = suites.write_zone(tmp_path / 'zone', mail_dkim_records(folder / 'FAKE_DNS.dat'))
    wrong, count, explained = [], 0, 0
    for line in (folder / 'EXPECTED.tsv').read_text(encoding='ascii').splitlines():
        if line.startswith('#'):
            continue
        file, expected, _ = line.split('\t')
        row = verify(folder / file, zone)
        count += 1
        if row['result'] == {'invalid': 'permerror'}.get(expected, expected):
            continue
        why = deviation((folder / file).read_bytes())
        if why and row['result'] == why[0]:
            explained += 1
        else:
            wrong.append(f'{file}: {row}, wanted {expected}')
    print(f'mail-dkim: {count - len(wrong)}/{count}, {explained} of them explained')
    assert not wrong, '\n'.join(wrong)
    assert count == 41


# What is no fault of a signature (alignment is DMARC's business, unsigned fields the reader's) passes.
VERIFIER = {
    'rfc6376-A.2-body_modified.eml': 'fail',
    'rfc6376-A.2-header_subject_modified.eml': 'fail',
    'rfc6376-A.2-ill_formed-missing_v.eml': 'permerror',
    'fakePayPal.eml': 'none',
}


def test_dkim_verifier(tmp_path):
    folder = need(VECTORS / 'dkim_verifier')
    keys = {}
    for line in (folder / 'DNS.tsv').read_text(encoding='ascii').splitlines():
        owner, _, value = line.split('\t')
        keys[owner] = value
    zone = suites.keys_zone(tmp_path / 'zone', keys)
    files = sorted(folder.rglob('*.eml'))
    results = {f.name: verify(f, zone)['result'] for f in files}
    assert results == {f.name: VERIFIER.get(f.name, 'pass') for f in files}
    assert len(files) == 15


def chasquid_keys(path):
    if not path.exists():
        return {}
    lines = re.sub(r'\\\n\s*', '', path.read_text(encoding='ascii')).splitlines()
    return {k.strip(): v.strip() for k, _, v in (line.partition(':') for line in lines if line.strip())}


def test_chasquid(tmp_path):
    folder = need(VECTORS / 'chasquid')
    count = 0
    for path in sorted(folder.glob('*.msg')):
        zone = suites.keys_zone(tmp_path / path.stem, chasquid_keys(path.with_suffix('.dns')))
        row = verify(path, zone)
        count += 1
        if path.name == '03-bad_message.msg':
            assert row['result'] == 'none'  # no header at all
            continue
        want = json.loads(path.with_suffix('.result').read_text(encoding='utf-8'))
        assert row['found'] == want['Found'], path.name
        assert sum(s['result'] == 'pass' for s in row['signatures']) == want['Valid'], path.name
    assert count == 4
