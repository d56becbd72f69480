// Package machine tells what a measurement was made on.
package machine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// CPU is the processor's name and its number of cores as the program sees them, such as "AMD EPYC 7R13 Processor,
// 2 CPUs".
func CPU() string {
	name := runtime.GOARCH
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if n := modelName(string(raw)); n != "" {
			name = n
		} else if raw, err := os.ReadFile("/proc/device-tree/model"); err == nil {
			// Arm's cpuinfo names no model; a Jetson's device tree names the board.
			name = strings.TrimRight(string(raw), "\x00\n")
		}
	}
	return fmt.Sprintf("%s, %d CPUs", name, runtime.NumCPU())
}

// modelName is the first "model name" of a /proc/cpuinfo, empty where it has none.
func modelName(cpuinfo string) string {
	for line := range strings.Lines(cpuinfo) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Memory is what this process holds in RAM, in bytes.
type Memory struct {
	Resident, Peak int64
}

// ProcessMemory tells what this process holds.
func ProcessMemory() (Memory, error) { return MemoryOf(os.Getpid()) }

// MemoryOf reads a process's /proc/PID/status, which is Linux's.
func MemoryOf(pid int) (Memory, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Memory{}, fmt.Errorf("memory of the process: %w", err)
	}
	return parseStatus(string(raw))
}

func parseStatus(status string) (m Memory, err error) {
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		var to *int64
		switch key {
		case "VmRSS":
			to = &m.Resident
		case "VmHWM":
			to = &m.Peak
		default:
			continue
		}
		number, unit, _ := strings.Cut(strings.TrimSpace(value), " ")
		kib, err := strconv.ParseInt(number, 10, 64)
		if err != nil || unit != "kB" {
			return Memory{}, fmt.Errorf("memory of the process: %s is %q, want a number of kB", key, strings.TrimSpace(value))
		}
		*to = kib * 1024
	}
	if m.Resident == 0 || m.Peak == 0 {
		return Memory{}, errors.New("memory of the process: its /proc status has no VmRSS and VmHWM")
	}
	return m, nil
}

// OpenFiles is the number of file descriptors that a process has open, by Linux's /proc.
func OpenFiles(pid int) (int, error) {
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0, fmt.Errorf("open files of the process: %w", err)
	}
	return len(open), nil
}
