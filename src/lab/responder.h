/* The lab's authoritative name server: one thread, UDP and TCP on one loopback port. */
#pragma once

#include "lab/zone.h"

struct responder;
/* Serves ZONE (which must outlive it) on 127.0.0.1; *RET_PORT is the port it got. */
int responder_start(const struct zone *z, struct responder **ret, uint16_t *ret_port,
		    struct err_info *info);
void responder_stop(struct responder *r); /* NULL is fine */
