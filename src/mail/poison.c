/* Poison: what a job is about to parse is noted in memory that outlives the process; after a crash
 * those bytes are suspect and are carried unparsed.  Layout of the page: in-flight slots, then a
 * ring of suspects.  Parent wipes the in-flight slots when core ended in another way than by a
 * fault. */
#include "mail/mail.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/codec.h"

#define IN_FLIGHT  32
#define SUSPECTS   94
#define HASHED_MAX (64u * 1024)
/* Commands have no unparsed way, so a suspect group is refused; what stood innocently beside a
 * crash (a monitor says the same words each time) must be heard again after a while. */
#define COMMANDS_SUSPECT_FOR (10 * 60 * USEC_SEC)

struct poison_slot {
	_Atomic uint32_t stage; /* 0: free */
	uint32_t crc;
	uint64_t size;
	uint64_t head;
	int64_t at; /* of a suspect: monotonic, which all processes of one boot share */
};
struct poison_page {
	struct poison_slot in_flight[IN_FLIGHT];
	struct poison_slot suspects[SUSPECTS];
	_Atomic uint32_t next_suspect;
};
_Static_assert(sizeof(struct poison_page) <= POISON_PAGE, "fits the shared page");

struct poison {
	struct poison_page *page;
	bool own;
};

static void slot_fill(struct poison_slot *s, span bytes)
{
	span hashed = span_sub(bytes, 0, HASHED_MAX);

	s->crc = crc32c(0, hashed);
	s->head = hash_stable(span_sub(bytes, 0, 64));
	s->size = bytes.n;
}

static bool suspect_matches(const struct poison_slot *a, const struct poison_slot *b)
{
	if (a->stage == POISON_SMTP && a->at + COMMANDS_SUSPECT_FOR < clock_mono())
		return false;
	return a->crc == b->crc && a->size == b->size && a->head == b->head;
}

struct poison *poison_open(void *mem)
{
	struct poison *p = xcalloc(1, sizeof *p);

	p->own = !mem;
	p->page = mem ? mem : xcalloc(1, POISON_PAGE);
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		struct poison_slot *s = &p->page->in_flight[i];
		struct poison_slot *to = &p->page->suspects[p->page->next_suspect % SUSPECTS];

		if (!s->stage)
			continue;
		to->crc = s->crc;
		to->size = s->size;
		to->head = s->head;
		to->at = clock_mono();
		to->stage = s->stage;
		s->stage = 0;
		p->page->next_suspect++;
		count_add(COUNT_POISON, 1);
	}
	return p;
}

void poison_close(struct poison *p)
{
	if (!p)
		return;
	if (p->own)
		free(p->page);
	free(p);
}

bool poison_enter(struct poison *p, enum poison_stage stage, span bytes, int *ret_slot)
{
	struct poison_slot probe = { 0 };
	bool any = false;

	*ret_slot = -1;
	for (unsigned i = 0; i < SUSPECTS && !any; i++)
		any = p->page->suspects[i].stage != 0;
	slot_fill(&probe, bytes);
	for (unsigned i = 0; any && i < SUSPECTS; i++)
		if (p->page->suspects[i].stage && suspect_matches(&p->page->suspects[i], &probe))
			return true;
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		struct poison_slot *s = &p->page->in_flight[i];
		uint32_t none = 0;

		if (atomic_compare_exchange_strong(&s->stage, &none, (uint32_t)stage)) {
			s->crc = probe.crc;
			s->size = probe.size;
			s->head = probe.head;
			*ret_slot = (int)i;
			break;
		}
	}
	return false;
}

void poison_leave(struct poison *p, int slot)
{
	if (slot >= 0)
		p->page->in_flight[slot].stage = 0;
}

void poison_forgive(void *mem)
{
	struct poison_page *page = mem;

	for (unsigned i = 0; i < IN_FLIGHT; i++)
		page->in_flight[i].stage = 0;
}
