/* Arguments of IMAP commands (RFC 3501 9) as values.  Pure; all results live in the arena or point
 * into the command.  Linear in the length of the command; depth and counts are limited: search keys
 * nest 32 deep and number 1,024, fetch items 128, part numbers 64 levels. */
#pragma once

#include "imap/commands.h"
#include "imap/set.h"

enum {
	IMAP_MAX_DEPTH = 32,
	IMAP_MAX_KEYS = 1024,
	IMAP_MAX_ITEMS = 128,
	IMAP_MAX_PATH = 64,
	IMAP_MAX_PATTERNS = 64
};

/* --- FETCH --- */
enum imap_fetch_kind {
	IMAP_FETCH_UID,
	IMAP_FETCH_FLAGS,
	IMAP_FETCH_INTERNALDATE,
	IMAP_FETCH_SIZE,
	IMAP_FETCH_ENVELOPE,
	IMAP_FETCH_BODY,
	IMAP_FETCH_BODYSTRUCTURE,
	IMAP_FETCH_SECTION
};
enum imap_section_what {
	IMAP_SECTION_ALL,
	IMAP_SECTION_HEADER,
	IMAP_SECTION_TEXT,
	IMAP_SECTION_MIME,
	IMAP_SECTION_FIELDS,
	IMAP_SECTION_FIELDS_NOT
};
struct imap_fetch_item {
	enum imap_fetch_kind kind;
	/* of a section */
	enum imap_section_what what;
	unsigned *path;
	size_t n_path;
	span *fields; /* of HEADER.FIELDS(.NOT) */
	size_t n_fields;
	bool peek, partial;
	uint32_t from, count;
	span label; /* how the answer names it: BODY[1.TEXT]<0> */
};
struct imap_fetch_args {
	struct imap_fetch_item *items;
	size_t n;
	bool sets_seen; /* some section without PEEK */
};

/* --- STORE, APPEND --- */
struct imap_flags {
	uint32_t system; /* FLAG_* of the store, in RFC 3501's order */
	span *keywords;
	size_t n_keywords;
};
enum imap_store_op { IMAP_STORE_SET, IMAP_STORE_ADD, IMAP_STORE_REMOVE };

/* --- SEARCH --- */
enum imap_key {
	IMAP_KEY_ALL,
	IMAP_KEY_AND,
	IMAP_KEY_OR,
	IMAP_KEY_NOT,
	IMAP_KEY_SEQ,
	IMAP_KEY_UID,
	IMAP_KEY_FLAG,
	IMAP_KEY_KEYWORD,
	IMAP_KEY_RECENT,
	IMAP_KEY_SMALLER,
	IMAP_KEY_LARGER,
	IMAP_KEY_BEFORE,
	IMAP_KEY_ON,
	IMAP_KEY_SINCE,
	IMAP_KEY_SENTBEFORE,
	IMAP_KEY_SENTON,
	IMAP_KEY_SENTSINCE,
	IMAP_KEY_HEADER,
	IMAP_KEY_BODY,
	IMAP_KEY_TEXT
};
struct imap_search {
	enum imap_key key;
	span name, text;     /* HEADER's field; what to look for (bytes of the charset: UTF-8) */
	uint32_t flag;	     /* FLAG: the store's bit */
	uint64_t n;	     /* SMALLER, LARGER */
	usec day;	     /* 00:00 UTC of the day */
	struct imap_set set; /* as written */
	struct imap_search *child, *next; /* AND, OR, NOT: operands */
};

/* --- LIST --- */
enum { IMAP_LIST_SPECIAL_USE = 1, IMAP_LIST_SUBSCRIBED = 2, IMAP_LIST_CHILDREN = 4 };
struct imap_list_args {
	span reference;
	span *patterns; /* as on the wire */
	size_t n;
	unsigned select, ret;
	bool ret_given;
};

enum {
	IMAP_STATUS_MESSAGES = 1,
	IMAP_STATUS_RECENT = 2,
	IMAP_STATUS_UIDNEXT = 4,
	IMAP_STATUS_UIDVALIDITY = 8,
	IMAP_STATUS_UNSEEN = 16
};

struct imap_args {
	span tag;
	const struct imap_command *cmd;
	bool uid;	 /* with the prefix UID */
	span mailbox[2]; /* UTF-8 */
	unsigned n_mailboxes;
	bool bad_name; /* a mailbox name is not modified UTF-7: the answer is NO, not BAD */
	span text[2];
	unsigned n_texts;
	bool has_initial; /* AUTHENTICATE with an initial response, in text[1] */
	struct imap_set set;
	bool has_set;
	struct imap_fetch_args fetch;
	enum imap_store_op op;
	bool silent;
	struct imap_flags flags;
	struct imap_search *search; /* an AND of everything */
	bool bad_charset;
	struct imap_list_args list;
	unsigned status;
	int special; /* CREATE: SPECIAL_* as a position in imap_special_uses, 0: none */
	bool bad_use;
	bool has_date;
	usec date; /* APPEND */
	struct imap_literal literal;
	span message; /* APPEND: the bytes, when they are in the command */
	bool pending; /* APPEND: the command ends in its literal's announcement */
};

/* Reads tag and command name of LINE (any prefix of a command); RET->tag is "*" where there is
 * none.  False: no tag, no or unknown command; WHY says so. */
bool imap_parse_head(struct imap_lex *l, struct imap_args *ret);
/* A whole command.  False: BAD, with *RET_WHY (literal text); RET->tag is set where one could be
 * read. */
bool imap_parse(span command, struct arena *mem, struct imap_args *ret, const char **ret_why);

/* Special uses in the order of the store's SPECIAL_*; NULL at 0. */
extern const char *const imap_special_uses[];
extern const size_t imap_n_special_uses;
/* The system flags in the order of the store's bits. */
extern const char *const imap_system_flags[5];
