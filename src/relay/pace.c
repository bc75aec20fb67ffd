#include "relay/pace.h"

#include "base/util.h"

void pace_init(struct pace *p)
{
	*p = (struct pace){ .limit = PACE_FIRST };
}

unsigned pace_allowed(const struct pace *p, unsigned cap)
{
	switch (p->circuit) {
	case PACE_OPEN:
		return 0;
	case PACE_PROBING:
		return 1;
	default:
		return MAX(MIN(p->limit, cap), 1);
	}
}

static void grow(struct pace *p, unsigned cap)
{
	p->good++;
	if (p->was_cut && p->good < p->limit)
		return;
	p->good = 0;
	p->limit = MAX(MIN(p->limit + 1, cap), 1);
}

bool pace_success(struct pace *p, unsigned cap)
{
	bool changed = p->circuit != PACE_CLOSED;

	p->circuit = PACE_CLOSED;
	p->failures = p->cooled = 0;
	p->proven = true;
	if (changed)
		p->limit = 1;
	else
		grow(p, cap);
	return changed;
}

static void open_circuit(struct pace *p, usec now, uint64_t random)
{
	usec in = PACE_COOL_MAX;

	if (p->cooled < 10)
		in = MIN(PACE_COOL_FIRST << p->cooled, PACE_COOL_MAX);
	p->cooled++;
	p->circuit = PACE_OPEN;
	p->until = now + in - in / 16 + (usec)(random % (uint64_t)(in / 8));
}

bool pace_failure(struct pace *p, usec begun, usec now, uint64_t random)
{
	bool probe = p->circuit == PACE_PROBING;

	if (p->circuit == PACE_OPEN || (p->was_cut && begun < p->cut_at))
		return false;
	p->failures++;
	p->limit = MAX(p->limit / 2, 1);
	p->good = 0;
	p->was_cut = true;
	p->cut_at = now;
	if (!probe && p->failures < PACE_PATIENCE)
		return false;
	open_circuit(p, now, random);
	return true;
}

bool pace_probe(struct pace *p, usec now)
{
	if (p->circuit != PACE_OPEN || now < p->until)
		return false;
	p->circuit = PACE_PROBING;
	return true;
}
