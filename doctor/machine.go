package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/ddvla/ddvla/policy/ort"
)

// Machine is what the policy would run on.
type Machine struct {
	// Library and Version are ONNX Runtime's; Failure is why it or the provider cannot
	// be had, nil where they can.
	Library, Version string
	Failure          error
	// Needed is about what the policy takes, in bytes, and Free what there is of it:
	// GPU memory for CUDA and TensorRT, else RAM. 0 is unknown; Unknown says why.
	Needed, Free, Total uint64
	Device              string // "RAM", or the GPU's name
	Unknown             error
	// ReceiveBuffer is net.core.rmem_max in bytes, 0 where the system has none.
	ReceiveBuffer uint64
	// Chunk is how long one chunk took, s, and Load how long the policy took to load; 0
	// where none was made.
	Chunk, Load float64
}

// MachineReport is its JSON form.
type MachineReport struct {
	Library     string  `json:"library,omitempty"`
	Version     string  `json:"version,omitempty"`
	Provider    string  `json:"provider"`
	Device      string  `json:"device"`
	NeededBytes uint64  `json:"needed_bytes,omitempty"`
	FreeBytes   uint64  `json:"free_bytes,omitempty"`
	TotalBytes  uint64  `json:"total_bytes,omitempty"`
	LoadSeconds float64 `json:"load_seconds,omitempty"`
	ChunkTime   float64 `json:"chunk_seconds,omitempty"`
}

// leastBuffer is what images of three cameras need, as Cyclone is asked for.
const leastBuffer = 2 << 20

// machine judges runtime and memory.
func (c *Case) machine(r *Report) {
	m := c.Machine
	provider := string(c.Settings.Runtime.Provider)
	r.Machine = &MachineReport{Library: m.Library, Version: m.Version, Provider: provider, Device: m.Device,
		NeededBytes: m.Needed, FreeBytes: m.Free, TotalBytes: m.Total, LoadSeconds: m.Load, ChunkTime: m.Chunk}
	if m.Failure != nil {
		// The error has its own mend.
		r.add(Error, "runtime", provider, "see there; runtime.library and runtime.provider choose", "the policy cannot run: %v", m.Failure)
	}
	switch {
	case m.Unknown != nil:
		r.add(Warning, "memory-unknown", m.Device, "look with nvidia-smi, or `ddvla inspect` for what is needed", "the free memory is not known: %v", m.Unknown)
	case m.Needed == 0 || m.Free == 0:
	case m.Free < m.Needed:
		r.add(Error, "memory", m.Device, "end what else uses it, or export with a smaller --precision",
			"the policy needs about %s, %s of %s %s are free", gigabytes(m.Needed), gigabytes(m.Free), gigabytes(m.Total), m.Device)
	case float64(m.Free) < 1.2*float64(m.Needed):
		r.add(Warning, "memory", m.Device, "end what else uses it",
			"the policy needs about %s, just less than the %s of %s %s that are free", gigabytes(m.Needed), gigabytes(m.Free), gigabytes(m.Total), m.Device)
	}
	if c.Live && m.ReceiveBuffer > 0 && m.ReceiveBuffer < leastBuffer && !c.allCompressed() {
		r.add(Warning, "receive-buffer", "net.core.rmem_max", "sysctl -w net.core.rmem_max=16777216, or use the .../compressed topics",
			"the kernel's receive buffer is at most %d bytes: raw pictures from other processes get lost", m.ReceiveBuffer)
	}
	if m.Chunk == 0 {
		return
	}
	lasts := float64(c.Manifest.Action.Chunk) / c.Manifest.Action.Rate
	switch period := 1 / c.Settings.Live.Rate; {
	case m.Chunk > lasts:
		r.add(Error, "latency", provider, "use a faster provider, fewer decode.rounds or a smaller --precision; else the arms halt between chunks",
			"a chunk takes %s and lasts %s", duration(m.Chunk), duration(lasts))
	case m.Chunk > c.Settings.Control.MaxObservationAge.Seconds():
		r.add(Error, "latency", provider, "raise limits.max_observation_age, or make the policy faster",
			"a chunk takes %s, and limits.max_observation_age drops those older than %v", duration(m.Chunk), c.Settings.Control.MaxObservationAge)
	case m.Chunk > period:
		r.add(Note, "latency", provider, "nothing: rate is a ceiling, and a chunk outlasts it",
			"a chunk takes %s, longer than rate asks for (%s); it lasts %s", duration(m.Chunk), duration(period), duration(lasts))
	}
}

func (c *Case) allCompressed() bool {
	for _, e := range c.Listener.cameras {
		if !e.compressed {
			return false
		}
	}
	return true
}

func gigabytes(n uint64) string {
	if n < 1e9 {
		return fmt.Sprintf("%.0f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// ReadMemory finds how much memory a provider's device has free: that of the GPU with
// the given number, by nvidia-smi, for ort.CUDA and ort.TensorRT, else what the kernel
// thinks can be had without swapping.
func (m *Machine) ReadMemory(ctx context.Context, provider ort.Provider, device int) {
	m.Device = "RAM"
	if provider == ort.CUDA || provider == ort.TensorRT {
		m.Device = fmt.Sprintf("GPU %d", device)
		out, err := exec.CommandContext(ctx, "nvidia-smi", "--query-gpu=memory.free,memory.total,name",
			"--format=csv,noheader,nounits", "--id="+strconv.Itoa(device)).Output()
		if err != nil {
			m.Unknown = fmt.Errorf("nvidia-smi: %w", err)
			return
		}
		m.Free, m.Total, m.Device, m.Unknown = parseGPU(string(out))
		return
	}
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		m.Unknown = err
		return
	}
	defer f.Close()
	m.Free, m.Total, m.Unknown = parseMemory(f)
}

// parseGPU reads one line of nvidia-smi: MiB free, MiB in all, name.
func parseGPU(line string) (free, total uint64, name string, err error) {
	fields := strings.SplitN(strings.TrimSpace(line), ", ", 3)
	if len(fields) != 3 {
		return 0, 0, "GPU", fmt.Errorf("nvidia-smi says %.80q", line)
	}
	a, err := strconv.ParseUint(fields[0], 10, 40)
	b, err2 := strconv.ParseUint(fields[1], 10, 40)
	if err := errors.Join(err, err2); err != nil {
		return 0, 0, "GPU", fmt.Errorf("nvidia-smi says %.80q: %w", line, err)
	}
	return a << 20, b << 20, fields[2], nil
}

// parseMemory reads /proc/meminfo.
func parseMemory(r io.Reader) (free, total uint64, err error) {
	values := map[string]uint64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var key string
		var kib uint64
		if n, _ := fmt.Sscanf(lines.Text(), "%s %d kB", &key, &kib); n == 2 {
			values[key] = kib << 10
		}
	}
	if err := lines.Err(); err != nil {
		return 0, 0, err
	}
	free, ok := values["MemAvailable:"]
	if !ok {
		return 0, 0, errors.New("/proc/meminfo has no MemAvailable")
	}
	return free, values["MemTotal:"], nil
}

// ReadReceiveBuffer reads net.core.rmem_max, where there is one.
func (m *Machine) ReadReceiveBuffer() {
	raw, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	if err != nil {
		return
	}
	m.ReceiveBuffer, _ = strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
}
