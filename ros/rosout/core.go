// Package rosout is a zap core that publishes log entries as rcl_interfaces/msg/Log on /rosout, where
// rqt_console and others look for them. Tee it with the core that writes to the console:
//
//	out, err := rosout.New(node, zap.InfoLevel)
//	log = log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return zapcore.NewTee(c, out) }))
//	defer out.Close() // before the node
package rosout

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap/zapcore"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
)

// queued is the number of entries that wait to be published; more are dropped and counted.
const queued = 256

// A Core publishes entries at or above its level. Logging never waits for the middleware.
type Core struct {
	zapcore.LevelEnabler
	shared *publisher
	fields []zapcore.Field
}

// publisher is what a core and those derived from it with fields share.
type publisher struct {
	node    ros.Node
	name    string // of the node's logger
	pub     *ros.TypedPublisher[msgs.Log, *msgs.Log]
	dropped atomic.Uint64

	mu     sync.RWMutex // held for reading while an entry is queued
	closed bool
	queue  chan *msgs.Log
	ended  chan struct{}
}

// New makes a core that publishes through n what is at or above level.
func New(n ros.Node, level zapcore.LevelEnabler) (*Core, error) {
	pub, err := ros.Advertise[msgs.Log](n, "/rosout", ros.RosoutQoS())
	if err != nil {
		return nil, fmt.Errorf("rosout: %w", err)
	}
	p := &publisher{node: n, name: LoggerName(n.Name()), pub: pub, queue: make(chan *msgs.Log, queued), ended: make(chan struct{})}
	go p.run()
	return &Core{LevelEnabler: level, shared: p}, nil
}

// LoggerName is the name that rcl gives a node's logger: "/robot/ddvla" logs as "robot.ddvla".
func LoggerName(node string) string { return strings.ReplaceAll(strings.Trim(node, "/"), "/", ".") }

func (p *publisher) run() {
	defer close(p.ended)
	for m := range p.queue {
		if p.pub.Publish(m) != nil { // logging the failure would only add to it
			p.dropped.Add(1)
		}
	}
}

// Dropped counts entries that were not published because they came too fast or the middleware failed.
func (c *Core) Dropped() uint64 { return c.shared.dropped.Load() }

// Close publishes what is queued and ends the core; later entries are dropped. It does not close the node.
func (c *Core) Close() error {
	p := c.shared
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.queue)
	}
	p.mu.Unlock()
	<-p.ended
	return p.pub.Close()
}

// With is part of zapcore.Core.
func (c *Core) With(fields []zapcore.Field) zapcore.Core {
	return &Core{LevelEnabler: c.LevelEnabler, shared: c.shared, fields: append(slices.Clip(c.fields), fields...)}
}

// Check is part of zapcore.Core.
func (c *Core) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return to.AddCore(e, c)
	}
	return to
}

// Write is part of zapcore.Core. It queues the entry and never waits.
func (c *Core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	p := c.shared
	m := &msgs.Log{Level: severity(e.Level), Name: p.name, Msg: text(e.Message, c.fields, fields)}
	if e.LoggerName != "" {
		m.Name += "." + e.LoggerName
	}
	if !e.Time.IsZero() { // as all nodes of ROS 2 do, also by simulated time
		m.Stamp = msgs.TimeOf(e.Time)
	}
	if e.Caller.Defined {
		m.File, m.Function, m.Line = e.Caller.File, e.Caller.Function, uint32(e.Caller.Line)
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		p.dropped.Add(1)
		return nil
	}
	select {
	case p.queue <- m:
	default:
		p.dropped.Add(1)
	}
	return nil
}

// Sync is part of zapcore.Core; Close is what waits.
func (c *Core) Sync() error { return nil }

// severity maps levels to the constants of rcl_interfaces/msg/Log.
func severity(l zapcore.Level) uint8 {
	switch {
	case l < zapcore.InfoLevel:
		return msgs.LogDebug
	case l < zapcore.WarnLevel:
		return msgs.LogInfo
	case l < zapcore.ErrorLevel:
		return msgs.LogWarn
	case l < zapcore.DPanicLevel:
		return msgs.LogError
	}
	return msgs.LogFatal
}

// text appends the fields to the message as key=value, ordered by key.
func text(message string, groups ...[]zapcore.Field) string {
	enc := zapcore.NewMapObjectEncoder()
	for _, fields := range groups {
		for _, f := range fields {
			f.AddTo(enc)
		}
	}
	keys := make([]string, 0, len(enc.Fields))
	for k := range enc.Fields {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b strings.Builder
	b.WriteString(message)
	for _, k := range keys {
		fmt.Fprintf(&b, " %s=%v", k, enc.Fields[k])
	}
	return b.String()
}
