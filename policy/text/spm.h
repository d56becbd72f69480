// A C face for the few calls of libsentencepiece that are used.
#ifndef DDVLA_TEXT_SPM_H
#define DDVLA_TEXT_SPM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t pieces, bos, eos;
    int32_t empty;        // id of the word-boundary piece, U+2581 alone
    int32_t is_unknown;   // whether that id means "no such piece"
} ddvla_spm_facts;

// Returns a processor, or NULL with a reason in message.
void *ddvla_spm_open(const char *model, size_t n, ddvla_spm_facts *facts, char *message, size_t room);
void ddvla_spm_close(void *processor);

// Writes at most room ids and returns how many there are, or -1 with a reason in
// message. Safe for concurrent use.
int64_t ddvla_spm_encode(const void *processor, const char *text, size_t n, int32_t *ids, size_t room,
                         char *message, size_t message_room);

// Writes the text of a piece, a word boundary as U+2581, ends it with 0 and returns
// its length, or -1 where there is no such id or no room.
int64_t ddvla_spm_piece(const void *processor, int32_t id, char *text, size_t room);

#ifdef __cplusplus
}
#endif

#endif
