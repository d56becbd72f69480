// Package report judges a policy by what a replay made of a recording: how far its
// chunks are from the commands that were recorded, what the grippers would have
// done, how chunks follow each other, how they were decoded, how long that took,
// and which limits the arms would have run into.
//
// A [Judge] takes chunks one after the other, in memory that does not grow with
// the recording but by a few numbers a chunk, and gives a [Report]: JSON for
// machines, which [Condition]s can be held against, and with [Report.WriteHTML] one file
// for a person, that needs nothing else. `ddvla replay --report` is the example.
//
// Errors and jumps are in rad over all joints that turn, which grippers (m) are not
// part of, unless a dimension is named; times are seconds from the recording's
// begin. What is not known is NaN, null in JSON.
package report

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/ddvla/ddvla/policy/decode"
)

// Version is that of the JSON form; names that are there keep their meaning in it.
const Version = 1

// Figure is a number that may not be known: NaN, null in JSON. Infinities are
// null too.
type Figure float64

// Known reports whether there is a number.
func (f Figure) Known() bool { return !math.IsNaN(float64(f)) && !math.IsInf(float64(f), 0) }

// MarshalJSON implements json.Marshaler.
func (f Figure) MarshalJSON() ([]byte, error) {
	if !f.Known() {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(f), 'g', 6, 64), nil
}

func unknown() Figure { return Figure(math.NaN()) }

// Setup is what a judge is told beforehand.
type Setup struct {
	Policy string `json:"policy"` // the bundle's name
	Bundle string `json:"bundle"` // its directory
	Bag    string `json:"bag"`    // that was replayed
	Out    string `json:"out"`    // that was written
	Made   string `json:"made_by"`

	Begin time.Time `json:"begin"` // of the recording, or the part of it that was asked for
	End   time.Time `json:"end"`

	ActionRate float64 `json:"action_rate"` // rows of a chunk per second
	Horizon    int     `json:"horizon"`     // rows of a chunk
	// Budget is the time between two chunks that the node aims at, in s.
	Budget float64 `json:"budget_s"`
	Dims   []Dim   `json:"dims"`
	// Stages are the names of the parts of making a chunk; "chunk" is all of one.
	Stages []string `json:"-"`
	// Settings are parameters worth reading with the numbers, by name.
	Settings map[string]string `json:"settings"`
	// Recorded tells that the recording has commands to compare with, Why why there are
	// none, in a sentence.
	Recorded bool   `json:"recorded"`
	Why      string `json:"not_recorded,omitempty"`
}

// Dim is a column of the chunks. What is 0 is not known.
type Dim struct {
	Name string `json:"name"` // "left_joint1"
	Arm  string `json:"arm"`
	Unit string `json:"unit"` // "rad", "m", ...
	// Range is what errors are a percentage of: the width of the statistics that the
	// policy was trained with, or how far a gripper opens.
	Range float64 `json:"range"`
	// Gripper is set on grippers, which are open above Threshold, in m.
	Gripper   bool    `json:"gripper,omitempty"`
	Threshold float64 `json:"threshold,omitempty"`
	// Delta is set where values are changes of what nobody recorded, per row or, with
	// FromStart, since the observation; a gripper's are openings all the same.
	Delta     bool `json:"delta,omitempty"`
	FromStart bool `json:"from_start,omitempty"`
	// Lower, Upper and Velocity (per s) are the limits that the arm would be held to.
	Lower    float64 `json:"lower"`
	Upper    float64 `json:"upper"`
	Velocity float64 `json:"velocity"`
}

// turns reports whether a dimension counts in the errors over all joints.
func (d Dim) turns() bool { return !d.Gripper && !d.Delta && d.Unit == "rad" }

// speeds reports whether values are velocities themselves, as those of a mobile base.
func (d Dim) speeds() bool { return strings.HasSuffix(d.Unit, "/s") }

// Actions gives what dimension dim was commanded to at a time, when it was recorded;
// ok is false where there is nothing.
type Actions func(dim int, at time.Time) (value float64, ok bool)

// Chunk is one chunk with what there is to say of it.
type Chunk struct {
	Stamp       time.Time // of its observation; row k is due (k+1)/rate later
	Instruction string
	Values      []float64 // rows of the dimensions
	// Trace is how it was decoded; nil where it was not decoded in rounds.
	Trace *decode.Trace
	// Pictures are the cameras' at that time, in their order; nil where none are
	// wanted.
	Pictures []Picture
}

// Picture is a camera's, scaled down: see [Pictures].
type Picture struct {
	Camera string    `json:"camera"`
	Stamp  time.Time `json:"-"`
	At     Figure    `json:"t"`
	JPEG   []byte    `json:"jpeg"` // base64 in JSON
	Width  int       `json:"width"`
	Height int       `json:"height"`
}

// Event is something the arms' executor had to tell.
type Event struct {
	Time     time.Time `json:"-"`
	At       Figure    `json:"t"`
	Code     string    `json:"code"`
	Sentence string    `json:"sentence"`
	Joint    string    `json:"joint,omitempty"`
	Value    Figure    `json:"value"`
	Limit    Figure    `json:"limit"`
}

// Kind is what a code of the executor is.
type Kind string

// Kinds.
const (
	Stop  Kind = "stop"  // the arms stop and wait for enable
	Halt  Kind = "halt"  // the arms rest until the next good chunk
	Drop  Kind = "drop"  // a chunk was dropped
	Limit Kind = "limit" // a command was limited
	Other Kind = "other"
)

