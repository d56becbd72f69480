#include "wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dds/ddsi/ddsi_serdata.h"
#include "dds/ddsi/ddsi_sertype.h"
#include "dds/ddsi/q_misc.h"
#include "dds/ddsi/q_protocol.h"
#include "dds/ddsi/q_radmin.h"

/* A sample: Cyclone's part, then the encapsulated bytes, zero-padded to a multiple of four because Cyclone
   may read that far. Immutable once made, shared by reference count. */
struct sample {
  struct ddsi_serdata common;
  uint64_t sequence; /* the writer's number, from 1; 0 where it did not come over the network */
  size_t size;
  uint8_t data[];
};

static const struct sample *sample_of (const struct ddsi_serdata *d)
{
  return (const struct sample *) d;
}

static struct sample *sample_new (const struct ddsi_sertype *type, enum ddsi_serdata_kind kind, size_t size)
{
  struct sample *s = malloc (sizeof *s + size + 4);
  if (s == NULL)
    return NULL;
  ddsi_serdata_init (&s->common, type, kind);
  s->sequence = 0;
  s->size = size;
  memset (s->data + size, 0, 4);
  return s;
}

const uint8_t *wire_bytes (const struct ddsi_serdata *d, size_t *size)
{
  *size = sample_of (d)->size;
  return sample_of (d)->data;
}

uint64_t wire_sequence (const struct ddsi_serdata *d)
{
  return sample_of (d)->sequence;
}

/* ---- operations on samples that Cyclone calls ---- */

/* Without key fields there is one instance, so all keys are equal. */
static bool sample_eqkey (const struct ddsi_serdata *a, const struct ddsi_serdata *b)
{
  (void) a;
  (void) b;
  return true;
}

static uint32_t sample_size (const struct ddsi_serdata *d)
{
  return (uint32_t) sample_of (d)->size;
}

static void sample_free (struct ddsi_serdata *d)
{
  free (d);
}

/* The one copy on the way in: fragments of a datagram chain become contiguous. They may overlap. */
static struct ddsi_serdata *sample_from_network (const struct ddsi_sertype *type, enum ddsi_serdata_kind kind,
                                                 const struct nn_rdata *fragment, size_t size)
{
  struct sample *s = sample_new (type, kind, size);
  if (s == NULL)
    return NULL;
  /* Cyclone does not pass the sequence number on, but the message it parsed is still there, and Data and
     DataFrag begin alike (DDSI-RTPS 2.2, 9.4.5.3 and 9.4.5.4). */
  if (fragment != NULL && fragment->submsg_zoff != 0) {
    const Data_DataFrag_common_t *m = (const Data_DataFrag_common_t *) NN_RMSG_PAYLOADOFF (fragment->rmsg, NN_RDATA_SUBMSG_OFF (fragment));
    s->sequence = (uint64_t) fromSN (m->writerSN);
  }
  size_t have = 0;
  for (; fragment != NULL && have < size; fragment = fragment->nextfrag) {
    size_t end = fragment->maxp1 < size ? fragment->maxp1 : size;
    if (fragment->min > have)
      break; /* a hole: cannot be of a complete sample */
    if (end > have) {
      const uint8_t *payload = NN_RMSG_PAYLOADOFF (fragment->rmsg, NN_RDATA_PAYLOAD_OFF (fragment));
      memcpy (s->data + have, payload + (have - fragment->min), end - have);
      have = end;
    }
  }
  if (have < size) {
    sample_free (&s->common);
    return NULL;
  }
  return &s->common;
}

static struct ddsi_serdata *sample_from_iovec (const struct ddsi_sertype *type, enum ddsi_serdata_kind kind,
                                               ddsrt_msg_iovlen_t n, const ddsrt_iovec_t *iov, size_t size)
{
  struct sample *s = sample_new (type, kind, size);
  if (s == NULL)
    return NULL;
  size_t have = 0;
  for (ddsrt_msg_iovlen_t i = 0; i < n && have < size; i++) {
    size_t len = (size_t) iov[i].iov_len < size - have ? (size_t) iov[i].iov_len : size - have;
    memcpy (s->data + have, iov[i].iov_base, len);
    have += len;
  }
  memset (s->data + have, 0, size - have);
  return &s->common;
}

