package msgs

import (
	"math"
	"time"
)

// Time is a builtin_interfaces/msg/Time: a point in time as seconds and
// nanoseconds since the clock's epoch, for wall clocks 1970.
type Time struct {
	Sec     int32
	Nanosec uint32 // 0..999999999
}

func (*Time) ROSType() string { return "builtin_interfaces/msg/Time" }

func (t *Time) CDR(s *Stream) {
	s.Int32(&t.Sec)
	s.Uint32(&t.Nanosec)
}

// TimeOf returns t as a message. Times that 32 bits of seconds cannot hold
// (after January 2038) become the nearest that they can; the zero [time.Time]
// becomes the zero Time.
func TimeOf(t time.Time) Time {
	if t.IsZero() {
		return Time{}
	}
	sec, nanosec := t.Unix(), uint32(t.Nanosecond())
	switch {
	case sec > math.MaxInt32:
		return Time{Sec: math.MaxInt32, Nanosec: 999999999}
	case sec < math.MinInt32:
		return Time{Sec: math.MinInt32}
	}
	return Time{Sec: int32(sec), Nanosec: nanosec}
}

// Time returns the point in time in UTC; the zero Time, which ROS uses for "no
// time", is the zero [time.Time].
func (t Time) Time() time.Time {
	if t == (Time{}) {
		return time.Time{}
	}
	return time.Unix(int64(t.Sec), int64(t.Nanosec)).UTC()
}

// Duration is a builtin_interfaces/msg/Duration. The nanoseconds always count
// upwards: -0.25 s is Sec -1, Nanosec 750000000.
type Duration struct {
	Sec     int32
	Nanosec uint32
}

func (*Duration) ROSType() string { return "builtin_interfaces/msg/Duration" }

func (d *Duration) CDR(s *Stream) {
	s.Int32(&d.Sec)
	s.Uint32(&d.Nanosec)
}

// DurationOf returns d as a message. Durations beyond 32 bits of seconds (68
// years) become the nearest that fits.
func DurationOf(d time.Duration) Duration {
	sec, nanosec := int64(d/time.Second), int64(d%time.Second)
	if nanosec < 0 {
		sec, nanosec = sec-1, nanosec+int64(time.Second)
	}
	switch {
	case sec > math.MaxInt32:
		return Duration{Sec: math.MaxInt32, Nanosec: 999999999}
	case sec < math.MinInt32:
		return Duration{Sec: math.MinInt32}
	}
	return Duration{Sec: int32(sec), Nanosec: uint32(nanosec)}
}

// Duration returns d as Go's duration.
func (d Duration) Duration() time.Duration {
	return time.Duration(d.Sec)*time.Second + time.Duration(d.Nanosec)
}
