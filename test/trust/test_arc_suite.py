"""The ARC suite of ValiMail: 171 chains to verify, 17 to seal."""
import re

import pytest
import suites

yaml = pytest.importorskip('yaml')

SUITE = suites.DATA / 'arc' / 'valimail'
# An empty cv means that no further set may be added; the chain's state is "fail" (RFC 8617 5.2 step 2).
VERDICTS = {'Pass': 'pass', 'Fail': 'fail', 'None': 'none', '': 'fail', None: 'fail'}


def scenarios(file):
    path = SUITE / file
    if not path.exists():
        pytest.skip('needs POSTRIDER_TESTDATA')
    return [d for d in yaml.load_all(path.read_text(encoding='utf-8'), yaml.BaseLoader) if d]


def zone_of(doc, path):
    return suites.keys_zone(path, doc.get('txt-records') or {})


def test_verify(tmp_path):
    wrong, count = [], 0
    for number, doc in enumerate(scenarios('arc-draft-validation-tests.yml')):
        zone = zone_of(doc, tmp_path / f'{number}.zone')
        for case, t in doc['tests'].items():
            count += 1
            row = suites.tool('arc', 'verify', '-', '--zone', zone, '--time', '1700000000', stdin=t['message'].encode())
            if row['result'] != VERDICTS[t['cv']]:
                wrong.append(f"{doc['description']}/{case}: {row}, wanted {t['cv']}")
    print(f'{count - len(wrong)}/{count} verified')
    assert not wrong, '\n'.join(wrong)
    assert count == 171


def fields(header):
    """{name: value without white space} of the fields of a set."""
    unfolded = re.sub(r'\r?\n[ \t]+', ' ', header)
    out = {}
    for line in unfolded.splitlines():
        key, _, value = line.partition(':')
        out[key] = re.sub(r'\s', '', value)
    return out


def tags(value):
    return dict(t.split('=', 1) for t in re.sub(r'\s', '', value).split(';') if t)


def test_seal(tmp_path):
    wrong, count = [], 0
    for number, doc in enumerate(scenarios('arc-draft-sign-tests.yml')):
        zone = zone_of(doc, tmp_path / f'{number}.zone')
        key = tmp_path / f'{number}.pem'
        key.write_text(doc['privatekey'], encoding='ascii')
        for case, t in doc['tests'].items():
            count += 1
            args = ['arc', 'seal', '-', '--zone', zone, '--time', t['t'], '--domain', doc['domain'], '--selector', doc['sel'],
                    '--key', str(key), '--headers', t['sig-headers'], '--authserv-id', t['srv-id']]
            if not t['AS'].strip():
                done = suites.run(*args, stdin=t['message'].encode())
                if done.returncode == 0:
                    wrong.append(f'{case}: a set was added to a chain that has ended')
                continue
            new = fields(suites.tool(*args, stdin=t['message'].encode())['header'])
            for short, long in (('AS', 'ARC-Seal'), ('AMS', 'ARC-Message-Signature')):
                if tags(new[long]) != tags(t[short]):
                    wrong.append(f'{case}: {long}: {new[long]}, wanted {t[short]}')
            if new['ARC-Authentication-Results'] != re.sub(r'\s', '', t['AAR']):
                wrong.append(f"{case}: {new['ARC-Authentication-Results']}, wanted {t['AAR']}")
    print(f'{count} seals, {len(wrong)} differ')
    assert not wrong, '\n'.join(wrong)
    assert count == 17
