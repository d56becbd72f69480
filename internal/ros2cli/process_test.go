package ros2cli

import (
	"bytes"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process runs in the background, in a process group of its own as a shell starts it.
type process struct {
	t     testing.TB
	cmd   *exec.Cmd
	ended chan struct{}

	mu   sync.Mutex
	said bytes.Buffer // stdout and stderr
}

// start runs a command line until the test ends, at the latest.
func (r *rig) start(t testing.TB, argv ...string) *process {
	t.Helper()
	t.Logf("$ %s &", strings.Join(argv, " "))
	p := &process{t: t, cmd: exec.Command(argv[0], argv[1:]...), ended: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir = r.env, r.dir
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = 10 * time.Second
	started := make(chan error)
	go func() {
		// Pdeathsig goes by the thread that starts the process, which must stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.cmd.Wait() // its error is the exit status, which wait returns
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !p.running() {
			return
		}
		if status := p.interrupt(syscall.SIGINT); status != 0 && argv[0] == r.ddvla {
			t.Errorf("%s: status %d after SIGINT:\n%s", p.cmd, status, p.output())
		}
	})
	return p
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// says waits until the process has said all of the texts.
func (p *process) says(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		p.matches(regexp.MustCompile(regexp.QuoteMeta(text)))
	}
}

// matches waits until the process has said what the pattern describes, and returns its groups.
func (p *process) matches(pattern *regexp.Regexp) []string {
	p.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		running := p.running() // before its last words are looked at
		if m := pattern.FindStringSubmatch(p.output()); m != nil {
			return m
		}
		if !running || time.Now().After(end) {
			p.t.Fatalf("%s (running: %v) does not say %q:\n%s", p.cmd, running, pattern, p.output())
		}
	}
}

// interrupt signals the whole process group, as a terminal does at ctrl-C, and returns the exit status once
// the process has ended: -1 where a signal ended it.
func (p *process) interrupt(signal syscall.Signal) (status int) {
	p.t.Helper()
	p.send(-p.cmd.Process.Pid, signal)
	return p.wait()
}

// signal signals the process alone, in quick succession, and returns its exit status.
func (p *process) signal(signals ...syscall.Signal) (status int) {
	p.t.Helper()
	for _, s := range signals {
		p.send(p.cmd.Process.Pid, s)
	}
	return p.wait()
}

// quit ends a ros2 command that goes on for ever. Its status is ros2's own affair.
func (p *process) quit() {
	p.t.Helper()
	p.interrupt(syscall.SIGINT)
}

func (p *process) send(pid int, s syscall.Signal) {
	p.t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		p.t.Fatalf("%s: %v: %v", p.cmd, s, err)
	}
}

// wait returns the exit status of a process that is to end.
func (p *process) wait() (status int) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.send(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.ended
		p.t.Fatalf("%s does not end:\n%s", p.cmd, p.output())
	}
	return p.cmd.ProcessState.ExitCode()
}

// patience is how long a process may take for what a test waits for: long, since only a fault uses it up.
const patience = 60 * time.Second
