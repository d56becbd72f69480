#include "wire.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dds/ddsi/ddsi_serdata.h"

enum { TAKE_AT_ONCE = 16, FIRST_RING = 16, SENDERS = 16 };

/* A writer and the number of its newest message. */
struct sender {
  uint64_t writer;
  uint64_t sequence;
};

/* An inbox moves samples out of the DDS reader the moment they arrive, on the thread that delivers them,
   into a ring of the subscription's own depth. So a busy callback delays nobody, and what is dropped is
   counted, which DDS itself does not do. The reader's own cache only has to hold what arrives on several
   threads at the same instant (wire_make_qos, reader_cache). A lifespan ends in DDS's caches only: what waits
   here for a busy callback is delivered however old it is. */
struct inbox {
  pthread_mutex_t lock; /* held while taking too, so that order is kept */
  struct inbox_message *ring;
  uint32_t size;     /* of ring; grows up to capacity */
  uint32_t capacity; /* messages kept at most */
  uint32_t first;
  uint32_t count;
  struct inbox_totals totals;
  struct sender senders[SENDERS];
  uint32_t next_sender; /* whose place a new one takes */
  int event;
};

struct inbox *inbox_create (uint32_t capacity)
{
  struct inbox *box = calloc (1, sizeof *box);
  if (box == NULL)
    return NULL;
  box->capacity = capacity;
  box->size = capacity < FIRST_RING ? capacity : FIRST_RING;
  box->ring = calloc (box->size, sizeof *box->ring);
  box->event = eventfd (0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (box->ring == NULL || box->event < 0) {
    if (box->event >= 0)
      close (box->event);
    free (box->ring);
    free (box);
    return NULL;
  }
  pthread_mutex_init (&box->lock, NULL);
  return box;
}

int inbox_event (const struct inbox *box)
{
  return box->event;
}

static struct inbox_message pop (struct inbox *box)
{
  struct inbox_message m = box->ring[box->first];
  box->first = (box->first + 1) % box->size;
  box->count--;
  return m;
}

static bool grow (struct inbox *box)
{
  uint32_t size = 2 * box->size < box->capacity ? 2 * box->size : box->capacity;
  struct inbox_message *ring = calloc (size, sizeof *ring);
  if (ring == NULL)
    return false;
  for (uint32_t i = 0; i < box->count; i++)
    ring[i] = box->ring[(box->first + i) % box->size];
  free (box->ring);
  box->ring = ring;
  box->size = size;
  box->first = 0;
  return true;
}

/* Plain CDR, big endian (0x0000) or little endian (0x0001), is all that ROS 2 Humble sends. */
static bool well_formed (const struct inbox_message *m)
{
  return m->size >= 4 && m->data[0] == 0 && m->data[1] <= 1;
}

/* Counts what a writer sent between its last message here and this one. A topic rarely has more writers at
   a time than SENDERS; of one that lost its place, a gap may go unseen. Called with the lock held. */
static void note_sequence (struct inbox *box, uint64_t writer, uint64_t sequence)
{
  if (sequence == 0)
    return;
  for (struct sender *s = box->senders; s < box->senders + SENDERS; s++) {
    if (s->writer != writer || s->sequence == 0)
      continue;
    if (sequence > s->sequence) {
      box->totals.lost += sequence - s->sequence - 1;
      s->sequence = sequence;
    }
    return;
  }
  box->senders[box->next_sender] = (struct sender) { writer, sequence };
  box->next_sender = (box->next_sender + 1) % SENDERS;
}

/* Called with the lock held. */
static void put (struct inbox *box, struct ddsi_serdata *sample, const dds_sample_info_t *info)
{
  struct inbox_message m = { .sample = sample, .stamp = info->source_timestamp, .writer = info->publication_handle };
  m.data = wire_bytes (sample, &m.size);
  note_sequence (box, m.writer, wire_sequence (sample));
  if (!well_formed (&m)) {
    box->totals.malformed++;
    ddsi_serdata_unref (sample);
    return;
  }
  if (box->count == box->capacity || (box->count == box->size && !grow (box))) {
    struct inbox_message oldest = pop (box);
    ddsi_serdata_unref (oldest.sample);
    box->totals.dropped++;
  }
  box->ring[(box->first + box->count) % box->size] = m;
  box->count++;
}

static void on_data (dds_entity_t reader, void *arg)
{
  struct inbox *box = arg;
  struct ddsi_serdata *samples[TAKE_AT_ONCE];
  dds_sample_info_t infos[TAKE_AT_ONCE];
  pthread_mutex_lock (&box->lock);
  bool was_empty = box->count == 0;
  dds_return_t n;
  do {
    n = dds_takecdr (reader, samples, TAKE_AT_ONCE, infos, DDS_ANY_STATE);
    for (dds_return_t i = 0; i < n; i++) {
      if (infos[i].valid_data)
        put (box, samples[i], &infos[i]);
      else
        ddsi_serdata_unref (samples[i]); /* a writer left */
    }
  } while (n == TAKE_AT_ONCE);
  if (was_empty && box->count > 0) {
    uint64_t one = 1;
    ssize_t written = write (box->event, &one, sizeof one);
    (void) written; /* fails only when the counter is full, and then it is readable */
  }
  pthread_mutex_unlock (&box->lock);
}

dds_entity_t inbox_attach (struct inbox *box, dds_entity_t participant, dds_entity_t topic, const dds_qos_t *qos)
{
  dds_listener_t *listener = dds_create_listener (box);
  if (listener == NULL)
    return DDS_RETCODE_OUT_OF_RESOURCES;
  dds_lset_data_available (listener, on_data);
  dds_entity_t reader = dds_create_reader (participant, topic, qos, listener);
  dds_delete_listener (listener);
  if (reader > 0)
    on_data (reader, box); /* what came before the listener could take it */
  return reader;
}

void inbox_release (struct inbox_message *m)
{
  if (m->sample != NULL)
    ddsi_serdata_unref (m->sample);
  m->sample = NULL;
}

bool inbox_next (struct inbox *box, struct inbox_message *m)
{
  inbox_release (m);
  pthread_mutex_lock (&box->lock);
  bool some = box->count > 0;
  if (some)
    *m = pop (box);
  pthread_mutex_unlock (&box->lock);
  return some;
}

struct inbox_totals inbox_counts (struct inbox *box)
{
  pthread_mutex_lock (&box->lock);
  struct inbox_totals totals = box->totals;
  pthread_mutex_unlock (&box->lock);
  return totals;
}

void inbox_destroy (struct inbox *box)
{
  while (box->count > 0)
    ddsi_serdata_unref (pop (box).sample);
  pthread_mutex_destroy (&box->lock);
  free (box->ring);
  free (box);
}
