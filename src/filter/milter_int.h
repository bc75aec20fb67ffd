/* Inside the milter's state machine. */
#pragma once

#include "filter/milter.h"

/* What the filter is told, in this order; EVENT_EOM is the end of the message. */
enum milter_event {
	EVENT_NEGOTIATE,
	EVENT_CONNECT,
	EVENT_HELO,
	EVENT_MAIL,
	EVENT_RCPT,
	EVENT_DATA,
	EVENT_HEADER,
	EVENT_EOH,
	EVENT_BODY,
	EVENT_EOM,
	EVENT_COUNT
};

/* Macros: names that Sendmail gave to facts. */
struct milter_facts {
	struct filter_session s; /* spans owned by the machine */
	span rcpt;
	char peer_ip[SOCK_TEXT], peer_port[8];
};
/* Which names the filter wants to see at an event (SMFIR_SETSYMLIST); p NULL: it did not say. */
struct milter_wishes {
	span names[EVENT_COUNT];
};
/* Appends the SMFIC_MACRO frame for E, if any macro has a value there. */
void milter_put_macros(struct buf *b, enum milter_event e, const struct milter_facts *f,
		       const struct milter_wishes *w);
/* The list in the tail of an option reply: be32 stage, "names\0".  False: malformed. */
bool milter_wishes_parse(span list, struct arena *mem, struct milter_wishes *ret);

/* Frames: be32 length, command, data.  _begin returns the place for _end. */
size_t milter_frame_begin(struct buf *b, char command);
void milter_frame_end(struct buf *b, size_t at);
void milter_put_be32(struct buf *b, uint32_t v);
uint32_t milter_be32(const char *p);