static struct ddsi_serdata *sample_from_keyhash (const struct ddsi_sertype *type, const struct ddsi_keyhash *hash)
{
  (void) hash;
  struct sample *s = sample_new (type, SDK_KEY, 0);
  return s ? &s->common : NULL;
}

/* dds_write and dds_take are never used on these topics, only their cdr forms. */
static struct ddsi_serdata *sample_from_struct (const struct ddsi_sertype *type, enum ddsi_serdata_kind kind, const void *s)
{
  (void) type;
  (void) kind;
  (void) s;
  return NULL;
}

static bool sample_to_struct (const struct ddsi_serdata *d, void *s, void **buf, void *end)
{
  (void) d;
  (void) s;
  (void) buf;
  (void) end;
  return false;
}

static bool sample_untyped_to_struct (const struct ddsi_sertype *type, const struct ddsi_serdata *d, void *s, void **buf, void *end)
{
  (void) type;
  (void) d;
  (void) s;
  (void) buf;
  (void) end;
  return true; /* there is no key to fill in */
}

static void sample_copy_out (const struct ddsi_serdata *d, size_t offset, size_t size, void *buf)
{
  memcpy (buf, sample_of (d)->data + offset, size);
}

static struct ddsi_serdata *sample_borrow (const struct ddsi_serdata *d, size_t offset, size_t size, ddsrt_iovec_t *ref)
{
  ref->iov_base = (void *) (sample_of (d)->data + offset);
  ref->iov_len = size;
  return ddsi_serdata_ref (d);
}

static void sample_give_back (struct ddsi_serdata *d, const ddsrt_iovec_t *ref)
{
  (void) ref;
  ddsi_serdata_unref (d);
}

static struct ddsi_serdata *sample_to_untyped (const struct ddsi_serdata *d)
{
  struct sample *s = sample_new (d->type, SDK_KEY, 0);
  if (s == NULL)
    return NULL;
  s->common.hash = d->hash;
  s->common.type = NULL;
  return &s->common;
}

static size_t sample_print (const struct ddsi_sertype *type, const struct ddsi_serdata *d, char *buf, size_t size)
{
  (void) type;
  int n = snprintf (buf, size, "(%zu bytes)", sample_of (d)->size);
  return n < 0 ? 0 : (size_t) n;
}

static void sample_keyhash (const struct ddsi_serdata *d, struct ddsi_keyhash *buf, bool force_md5)
{
  (void) d;
  (void) force_md5;
  memset (buf, 0, sizeof *buf);
}

static const struct ddsi_serdata_ops sample_ops = {
  .eqkey = sample_eqkey,
  .get_size = sample_size,
  .from_ser = sample_from_network,
  .from_ser_iov = sample_from_iovec,
  .from_keyhash = sample_from_keyhash,
  .from_sample = sample_from_struct,
  .to_ser = sample_copy_out,
  .to_ser_ref = sample_borrow,
  .to_ser_unref = sample_give_back,
  .to_sample = sample_to_struct,
  .to_untyped = sample_to_untyped,
  .untyped_to_sample = sample_untyped_to_struct,
  .free = sample_free,
  .print = sample_print,
  .get_keyhash = sample_keyhash,
};

/* ---- operations on types that Cyclone calls ---- */

static void type_free (struct ddsi_sertype *type)
{
  ddsi_sertype_fini (type);
  free (type);
}

static void type_zero_samples (const struct ddsi_sertype *type, void *samples, size_t count)
{
  (void) type;
  (void) samples;
  (void) count;
}

static void type_realloc_samples (void **ptrs, const struct ddsi_sertype *type, void *old, size_t old_count, size_t count)
{
  (void) type;
  (void) old;
  (void) old_count;
  for (size_t i = 0; i < count; i++)
    ptrs[i] = NULL;
}

static void type_free_samples (const struct ddsi_sertype *type, void **ptrs, size_t count, dds_free_op_t op)
{
  (void) type;
  (void) ptrs;
  (void) count;
  (void) op;
}

