package node

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/msgs"
)

// loading keeps the phases of getting ready, for the log and for diagnostics: a
// large model takes minutes, in which an operator wants to see what goes on.
type loading struct {
	log *zap.Logger

	mu     sync.Mutex
	phases []loadingPhase // the last one is under way unless done
	done   bool
}

type loadingPhase struct {
	name  string
	began time.Time
	took  time.Duration // once it has ended
}

// begin ends the phase before and begins another.
func (l *loading) begin(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLast()
	l.done = false
	l.phases = append(l.phases, loadingPhase{name: name, began: time.Now()})
	l.log.Info("loading", zap.String("phase", name))
}

// end ends the last phase.
func (l *loading) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLast()
}

// endLast is called with the lock held.
func (l *loading) endLast() {
	if len(l.phases) == 0 || l.done {
		return
	}
	last := &l.phases[len(l.phases)-1]
	last.took, l.done = time.Since(last.began), true
	l.log.Info("loaded", zap.String("phase", last.name), zap.Duration("took", last.took.Round(time.Millisecond)))
}

// now says what is under way, or nothing.
func (l *loading) now() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.phases) == 0 || l.done {
		return ""
	}
	last := l.phases[len(l.phases)-1]
	return fmt.Sprintf("%s, for %.0f s so far", last.name, time.Since(last.began).Seconds())
}

// values adds the phases and how long each took, in seconds.
func (l *loading) values(s *msgs.DiagnosticStatus) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, p := range l.phases {
		took := p.took
		if i == len(l.phases)-1 && !l.done {
			took = time.Since(p.began)
		}
		// What it is about stands before the first semicolon.
		name, _, _ := strings.Cut(p.name, ";")
		value(s, "loading."+name, "%.3f", took.Seconds())
	}
}
