package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ddvla/ddvla/ros/rostest"
)

// hang makes the inference of a process hang: the thread that runs the graph is stopped, in the midst of ONNX
// Runtime's code, and no other one. It goes on with release, which must be called on the goroutine that called
// hang. Only a tracer can stop a single thread.
func (r *faultRobot) hang(p *process) (release func()) {
	r.Helper()
	runtime.LockOSThread() // a tracer is a thread
	pid := p.cmd.Process.Pid
	code, err := codeOf(pid, "libonnxruntime")
	if err != nil {
		r.Fatal(err)
	}
	caught := 0
	rostest.Wait(r, "an inference runs", func() bool {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			r.Fatal(err)
		}
		for _, thread := range threads {
			id, err := strconv.Atoi(thread.Name())
			if err != nil {
				r.Fatal(err)
			}
			// One that sleeps runs no graph.
			if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, id)); err != nil || !strings.Contains(string(stat), ") R ") {
				continue
			}
			at, err := attach(pid, id)
			switch {
			case errors.Is(err, syscall.ESRCH): // it ended
				continue
			case err != nil:
				r.Fatalf("a thread of the node cannot be stopped alone, which needs leave to trace a child: %v", err)
			}
			for _, c := range code {
				if at >= c[0] && at < c[1] {
					caught = id
					return true
				}
			}
			if err := syscall.PtraceDetach(id); err != nil {
				r.Fatal(err)
			}
		}
		return false
	})
	return func() {
		r.Helper()
		if err := syscall.PtraceDetach(caught); err != nil {
			r.Fatal(err)
		}
		runtime.UnlockOSThread()
	}
}

// attach stops a thread and returns where it is. Other than PTRACE_ATTACH, which the package syscall has, these
// requests send it no signal that could stop the whole process.
func attach(pid, id int) (at uint64, err error) {
	const seize, interrupt = 0x4206, 0x4207
	for _, request := range []uintptr{seize, interrupt} {
		if _, _, failed := syscall.Syscall6(syscall.SYS_PTRACE, request, uintptr(id), 0, 0, 0, 0); failed != 0 {
			return 0, failed
		}
	}
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, id))
		if err != nil {
			return 0, syscall.ESRCH
		}
		if strings.Contains(string(stat), ") t ") {
			break
		}
		runtime.Gosched()
	}
	var registers syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(id, &registers); err != nil {
		return 0, errors.Join(err, syscall.PtraceDetach(id))
	}
	return registers.PC(), nil
}

// codeOf returns where the executable parts of a library lie in a process.
func codeOf(pid int, library string) (parts [][2]uint64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(maps)) {
		var part [2]uint64
		var rights string
		if !strings.Contains(line, library) {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x %s", &part[0], &part[1], &rights); err != nil {
			return nil, fmt.Errorf("maps: %q: %w", line, err)
		}
		if strings.Contains(rights, "x") {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("process %d has no code of %s", pid, library)
	}
	return parts, nil
}

// hung lets an inference hang until the arms are held and for some time more, in which nothing may move them.
func (s *faultScenario) hung(p *process) {
	s.Helper()
	release := s.hang(p)
	s.held()
	var from int
	s.set(func() { from = len(s.past.sent[0]) - 1 })
	s.pass(20)
	s.wait("the node says that the inference runs", func() bool { return s.status["inference"] == "running" })
	if s.chance(0.3) {
		<-time.After(2 * time.Second) // its chunk is then too old to be taken
	}
	s.mu.Lock()
	held := s.past.sent[0][from:]
	for _, c := range held {
		for j := range c.p {
			if c.p[j] != held[0].p[j] {
				s.Errorf("joint %d of the left arm moves from %v to %v while the inference hangs", j+1, held[0].p[j], c.p[j])
				break
			}
		}
	}
	s.mu.Unlock()
	release()
}
