"""One answer per recipient, as other servers' clients ask for it: Exim's PRDR and Postfix's lmtp(8)."""

from lab import Smtp, message, wait_for


def inject(peer, sender, recipients, m):
    with Smtp(peer.address, peer.port) as s:
        s.envelope(sender, *recipients)
        assert s.body(m).startswith("250")


def test_prdr_from_exim(lab, exim):
    to = [lab.alpha.account()[0] for _ in range(3)]
    inject(exim, "x@exim.test", to, message("x@exim.test", to[0]))
    for address in to:
        assert len(lab.alpha.wait_messages(address)) == 1
    lines = [line for line in wait_for(lambda: exim.log_text().splitlines()) if f" {to[2]} " in line]
    wait_for(lambda: [line for line in exim.log_text().splitlines()
                      if " PRDR " in line and any(a in line for a in to)], what=f"PRDR in {lines}")


def test_lmtp_from_postfix(lab, postfix):
    to, nobody = lab.alpha.account()[0], "nobody-by-lmtp@alpha.test"
    with open(postfix.path("etc/postfix/transport"), "a", encoding="utf-8") as f:
        for address in (to, nobody):
            f.write(f"{address} lmtp:[127.0.0.1]:{lab.alpha.lmtp}\n")
    assert postfix.run("postfix", "reload").returncode == 0
    sender = lab.beta.account()[0]
    inject(postfix, sender, [to, nobody], message(sender, to))
    (got,) = lab.alpha.wait_messages(to)
    assert b" with LMTP id " in got, got
    bounce = lab.beta.wait_messages(sender)[0]
    assert nobody.encode() in bounce and to.encode() not in bounce.split(b"message/rfc822")[0], bounce
    assert "postfix/lmtp" in postfix.log_text()