// Count is how often the executor did something.
type Count struct {
	Code     string `json:"code"`
	Sentence string `json:"sentence"`
	Kind     Kind   `json:"kind"`
	Count    uint64 `json:"count"`
	// Share of the commands, of limits.
	Share Figure `json:"share"`
}

// Stage is how long a part of making a chunk took.
type Stage struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
	P50   Figure `json:"p50_ms"`
	P95   Figure `json:"p95_ms"`
	P99   Figure `json:"p99_ms"`
	Max   Figure `json:"max_ms"`
}

// Run is what the node counted over the whole replay.
type Run struct {
	// Ended says in a sentence's end why the replay was over before the recording, or
	// its part, was; empty where it was not.
	Ended      string
	Failed     int // inferences
	Superseded int // chunks
	Commands   uint64
	Stages     []Stage // of Setup.Stages
	Counts     []Count
	EventsLost uint64
}

// Report is the judgement.
type Report struct {
	Version int `json:"version"`
	Setup
	Chunks       int           `json:"chunks"`
	Commands     uint64        `json:"commands"`
	Failed       int           `json:"failed"`
	Superseded   int           `json:"superseded"`
	Ended        string        `json:"ended_early,omitempty"` // why, see [Run]
	Instructions []Instruction `json:"instructions"`

	// Metrics holds all that have a value, by the name that [Condition]s use.
	Metrics    map[string]Figure `json:"metrics"`
	Conditions []Outcome         `json:"conditions"`
	Verdicts   []Verdict         `json:"verdicts"`

	Joints   []Joint   `json:"joints"`
	Steps    []Errors  `json:"steps"` // by row of a chunk
	Grippers []Gripper `json:"grippers"`
	Decoding *Decoding `json:"decoding,omitempty"`
	Latency  []Stage   `json:"latency"`
	Counts   []Count   `json:"counts"`

	Events     []Event `json:"events"`
	EventsLeft int     `json:"events_left_out"`
	// Pictures are how many moments were seen, and how many of them are shown.
	Moments      int `json:"moments"`
	MomentsShown int `json:"moments_shown"`

	series series
}

// Instruction is what the policy was told from a time on.
type Instruction struct {
	At   Figure `json:"t"`
	Text string `json:"text"`
}

// Joint is one dimension's part.
type Joint struct {
	Name string `json:"name"`
	Arm  string `json:"arm"`
	Unit string `json:"unit"`
	Errors
	ByStep []Figure `json:"mae_by_step"`
	// Direction is the correlation of where chunks go with where the recording
	// went, both from the command at the observation's time: 1 agrees, -1 is the
	// opposite, near 0 has nothing to do with it.
	Direction Figure `json:"direction"`
	Seams     Seams  `json:"seams"`
	// Beyond counts rows beyond the position limits, Furthest is how far at most;
	// Fast counts steps from row to row faster than the velocity limit, Fastest is the
	// largest speed.
	Beyond   int    `json:"rows_beyond_limits"`
	Furthest Figure `json:"furthest_beyond"`
	Fast     int    `json:"steps_too_fast"`
	Fastest  Figure `json:"fastest"`
}

// Errors are of chunks from the recorded commands.
type Errors struct {
	Count   int    `json:"count"`
	MAE     Figure `json:"mae"`
	RMSE    Figure `json:"rmse"`
	Max     Figure `json:"max"`
	Bias    Figure `json:"bias"`        // mean of predicted minus recorded
	Percent Figure `json:"mae_percent"` // of the range
	// Hold is the mean absolute error of standing still: of the command at the
	// observation's time for all rows.
	Hold Figure `json:"mae_hold"`
}

// Seams are where a chunk takes over from the one before.
type Seams struct {
	Count int `json:"count"`
	// Jump is how far apart two consecutive chunks are where the newer one begins.
	Jump    Figure `json:"mean_jump"`
	MaxJump Figure `json:"max_jump"`
	MaxAt   Figure `json:"max_jump_t"`
	// Overlap is their mean distance over the time that both cover.
	Overlap Figure `json:"mean_overlap"`
}

// Gripper is how a gripper's predictions compare as open and closed.
type Gripper struct {
	Name      string  `json:"name"`
	Threshold float64 `json:"threshold"`
	// Confusion counts rows by what is predicted, then by what was recorded; 0 is
	// closed, 1 open.
	Confusion [2][2]int `json:"confusion"`
	Accuracy  Figure    `json:"accuracy"`
	// Changes between open and closed of the rows that would be executed, and those
	// of the recording over the same time.
	Changes         int  `json:"changes"`
	RecordedChanges *int `json:"recorded_changes"`
	// Flicker counts changes that were taken back within flickerTime.
	Flicker int `json:"flicker"`
}

// Decoding is what the rounds did, over all chunks that were decoded in rounds.
type Decoding struct {
	Chunks     int    `json:"chunks"`
	Rounds     Figure `json:"mean_rounds"`
	Confidence Figure `json:"mean_confidence"` // of tokens when they were committed for the last time
	Remasked   Figure `json:"remasked_share"`  // masked again, as a share of the tokens
	Map        Map    `json:"map"`
}

// Map has what the rounds did, by round and dimension.
type Map struct {
	// Tokens is how many there are of each dimension.
	Tokens    int     `json:"tokens"`
	Committed [][]int `json:"committed"`
	Remasked  [][]int `json:"remasked"`
	// Confidence is the mean of those that were committed.
	Confidence [][]Figure `json:"confidence"`
}
