/* Inside lab/: the two hosts and what is known of them. */
#pragma once

#include <sys/types.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "lab/lab.h"
#include "lab/responder.h"
#include "lab/zone.h"

#define LAB_HOSTS    2
#define LAB_ACCOUNTS 3 /* per host */
#define LAB_PORTS    8 /* as in lab_port_names */
/* A Unix socket's path has at most 107 bytes: DIR/alpha/data/admin.sock. */
#define LAB_DIR_MAX (107 - (int)sizeof "/alpha/data/admin.sock")

extern const char *const lab_port_names[LAB_PORTS];

struct lab_host {
	const char *name, *domain; /* "mx.alpha.test", "alpha.test" */
	const char *users[LAB_ACCOUNTS];
	char address[20]; /* loopback address of its own */
	char dir[4096], config[4096], admin[4096];
	uint16_t ports[LAB_PORTS]; /* on 127.0.0.1 */
	pid_t pid;
	int ready; /* pipe that gets a byte */
};
struct lab {
	char dir[4096];
	const char *zone_file; /* more records, or NULL */
	bool json, once, single;
	uint16_t mx_port; /* common */
	uint16_t dns_port;
	char ca_path[4200], anchor_path[4200];
	struct lab_host hosts[LAB_HOSTS];
	char passwords[LAB_HOSTS][LAB_ACCOUNTS][24];
	struct zone *zone;
	struct responder *responder;
	int lock;  /* DIR/lock: one lab at a time */
	int sigfd; /* SIGTERM, SIGINT, SIGCHLD */
};

/* files.c: addresses, ports, certificates, zone, configuration files below LAB->dir. */
int lab_prepare(struct lab *l, struct err_info *info);
/* hosts.c: starting, filling and ending the servers.  ERR_CLOSED without text in INFO: a signal
 * asked for the end meanwhile. */
int lab_start(struct lab *l, struct err_info *info);
/* Domains and accounts, over the admin sockets. */
int lab_fill(struct lab *l, struct err_info *info);
/* Ends both servers: SIGTERM, and SIGKILL for one that takes too long. */
void lab_stop(struct lab *l);
/* The line of --json. */
int lab_json(const struct lab *l, struct buf *b);
/* demo.c: one message from the first host's first user to the second's, followed to its mailbox.
 * Prints the journey; ERR_TIMEOUT if it does not arrive within 20 s. */
int lab_demo(struct lab *l, struct err_info *info);
