package machine

import (
	"os"
	"strings"
	"testing"
)

func TestModelName(t *testing.T) {
	if got := modelName("processor\t: 0\nmodel name\t: Some CPU @ 3: fast\nprocessor\t: 1\nmodel name\t: other\n"); got != "Some CPU @ 3: fast" {
		t.Errorf("%q", got)
	}
	if got := modelName("processor\t: 0\nCPU part\t: 0xd4f\n"); got != "" {
		t.Errorf("%q of an Arm", got)
	}
	if got := CPU(); !strings.HasSuffix(got, " CPUs") || strings.HasPrefix(got, ",") {
		t.Errorf("%q", got)
	}
}

func TestParseStatus(t *testing.T) {
	m, err := parseStatus("Name:\tx\nVmHWM:\t    20 kB\nVmRSS:\t  10 kB\n")
	if err != nil || m.Resident != 10240 || m.Peak != 20480 {
		t.Errorf("%+v, %v", m, err)
	}
	for _, bad := range []string{"", "VmRSS:\t10 kB\n", "VmRSS:\tx kB\nVmHWM:\t1 kB\n", "VmRSS:\t1 MB\nVmHWM:\t1 kB\n"} {
		if m, err := parseStatus(bad); err == nil {
			t.Errorf("%q gave %+v", bad, m)
		}
	}
}

// What the system says grows with what is held.
func TestProcessMemoryGrows(t *testing.T) {
	before, err := ProcessMemory()
	if err != nil {
		t.Fatal(err)
	}
	held := make([]byte, 64<<20)
	for i := 0; i < len(held); i += os.Getpagesize() {
		held[i] = 1
	}
	after, err := ProcessMemory()
	if err != nil {
		t.Fatal(err)
	}
	if after.Peak < before.Resident+60<<20 {
		t.Errorf("%d bytes, then a peak of %d with 64 MiB more", before.Resident, after.Peak)
	}
	if held[0] != 1 {
		t.Error("not held")
	}
}
