package control

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestDefaultsAreValidAndWithinTheFirmwaresMaxima(t *testing.T) {
	if err := DefaultConfig(cobotMagic()).Validate(); err != nil {
		t.Fatal(err)
	}
	if l := RevoluteLimits(-1, 1); l.Velocity > 3.0 || l.Deceleration > 5.0 {
		t.Fatal(l)
	}
}

func TestValidateNamesTheField(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"command_rate":        func(c *Config) { c.CommandRate = 1000 },
		"limit_tolerance":     func(c *Config) { c.LimitTolerance = math.NaN() },
		"limit_stop":          func(c *Config) { c.LimitStop = 0.01 },
		"limit_time":          func(c *Config) { c.LimitTime = 0 },
		"gripper_limit_stop":  func(c *Config) { c.GripperLimitStop = -1 },
		"following_tolerance": func(c *Config) { c.FollowingTolerance = math.Inf(1) },
		"following_time":      func(c *Config) { c.FollowingTime = -time.Second },
		"feedback_timeout":    func(c *Config) { c.FeedbackTimeout = 0 },
		"observation_timeout": func(c *Config) { c.ObservationTimeout = 0 },
		"max_observation_age": func(c *Config) { c.MaxObservationAge = 0 },
		"max_chunk_age":       func(c *Config) { c.MaxChunkAge = -1 },
		"no arms":             func(c *Config) { c.Layout = nil },
		`arm name "left"`:     func(c *Config) { c.Layout[1].Name = "left" },
		"no joints":           func(c *Config) { c.Layout[0].Joints = nil },
		`joint name "joint1"`: func(c *Config) { c.Layout[0].Joints[1].Name = "joint1" },
		"velocity is +Inf":    func(c *Config) { c.Layout[1].Joints[2].Limits.Velocity = math.Inf(1) },
		"acceleration is 0":   func(c *Config) { c.Layout[1].Joints[2].Limits.Acceleration = 0 },
		"is not below":        func(c *Config) { c.Layout[1].Joints[2].Limits.Lower = 4 },
		"is below accel":      func(c *Config) { c.Layout[1].Joints[2].Limits.Deceleration = 1 },
		"to stop":             func(c *Config) { c.Layout[1].Joints[2].Limits.Velocity = 30 },
		"gripper's lower":     func(c *Config) { c.Layout[0].Joints[6].Limits.Lower = -0.01 },
	} {
		c := DefaultConfig(cobotMagic())
		change(&c)
		_, err := New(c)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func TestLayoutSplitsARow(t *testing.T) {
	l := cobotMagic()
	row := make([]float64, l.Dims())
	for i := range row {
		row[i] = float64(i)
	}
	if got := l.Of(1, row); len(got) != 7 || got[0] != 7 || got[6] != 13 {
		t.Fatal(got)
	}
}