/* Only called for types of equal name and operations: nothing else tells ours apart. */
static bool type_equal (const struct ddsi_sertype *a, const struct ddsi_sertype *b)
{
  (void) a;
  (void) b;
  return true;
}

static uint32_t type_hash (const struct ddsi_sertype *type)
{
  (void) type;
  return 0;
}

static struct ddsi_sertype *type_derive (const struct ddsi_sertype *type, dds_data_representation_id_t representation,
                                         dds_type_consistency_enforcement_qospolicy_t consistency)
{
  (void) representation; /* there is only one */
  (void) consistency;
  return (struct ddsi_sertype *) type;
}

/* No type_id, type_map and type_info: like ROS 2 Humble, topics match by the names of topic and type. */
static const struct ddsi_sertype_ops type_ops = {
  .version = ddsi_sertype_v0,
  .free = type_free,
  .zero_samples = type_zero_samples,
  .realloc_samples = type_realloc_samples,
  .free_samples = type_free_samples,
  .equal = type_equal,
  .hash = type_hash,
  .derive_sertype = type_derive,
};

dds_entity_t wire_create_topic (dds_entity_t participant, const char *name, const char *type_name,
                                const struct ddsi_sertype **type)
{
  struct ddsi_sertype *t = calloc (1, sizeof *t);
  if (t == NULL)
    return DDS_RETCODE_OUT_OF_RESOURCES;
  ddsi_sertype_init (t, type_name, &type_ops, &sample_ops, true);
  t->allowed_data_representation = DDS_DATA_REPRESENTATION_FLAG_XCDR1;
  /* On success Cyclone owns t and may have put an equal, older type in its place. */
  dds_entity_t topic = dds_create_topic_sertype (participant, name, &t, NULL, NULL, NULL);
  if (topic < 0)
    ddsi_sertype_unref (t);
  *type = t;
  return topic;
}

dds_return_t wire_write (dds_entity_t writer, const struct ddsi_sertype *type, const void *head,
                         size_t head_size, const void *body, size_t body_size)
{
  struct sample *s = sample_new (type, SDK_DATA, head_size + body_size);
  if (s == NULL)
    return DDS_RETCODE_OUT_OF_RESOURCES;
  memcpy (s->data, head, head_size);
  if (body_size > 0)
    memcpy (s->data + head_size, body, body_size);
  return dds_writecdr (writer, &s->common); /* takes the reference, unless the writer is deleted already */
}

dds_qos_t *wire_make_qos (const struct wire_qos *q, const char *user_data, int32_t reader_cache)
{
  dds_qos_t *qos = dds_create_qos ();
  dds_data_representation_id_t representation = DDS_DATA_REPRESENTATION_XCDR1;
  dds_history_kind_t history = q->keep_all ? DDS_HISTORY_KEEP_ALL : DDS_HISTORY_KEEP_LAST;
  int32_t depth = q->keep_all ? DDS_LENGTH_UNLIMITED : q->depth;
  dds_qset_data_representation (qos, 1, &representation);
  dds_qset_writer_data_lifecycle (qos, false);
  /* A blocking time of 0: a KEEP_ALL writer whose reader is slow refuses at once instead of waiting.
     KEEP_LAST writers never wait, they replace what was not acknowledged. */
  dds_qset_reliability (qos, q->best_effort ? DDS_RELIABILITY_BEST_EFFORT : DDS_RELIABILITY_RELIABLE, 0);
  if (q->transient_local) {
    dds_qset_durability (qos, DDS_DURABILITY_TRANSIENT_LOCAL);
    dds_qset_durability_service (qos, 0, history, depth, DDS_LENGTH_UNLIMITED, DDS_LENGTH_UNLIMITED, DDS_LENGTH_UNLIMITED);
  } else {
    dds_qset_durability (qos, DDS_DURABILITY_VOLATILE);
  }
  if (!q->keep_all && depth < reader_cache)
    depth = reader_cache;
  dds_qset_history (qos, history, depth);
  if (q->deadline > 0)
    dds_qset_deadline (qos, q->deadline);
  if (q->lifespan > 0)
    dds_qset_lifespan (qos, q->lifespan);
  if (user_data != NULL)
    dds_qset_userdata (qos, user_data, strlen (user_data));
  return qos;
}
