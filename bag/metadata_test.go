package bag

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// metadataOf is a bag's metadata.yaml as rosbag2 writes each version: files since
// 5 (Galactic), custom_data since 6, type_description_hash since 7, ros_distro
// since 8, and policies by name in a list instead of numbers in a string since 9
// (yaml.hpp and qos.cpp of rosbag2_storage).
func metadataOf(version int) string {
	const duration = "sec: 9223372036, nsec: 854775807"
	profile := "- history: %s\n  depth: 5\n  reliability: %s\n  durability: %s\n  deadline: {" + duration + "}\n  lifespan: {" + duration +
		"}\n  liveliness: %s\n  liveliness_lease_duration: {" + duration + "}\n  avoid_ros_namespace_conventions: false"
	var text strings.Builder
	fmt.Fprintf(&text, "rosbag2_bagfile_information:\n  version: %d\n  storage_identifier: sqlite3\n", version)
	text.WriteString("  duration:\n    nanoseconds: 1981000000\n  starting_time:\n    nanoseconds_since_epoch: 1700000000000000000\n  message_count: 462\n")
	text.WriteString("  topics_with_message_count:\n    - topic_metadata:\n        name: /puppet/joint_left\n        type: sensor_msgs/msg/JointState\n        serialization_format: cdr\n")
	if version < 9 {
		fmt.Fprintf(&text, "        offered_qos_profiles: %q\n", fmt.Sprintf(profile, "1", "2", "2", "1"))
	} else {
		named := fmt.Sprintf(profile, "keep_last", "best_effort", "volatile", "automatic")
		text.WriteString("        offered_qos_profiles:\n          " + strings.ReplaceAll(named, "\n", "\n          ") + "\n")
	}
	if version >= 7 {
		text.WriteString("        type_description_hash: RIHS01_a13ee3a330e346c9d87b5aa18d24e11690752bd33a0350f11c5882bc9179260e\n")
	}
	text.WriteString("      message_count: 100\n  compression_format: \"\"\n  compression_mode: \"\"\n  relative_file_paths:\n    - compressed_db3_0.db3\n")
	if version >= 5 {
		text.WriteString("  files:\n    - path: compressed_db3_0.db3\n      starting_time:\n        nanoseconds_since_epoch: 1700000000000000000\n      duration:\n        nanoseconds: 1981000000\n      message_count: 462\n")
	}
	if version >= 6 {
		text.WriteString("  custom_data: ~\n")
	}
	if version >= 8 {
		text.WriteString("  ros_distro: rolling\n")
	}
	return text.String()
}

func TestMetadataOfEveryVersionIsRead(t *testing.T) {
	db3 := read(t, filepath.Join(bags, "compressed_db3", "compressed_db3_0.db3"))
	for version := oldestMetadata; version <= newestMetadata; version++ {
		r, err := Open(write(t, map[string]string{metadataFile: metadataOf(version), "compressed_db3_0.db3": db3}))
		if err != nil {
			t.Fatal(err)
		}
		got, err := observe(t, r)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, got, facts(t, "compressed_db3"))
		if total := r.files[0].summary().total; total != 462 {
			t.Errorf("version %d: %d messages in the file", version, total)
		}
		// What is written of it is what Humble reads.
		w, err := Create(filepath.Join(t.TempDir(), "copy"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range r.Topics() {
			if err := w.AddTopic(topic); err != nil {
				t.Fatalf("version %d: %v", version, err)
			}
		}
		qos := w.topics["/puppet/joint_left"].QoS
		for _, want := range []string{"- history: 1\n", "depth: 5\n", "reliability: 2\n", "durability: 2\n", "liveliness: 1\n", "sec: 9223372036\n", "nsec: 854775807\n", "avoid_ros_namespace_conventions: false\n"} {
			if !strings.Contains(qos, want) {
				t.Errorf("version %d: no %q in\n%s", version, want, qos)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Foxy wrote the bag's name in front of the names of compressed files.
func TestFoxysNamesOfCompressedFilesAreFound(t *testing.T) {
	const file = "packed_file_sqlite3_0.db3.zstd"
	from := filepath.Join("testdata/ros2/packed_file_sqlite3")
	metadata := strings.NewReplacer("compressed_db3_0.db3", "some_bag/"+file, `compression_format: ""`, "compression_format: zstd", `compression_mode: ""`, "compression_mode: FILE").Replace(metadataOf(4))
	r, err := Open(write(t, map[string]string{metadataFile: metadata, file: read(t, filepath.Join(from, file))}))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := observe(t, r); err != nil || len(got) != 2 {
		t.Errorf("%d topics, %v", len(got), err)
	}
}

// A metadata.yaml that a recorder or a full disk left half-written costs no message, and
// is told behind the last one.
func TestHalfWrittenMetadataCostNoMessage(t *testing.T) {
	for _, name := range []string{"compressed_mcap", "compressed_db3"} {
		whole := read(t, filepath.Join(bags, name, metadataFile))
		dir := copyBag(t, filepath.Join(bags, name), false)
		path := filepath.Join(dir, metadataFile)
		begins := strings.Index(whole, "compression_mode")
		sizes := []int{0, 10, 28, 29, 40, 60, 100, begins / 2}
		for size := begins; size < len(whole); size += 3 {
			sizes = append(sizes, size)
		}
		told := 0
		for _, size := range sizes {
			if err := os.WriteFile(path, []byte(whole[:size]), 0o644); err != nil {
				t.Fatal(err)
			}
			r, err := Open(dir)
			if err != nil {
				t.Fatalf("%s, %d bytes: %v", name, size, err)
			}
			got, err := observe(t, r)
			compare(t, got, facts(t, name))
			if err == nil {
				continue // it ends behind the names of the files
			}
			told++
			var damage *DamagedError
			if !errors.As(err, &damage) || damage.File != path || !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "ros2 bag reindex "+dir) {
				t.Fatalf("%s, %d bytes: %v", name, size, err)
			}
		}
		if told < 15 {
			t.Errorf("%s: %d of %d are told", name, told, len(sizes))
		}
		// As a disk leaves it that lost its power.
		if err := os.WriteFile(path, make([]byte, len(whole)), 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := observe(t, r); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s of zeros: %v", name, err)
		}
	}
}
