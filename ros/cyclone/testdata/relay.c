/* An independent participant: types from Debian's idlc, plain Cyclone DDS calls, none of this project's code.

     relay TYPE reliable|best_effort volatile|transient_local [lease]

   takes samples of TYPE from rt/there as C structs, prints each field, and writes the structs on rt/back, until
   standard input ends. One line is one sample; its fields are separated by blanks: numbers as they are, floating
   point as the hexadecimal digits of its bits, bytes and strings as an x and two digits each, sequences with their
   length first. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dds/dds.h"
#include "ros.h"

static void print_bytes (const uint8_t *data, size_t size)
{
  static const char digits[] = "0123456789abcdef";
  putchar ('x');
  for (size_t i = 0; i < size; i++) {
    putchar (digits[data[i] >> 4]);
    putchar (digits[data[i] & 15]);
  }
  putchar (' ');
}

static void print_string (const char *s) { print_bytes ((const uint8_t *) s, strlen (s)); }
static void print_number (uint32_t n) { printf ("%" PRIu32 " ", n); }

static void print_doubles (const dds_sequence_double *s)
{
  print_number (s->_length);
  for (uint32_t i = 0; i < s->_length; i++) {
    uint64_t bits;
    memcpy (&bits, &s->_buffer[i], sizeof bits);
    printf ("%016" PRIx64 " ", bits);
  }
}

static void print_strings (const dds_sequence_string *s)
{
  print_number (s->_length);
  for (uint32_t i = 0; i < s->_length; i++)
    print_string (s->_buffer[i]);
}

static void print_octets (const dds_sequence_octet *s)
{
  print_number (s->_length);
  print_bytes (s->_buffer, s->_length);
}

static void print_header (const std_msgs_msg_dds__Header_ *h)
{
  printf ("%" PRId32 " %" PRIu32 " ", h->stamp.sec, h->stamp.nanosec);
  print_string (h->frame_id);
}

static void print_String (const void *sample)
{
  const std_msgs_msg_dds__String_ *m = sample;
  print_string (m->data);
}

static void print_JointState (const void *sample)
{
  const sensor_msgs_msg_dds__JointState_ *m = sample;
  print_header (&m->header);
  print_strings (&m->name);
  print_doubles (&m->position);
  print_doubles (&m->velocity);
  print_doubles (&m->effort);
}

static void print_Image (const void *sample)
{
  const sensor_msgs_msg_dds__Image_ *m = sample;
  print_header (&m->header);
  print_number (m->height);
  print_number (m->width);
  print_string (m->encoding);
  print_number (m->is_bigendian);
  print_number (m->step);
  print_octets (&m->data);
}

static void print_CompressedImage (const void *sample)
{
  const sensor_msgs_msg_dds__CompressedImage_ *m = sample;
  print_header (&m->header);
  print_string (m->format);
  print_octets (&m->data);
}

static void print_JointTrajectory (const void *sample)
{
  const trajectory_msgs_msg_dds__JointTrajectory_ *m = sample;
  print_header (&m->header);
  print_strings (&m->joint_names);
  print_number (m->points._length);
  for (uint32_t i = 0; i < m->points._length; i++) {
    const trajectory_msgs_msg_dds__JointTrajectoryPoint_ *p = &m->points._buffer[i];
    print_doubles (&p->positions);
    print_doubles (&p->velocities);
    print_doubles (&p->accelerations);
    print_doubles (&p->effort);
    printf ("%" PRId32 " %" PRIu32 " ", p->time_from_start.sec, p->time_from_start.nanosec);
  }
}

static void print_DiagnosticArray (const void *sample)
{
  const diagnostic_msgs_msg_dds__DiagnosticArray_ *m = sample;
  print_header (&m->header);
  print_number (m->status._length);
  for (uint32_t i = 0; i < m->status._length; i++) {
    const diagnostic_msgs_msg_dds__DiagnosticStatus_ *s = &m->status._buffer[i];
    print_number (s->level);
    print_string (s->name);
    print_string (s->message);
    print_string (s->hardware_id);
    print_number (s->values._length);
    for (uint32_t j = 0; j < s->values._length; j++) {
      print_string (s->values._buffer[j].key);
      print_string (s->values._buffer[j].value);
    }
  }
}

static const struct type {
  const char *name;
  const dds_topic_descriptor_t *descriptor;
  void (*print) (const void *sample);
} types[] = {
  { "std_msgs/msg/String", &std_msgs_msg_dds__String__desc, print_String },
  { "sensor_msgs/msg/JointState", &sensor_msgs_msg_dds__JointState__desc, print_JointState },
  { "sensor_msgs/msg/Image", &sensor_msgs_msg_dds__Image__desc, print_Image },
  { "sensor_msgs/msg/CompressedImage", &sensor_msgs_msg_dds__CompressedImage__desc, print_CompressedImage },
  { "trajectory_msgs/msg/JointTrajectory", &trajectory_msgs_msg_dds__JointTrajectory__desc, print_JointTrajectory },
  { "diagnostic_msgs/msg/DiagnosticArray", &diagnostic_msgs_msg_dds__DiagnosticArray__desc, print_DiagnosticArray },
};

int main (int argc, char **argv)
{
  const struct type *type = NULL;
  for (size_t i = 0; argc >= 4 && i < sizeof types / sizeof *types; i++)
    if (strcmp (argv[1], types[i].name) == 0)
      type = &types[i];
  if (type == NULL) {
    fprintf (stderr, "usage: relay TYPE reliable|best_effort volatile|transient_local [lease]\n");
    return 1;
  }
  dds_entity_t pp = dds_create_participant (DDS_DOMAIN_DEFAULT, NULL, NULL);
  dds_qos_t *qos = dds_create_qos ();
  dds_data_representation_id_t xcdr1 = DDS_DATA_REPRESENTATION_XCDR1;
  dds_qset_data_representation (qos, 1, &xcdr1);
  dds_qset_history (qos, DDS_HISTORY_KEEP_LAST, 10);
  dds_qset_reliability (qos, strcmp (argv[2], "reliable") == 0 ? DDS_RELIABILITY_RELIABLE : DDS_RELIABILITY_BEST_EFFORT, DDS_SECS (1));
  if (argc > 4)
    dds_qset_liveliness (qos, DDS_LIVELINESS_AUTOMATIC, DDS_MSECS (500));
  dds_qset_durability (qos, strcmp (argv[3], "volatile") == 0 ? DDS_DURABILITY_VOLATILE : DDS_DURABILITY_TRANSIENT_LOCAL);
  dds_entity_t there = dds_create_topic (pp, type->descriptor, "rt/there", NULL, NULL);
  dds_entity_t back = dds_create_topic (pp, type->descriptor, "rt/back", NULL, NULL);
  dds_entity_t reader = dds_create_reader (pp, there, qos, NULL);
  dds_entity_t writer = dds_create_writer (pp, back, qos, NULL);
  dds_entity_t waitset = dds_create_waitset (pp);
  if (pp < 0 || there < 0 || back < 0 || reader < 0 || writer < 0 || waitset < 0
      || dds_set_status_mask (reader, DDS_DATA_AVAILABLE_STATUS) != DDS_RETCODE_OK
      || dds_waitset_attach (waitset, reader, reader) != DDS_RETCODE_OK) {
    fprintf (stderr, "set-up failed: %d %d %d %d %d %d\n", pp, there, back, reader, writer, waitset);
    return 2;
  }
  dds_delete_qos (qos);
  struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
  while (poll (&in, 1, 0) == 0) {
    dds_attach_t woken;
    dds_waitset_wait (waitset, &woken, 1, DDS_MSECS (100));
    void *sample = NULL;
    dds_sample_info_t info;
    while (dds_take (reader, &sample, &info, 1, 1) == 1) {
      if (info.valid_data) {
        type->print (sample);
        putchar ('\n');
        fflush (stdout);
        if (dds_write (writer, sample) != DDS_RETCODE_OK)
          return 3;
      }
      dds_return_loan (reader, &sample, 1);
    }
  }
  return dds_delete (pp) == DDS_RETCODE_OK ? 0 : 4;
}
