package node

import (
	"reflect"
	"sync"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/policy/decode"
)

// decoding gives the policy its decoding parameters. Where they need a graph that is not
// loaded yet, which may take minutes, that is done on the side: whoever slows the arms
// meanwhile does not wait for it, and chunks are decoded as before.
type decoding struct {
	set func(decode.Params) error // of the policy
	log *zap.Logger

	mu     sync.Mutex
	asked  decode.Params
	loaded map[bool]bool  // by whether it decodes from left to right, which has a graph of its own
	next   *decode.Params // to be set once what is being loaded is there
	loads  bool
	closed bool
	failed error // why the newest parameters are not in force, nil if they are or will be
	loader sync.WaitGroup
}

// newDecoding begins with the parameters that the policy was opened with.
func newDecoding(set func(decode.Params) error, now decode.Params, log *zap.Logger) *decoding {
	return &decoding{set: set, log: log, asked: now, loaded: map[bool]bool{fromLeft(now): true}}
}

func fromLeft(p decode.Params) bool { return p.Preset == decode.Autoregressive }

// change takes parameters that fit the policy, at once where their graph is there.
// Those asked for already are not loaded again by what else changes.
func (d *decoding) change(p decode.Params) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || reflect.DeepEqual(p, d.asked) {
		return nil
	}
	if !d.loads && d.loaded[fromLeft(p)] {
		if err := d.set(p); err != nil {
			return err
		}
		d.asked, d.failed = p, nil
		return nil
	}
	d.asked, d.failed, d.next = p, nil, &p
	if !d.loads {
		d.loads = true
		d.loader.Go(d.load)
	}
	return nil
}

// load sets what was asked for last, until nothing is left.
func (d *decoding) load() {
	for {
		d.mu.Lock()
		p := d.next
		d.next = nil
		d.loads = p != nil
		d.mu.Unlock()
		if p == nil {
			return
		}
		d.log.Info("loading the graph of decode.preset; chunks are decoded as before until it is there", zap.String("preset", string(p.Preset)))
		err := d.set(*p)
		d.mu.Lock()
		if err == nil {
			d.loaded[fromLeft(*p)] = true
		} else if d.next == nil {
			d.failed = err
		}
		d.mu.Unlock()
		if err != nil {
			d.log.Error("parameters decode.* are not in force; chunks are decoded as before: set decode.preset to another one", zap.Error(err))
		} else {
			d.log.Info("parameters decode.* are in force", zap.String("preset", string(p.Preset)))
		}
	}
}

// fault says why the parameters that were asked for are not in force, or nil.
func (d *decoding) fault() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// close returns when nothing is being loaded any more, which nothing can interrupt.
func (d *decoding) close() {
	if d == nil {
		return
	}
	d.mu.Lock()
	d.closed, d.next = true, nil
	d.mu.Unlock()
	d.loader.Wait()
}
