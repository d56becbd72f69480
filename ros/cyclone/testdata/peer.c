/* An independent participant: types from Debian's idlc, plain Cyclone DDS calls, none of this project's
   code. It writes "c 0", "c 1", ... on rt/chatter until it has read "go" on rt/back, then prints what it
   read and ends. With argument "bad" it writes samples in a representation that is not plain CDR. */
#include <stdio.h>
#include <string.h>

#include "ros.h"
#include "dds/dds.h"

int main (int argc, char **argv)
{
  (void) argv;
  dds_entity_t pp = dds_create_participant (DDS_DOMAIN_DEFAULT, NULL, NULL);
  dds_qos_t *qos = dds_create_qos ();
  dds_qset_reliability (qos, DDS_RELIABILITY_RELIABLE, DDS_SECS (1));
  dds_qset_history (qos, DDS_HISTORY_KEEP_LAST, 100);
  dds_data_representation_id_t representation = argc > 1 ? DDS_DATA_REPRESENTATION_XCDR2 : DDS_DATA_REPRESENTATION_XCDR1;
  dds_qset_data_representation (qos, 1, &representation);
  dds_entity_t out = dds_create_topic (pp, &std_msgs_msg_dds__String__desc, "rt/chatter", NULL, NULL);
  dds_entity_t in = dds_create_topic (pp, &std_msgs_msg_dds__String__desc, "rt/back", NULL, NULL);
  dds_entity_t writer = dds_create_writer (pp, out, qos, NULL);
  representation = DDS_DATA_REPRESENTATION_XCDR1;
  dds_qset_data_representation (qos, 1, &representation);
  dds_entity_t reader = dds_create_reader (pp, in, qos, NULL);
  if (pp < 0 || out < 0 || in < 0 || writer < 0 || reader < 0) {
    fprintf (stderr, "set-up failed: %d %d %d %d %d\n", pp, out, in, writer, reader);
    return 1;
  }
  for (int i = 0; i < 6000; i++) {
    char text[32];
    snprintf (text, sizeof text, "c %d", i);
    std_msgs_msg_dds__String_ message = { .data = text };
    if (dds_write (writer, &message) != DDS_RETCODE_OK)
      return 2;
    void *sample = NULL;
    dds_sample_info_t info;
    if (dds_take (reader, &sample, &info, 1, 1) == 1) {
      if (info.valid_data) {
        printf ("%s\n", ((std_msgs_msg_dds__String_ *) sample)->data);
        fflush (stdout);
        return strcmp (((std_msgs_msg_dds__String_ *) sample)->data, "go") == 0 ? 0 : 3;
      }
      dds_return_loan (reader, &sample, 1);
    }
    dds_sleepfor (DDS_MSECS (10));
  }
  return 4;
}
