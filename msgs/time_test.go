package msgs

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTimesOf32BitSecondsSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Time{Sec: rapid.Int32().Draw(t, "sec"), Nanosec: rapid.Uint32Range(0, 999999999).Draw(t, "nanosec")}
		if got := TimeOf(want.Time()); got != want {
			t.Fatalf("%v became %v", want, got)
		}
		d := Duration(want)
		if got := DurationOf(d.Duration()); got != d {
			t.Fatalf("%v became %v", d, got)
		}
	})
}

func TestTimesBeyond32BitsStopAtTheEnd(t *testing.T) {
	if got := TimeOf(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)); got.Sec != math.MaxInt32 {
		t.Errorf("2100 is %v", got)
	}
	if got := TimeOf(time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC)); got.Sec != math.MinInt32 {
		t.Errorf("1800 is %v", got)
	}
	if got := DurationOf(math.MaxInt64); got.Sec != math.MaxInt32 {
		t.Errorf("the longest duration is %v", got)
	}
	if got := DurationOf(math.MinInt64); got.Sec != math.MinInt32 {
		t.Errorf("the shortest duration is %v", got)
	}
}

func TestZeroTimeIsZeroBothWays(t *testing.T) {
	if got := TimeOf(time.Time{}); got != (Time{}) {
		t.Errorf("zero time.Time is %v", got)
	}
	if !(Time{}).Time().IsZero() {
		t.Error("zero Time is not the zero time.Time")
	}
	if got := DurationOf(-250 * time.Millisecond); got != (Duration{Sec: -1, Nanosec: 750000000}) {
		t.Errorf("-250 ms is %v", got)
	}
}
