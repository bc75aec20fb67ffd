/* Parent <-> role messages (types 128-159).  Parent sends CONF first, then the rest, then START.
 * A role answers READY, and later DIED is seen by its closed channel. */
#pragma once

enum control_type {
	/* parent -> role */
	CONTROL_CONF = 128,   /* payload: configuration text; id: generation.  Again on reload */
	CONTROL_CERT = 129,   /* front: id = key number, payload = PEM chain (a set, ended by CERTS_END) */
	CONTROL_CERTS_END = 130,
	CONTROL_KEY = 131,    /* keys: id = key number, payload = PEM private key */
	CONTROL_CA = 132,     /* out: payload = a piece of the PEM trust anchors; empty = end */
	CONTROL_LISTEN = 133, /* front: fd; id = enum sess_proto | implicit_tls << 8 */
	CONTROL_LISTEN_ADMIN = 134, /* core: fd of the admin socket */
	CONTROL_CHANNEL = 135, /* fd; id = enum control_peer: the channel to a (re)started peer role */
	CONTROL_ANCHOR = 136,  /* out: payload = DNSSEC trust anchor text */
	CONTROL_POISON = 137,  /* core: fd of the shared poison page */
	CONTROL_START = 138,   /* everything was sent: sandbox, then serve */
	CONTROL_PASSWORDS = 140, /* core, before CONF: payload = path and first line (blobs) of each file that holds a password or secret */
	CONTROL_RELOADED = 141, /* core: the answer to its CONTROL_RELOAD; payload = why not, or empty */
	CONTROL_DRAIN = 139,   /* finish what is under way, accept nothing new, then exit 0 */
	CONTROL_CLIENT_CA = 142, /* front: payload = PEM trust anchors of users' certificates; before CERTS_END */
	/* role -> parent */
	CONTROL_READY = 144,
	CONTROL_DRAINED = 145,
	CONTROL_RELOAD = 146,  /* core -> parent: admin asked for a reload */
	CONTROL_STOP = 147,    /* core -> parent: admin asked for a shutdown */
};
enum control_peer { CONTROL_PEER_CORE = 1, CONTROL_PEER_FRONT, CONTROL_PEER_OUT, CONTROL_PEER_KEYS };
/* front gets four CONTROL_PEER_KEYS channels (one per handshake thread), core one, keys the other ends. */
#define CONTROL_KEYS_CHANNELS 4
