#include "wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TAKE_AT_ONCE = 64, MOST_PEERS = 256 };

/* Goes through a built-in topic's samples with a reader made for it, which Cyclone fills at once from what
   it knows. Room for the results grows by element; convert fills one. */
static int list_builtin (dds_entity_t participant, dds_entity_t topic, size_t element, void **list,
                         void (*convert) (void *to, const void *sample))
{
  dds_entity_t reader = dds_create_reader (participant, topic, NULL, NULL);
  if (reader < 0)
    return reader;
  char *out = NULL;
  int total = 0;
  dds_return_t n;
  do {
    void *samples[TAKE_AT_ONCE] = { NULL };
    dds_sample_info_t infos[TAKE_AT_ONCE];
    n = dds_take (reader, samples, infos, TAKE_AT_ONCE, TAKE_AT_ONCE);
    if (n <= 0)
      break;
    char *grown = realloc (out, (size_t) (total + n) * element);
    if (grown == NULL) {
      dds_return_loan (reader, samples, n);
      n = DDS_RETCODE_OUT_OF_RESOURCES;
      break;
    }
    out = grown;
    for (dds_return_t i = 0; i < n; i++)
      if (infos[i].valid_data && infos[i].instance_state == DDS_IST_ALIVE)
        convert (out + (size_t) total++ * element, samples[i]);
    dds_return_loan (reader, samples, n);
  } while (n > 0);
  dds_delete (reader);
  if (n < 0) {
    free (out);
    return n;
  }
  *list = out;
  return total;
}

static void read_qos (struct wire_qos *q, const dds_qos_t *qos)
{
  memset (q, 0, sizeof *q);
  dds_reliability_kind_t reliability;
  dds_durability_kind_t durability;
  dds_history_kind_t history;
  dds_duration_t d;
  if (dds_qget_reliability (qos, &reliability, &d))
    q->best_effort = reliability == DDS_RELIABILITY_BEST_EFFORT;
  if (dds_qget_durability (qos, &durability))
    q->transient_local = durability >= DDS_DURABILITY_TRANSIENT_LOCAL;
  if (dds_qget_history (qos, &history, &q->depth))
    q->keep_all = history == DDS_HISTORY_KEEP_ALL;
  if (dds_qget_deadline (qos, &d) && d != DDS_INFINITY)
    q->deadline = d;
  if (dds_qget_lifespan (qos, &d) && d != DDS_INFINITY)
    q->lifespan = d;
}

static void convert_endpoint (void *to, const void *sample)
{
  struct graph_endpoint *e = to;
  const dds_builtintopic_endpoint_t *s = sample;
  e->guid = s->key;
  e->participant = s->participant_key;
  snprintf (e->topic, sizeof e->topic, "%s", s->topic_name ? s->topic_name : "");
  snprintf (e->type, sizeof e->type, "%s", s->type_name ? s->type_name : "");
  read_qos (&e->qos, s->qos);
  dds_liveliness_kind_t kind;
  dds_duration_t lease;
  e->leased = dds_qget_liveliness (s->qos, &kind, &lease) && (kind != DDS_LIVELINESS_AUTOMATIC || lease != DDS_INFINITY);
}

static void convert_participant (void *to, const void *sample)
{
  *(dds_guid_t *) to = ((const dds_builtintopic_participant_t *) sample)->key;
}

int graph_endpoints (dds_entity_t participant, bool publications, struct graph_endpoint **list)
{
  dds_entity_t topic = publications ? DDS_BUILTIN_TOPIC_DCPSPUBLICATION : DDS_BUILTIN_TOPIC_DCPSSUBSCRIPTION;
  return list_builtin (participant, topic, sizeof **list, (void **) list, convert_endpoint);
}

int graph_participants (dds_entity_t participant, dds_guid_t **list)
{
  return list_builtin (participant, DDS_BUILTIN_TOPIC_DCPSPARTICIPANT, sizeof **list, (void **) list, convert_participant);
}

/* rmw_cyclonedds writes "clientid=<hex>;" into the user data of a client's two endpoints and "serviceid="
   into a server's, so that each side can find both ends of the other. Copies the value; false: not there. */
static bool find_id (const dds_builtintopic_endpoint_t *endpoint, const char *key, char *id, size_t size)
{
  void *data = NULL;
  size_t length = 0;
  bool found = false;
  if (endpoint == NULL || !dds_qget_userdata (endpoint->qos, &data, &length) || data == NULL)
    return false;
  const char *p = data, *end = p + length;
  const size_t key_length = strlen (key);
  while (!found && p < end) {
    const char *stop = memchr (p, ';', (size_t) (end - p));
    if (stop == NULL)
      stop = end;
    size_t n = (size_t) (stop - p);
    if (n > key_length && n - key_length < size && memcmp (p, key, key_length) == 0) {
      memcpy (id, p + key_length, n - key_length);
      id[n - key_length] = 0;
      found = true;
    }
    p = stop + 1;
  }
  dds_free (data);
  return found;
}

typedef dds_return_t (*list_matches) (dds_entity_t, dds_instance_handle_t *, size_t);
typedef dds_builtintopic_endpoint_t *(*match_data) (dds_entity_t, dds_instance_handle_t);

/* Is a peer matched with entity that carries this id? */
static bool has_peer (dds_entity_t entity, list_matches list, match_data data, const char *key, const char *id)
{
  dds_instance_handle_t peers[MOST_PEERS];
  dds_return_t n = list (entity, peers, MOST_PEERS);
  if (n > MOST_PEERS)
    n = MOST_PEERS;
  for (dds_return_t i = 0; i < n; i++) {
    char other[64];
    dds_builtintopic_endpoint_t *endpoint = data (entity, peers[i]);
    bool same = find_id (endpoint, key, other, sizeof other) && strcmp (other, id) == 0;
    if (endpoint != NULL)
      dds_builtintopic_free_endpoint (endpoint);
    if (same)
      return true;
  }
  return false;
}

enum peer_state graph_client_state (dds_entity_t request_reader, dds_entity_t reply_writer, uint64_t publication)
{
  char id[64];
  dds_builtintopic_endpoint_t *writer = dds_get_matched_publication_data (request_reader, publication);
  if (writer == NULL)
    return PEER_GONE;
  bool has_id = find_id (writer, "clientid=", id, sizeof id);
  dds_builtintopic_free_endpoint (writer);
  if (!has_id) /* a client that does not say: nothing to wait for */
    return PEER_READY;
  return has_peer (reply_writer, dds_get_matched_subscriptions, dds_get_matched_subscription_data, "clientid=", id)
           ? PEER_READY : PEER_UNMATCHED;
}

bool graph_server_ready (dds_entity_t request_writer, dds_entity_t reply_reader)
{
  dds_instance_handle_t readers[MOST_PEERS];
  dds_return_t n = dds_get_matched_subscriptions (request_writer, readers, MOST_PEERS);
  if (n > MOST_PEERS)
    n = MOST_PEERS;
  bool any_id = false;
  for (dds_return_t i = 0; i < n; i++) {
    char id[64];
    dds_builtintopic_endpoint_t *endpoint = dds_get_matched_subscription_data (request_writer, readers[i]);
    bool has_id = find_id (endpoint, "serviceid=", id, sizeof id);
    if (endpoint != NULL)
      dds_builtintopic_free_endpoint (endpoint);
    any_id |= has_id;
    if (has_id && has_peer (reply_reader, dds_get_matched_publications, dds_get_matched_publication_data, "serviceid=", id))
      return true;
  }
  return n > 0 && !any_id && dds_get_matched_publications (reply_reader, NULL, 0) > 0;
}
