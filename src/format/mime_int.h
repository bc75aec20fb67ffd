/* Fields of a MIME part.  Internal to the room. */
#pragma once

#include "format/header.h"
#include "format/mime.h"

/* Fills P from the field F if it is a Content- field that P does not have yet. */
void mime_note_field(struct mime_part *p, const struct header_field *f, struct arena *mem);
