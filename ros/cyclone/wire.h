/* ROS 2 messages through Eclipse Cyclone DDS as the bytes they are: no IDL, no generated types.

   wire_type.c  topics whose samples are encapsulated CDR, and writing them
   inbox.c      a bounded queue behind each reader, emptied by a goroutine
   graph.c      what the discovery of DDS knows of endpoints

   Nothing here keeps a pointer to Go memory. */
#ifndef DDVLA_ROS_CYCLONE_WIRE_H
#define DDVLA_ROS_CYCLONE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dds/dds.h"

struct ddsi_serdata;
struct ddsi_sertype;

/* QoS as package ros has it; durations in ns, 0 = infinite. */
struct wire_qos {
  bool best_effort;
  bool transient_local;
  bool keep_all;
  int32_t depth;
  int64_t deadline;
  int64_t lifespan;
};

/* Makes a DDS QoS; user_data may be NULL. reader_cache is the least depth of the history, see inbox.c. */
dds_qos_t *wire_make_qos (const struct wire_qos *q, const char *user_data, int32_t reader_cache);

/* Creates a keyless topic of the named type and tells in *type what wire_write needs; the type lives as
   long as the topic. Returns the topic or a negative DDS return code. */
dds_entity_t wire_create_topic (dds_entity_t participant, const char *name, const char *type_name,
                                const struct ddsi_sertype **type);

/* Writes head followed by body as one sample; together they are CDR with its encapsulation header. Both
   are copied. Never blocks on a reader. */
dds_return_t wire_write (dds_entity_t writer, const struct ddsi_sertype *type, const void *head,
                         size_t head_size, const void *body, size_t body_size);

/* The bytes of a sample, valid as long as it is. */
const uint8_t *wire_bytes (const struct ddsi_serdata *sample, size_t *size);

/* The number that its writer gave a sample, from 1; 0 where it did not come over the network. */
uint64_t wire_sequence (const struct ddsi_serdata *sample);

/* ---- inbox.c ---- */

struct inbox;

struct inbox_message {
  struct ddsi_serdata *sample; /* NULL, or to be given back with inbox_release */
  const uint8_t *data;
  size_t size;
  int64_t stamp;   /* ns since the epoch, the writer's clock */
  uint64_t writer; /* instance handle of the publication */
};

/* capacity is the number of messages that wait. Returns NULL without memory or file descriptors. */
struct inbox *inbox_create (uint32_t capacity);
/* A file descriptor that becomes readable when the inbox is no longer empty; the caller closes it, after
   the reader was deleted. */
int inbox_event (const struct inbox *box);
/* Creates the reader that fills box. */
dds_entity_t inbox_attach (struct inbox *box, dds_entity_t participant, dds_entity_t topic, const dds_qos_t *qos);
/* Gives back m->sample, if any, and takes the oldest message. False: there is none. */
bool inbox_next (struct inbox *box, struct inbox_message *m);
/* Gives back m->sample, if any. */
void inbox_release (struct inbox_message *m);
/* Totals of messages since the inbox was created. */
struct inbox_totals {
  uint64_t dropped;   /* to make room */
  uint64_t malformed; /* not plain CDR */
  uint64_t lost;      /* left out in the writers' numbering: they never came */
};

struct inbox_totals inbox_counts (struct inbox *box);
/* The reader must have been deleted before. */
void inbox_destroy (struct inbox *box);

/* ---- graph.c ---- */

struct graph_endpoint {
  dds_guid_t guid;
  dds_guid_t participant;
  char topic[256];
  char type[256];
  struct wire_qos qos;
  bool leased; /* its liveliness is not the automatic one without a lease */
};

/* The writers (publications true) or readers that discovery knows, this process's own included. *list is
   to be freed. Negative: a DDS return code. */
int graph_endpoints (dds_entity_t participant, bool publications, struct graph_endpoint **list);
/* The participants that are alive. *list is to be freed. */
int graph_participants (dds_entity_t participant, dds_guid_t **list);

enum peer_state { PEER_GONE, PEER_UNMATCHED, PEER_READY };

/* Tells whether the client that wrote a request through `publication` will get what reply_writer writes. */
enum peer_state graph_client_state (dds_entity_t request_reader, dds_entity_t reply_writer, uint64_t publication);
/* Tells whether a server stands behind both ends of a client. */
bool graph_server_ready (dds_entity_t request_writer, dds_entity_t reply_reader);

#endif
