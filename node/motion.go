package node

import (
	"fmt"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/ros/param"
)

// motionParameters are those of how chunks become motion: hand-over, interpolation,
// speed, grippers, deadman, start pose.
func motionParameters() []param.Descriptor {
	live := control.DefaultLive()
	gripper := control.BinaryGripper(0.07, 0)
	table := []param.Descriptor{
		{Name: "motion.hand_over", Default: param.String(live.HandOver.String()), OneOf: []string{"replace", "blend", "ensemble", "infill", "sync", "open_loop"},
			Meaning: "How a new chunk takes over: replace executes what is left of it; blend fades it in; ensemble executes the weighted mean of all chunks that cover a time (ACT); infill gives the decoder what will have been executed meanwhile as tokens (real-time chunking; absolute joints only); sync infers when the chunk is consumed, open_loop when motion.open_loop_rows of it are."},
		{Name: "motion.blend_rows", Default: param.Int(int64(live.BlendRows)), Unit: "rows", Range: param.Between(1, 1000),
			Meaning: "Rows over which blend fades, and a new instruction with motion.on_instruction blend."},
		{Name: "motion.ensemble_decay", Default: param.Double(live.EnsembleDecay), Range: param.Between(-10, 10),
			Meaning: "k of ensemble: the i-th chunk after the oldest weighs exp(-k i); 0.01 is ACT's, a negative one prefers new chunks."},
		{Name: "motion.seam_rows", Default: param.Int(int64(live.SeamRows)), Unit: "rows", Range: param.Between(0, 1000),
			Meaning: "Rows over which infill fades out what quantisation leaves at the seam, half a bin."},
		{Name: "motion.soft_confidence", Default: param.Double(live.SoftConfidence), Range: param.Between(0, 1),
			Meaning: "Confidence of the first row that infill proposes behind those it gives; it falls to 0 after the last. Low ones are masked again sooner."},
		{Name: "motion.open_loop_rows", Default: param.Int(int64(live.OpenLoopRows)), Unit: "rows", Range: param.Between(1, 1000),
			Meaning: "Rows that open_loop executes before it infers again."},
		{Name: "motion.on_instruction", Default: param.String("halt"), OneOf: []string{"halt", "blend"},
			Meaning: "What a new instruction does to the motion for the old one: it halts, or goes on until the first chunk for the new one is faded in."},
		{Name: "motion.interpolation", Default: param.String(live.Interpolation.String()), OneOf: []string{"cubic", "linear", "quintic"},
			Meaning: "The curve between two rows of a chunk."},
		{Name: "motion.speed_scale", Default: param.Double(live.SpeedScale), Range: param.Between(0.05, 1),
			Meaning: "Share of the speed at which the policy's path is driven; first runs want 0.2."},
		{Name: "motion.home_speed", Default: param.Double(live.HomeSpeed), Range: param.Between(0.05, 1),
			Meaning: "Share of the limits at which ~/home drives."},
	}
	return append(table,
		param.Descriptor{Name: "home.left", Default: param.Doubles(), ReadOnly: true,
			Meaning: "Pose that ~/home takes the left arm to, six joints (rad) and the gripper's opening (m); empty is where the checkpoint's demonstrations began, as its statistics tell (proprio.start), else the middle between the 1st and 99th percentile of its states."},
		param.Descriptor{Name: "home.right", Default: param.Doubles(), ReadOnly: true,
			Meaning: "The same of the right arm."},
		param.Descriptor{Name: "gripper.binary", Default: param.Bool(false), ReadOnly: true,
			Meaning: "Open or close the grippers and nothing between, with hysteresis, so that they do not flicker."},
		param.Descriptor{Name: "gripper.open", Default: param.Double(gripper.Open), Unit: "m", Range: param.Between(0, 0.2), ReadOnly: true,
			Meaning: "Opening of an open gripper, with gripper.binary."},
		param.Descriptor{Name: "gripper.close", Default: param.Double(gripper.Close), Unit: "m", Range: param.Between(0, 0.2), ReadOnly: true,
			Meaning: "Opening of a closed gripper, with gripper.binary."},
		param.Descriptor{Name: "gripper.threshold", Default: param.Double(gripper.Threshold), Range: param.Between(0, 1), ReadOnly: true,
			Meaning: "Share of the way from closed to open above which it opens, with gripper.binary."},
		param.Descriptor{Name: "gripper.hysteresis", Default: param.Double(gripper.Hysteresis), Range: param.Between(0, 0.99), ReadOnly: true,
			Meaning: "Width of the band around the threshold in which nothing changes, with gripper.binary."},
		param.Descriptor{Name: "gripper.dwell", Default: param.Int(int64(gripper.Dwell)), Unit: "rows", Range: param.Between(1, 100), ReadOnly: true,
			Meaning: "Rows in a row that must agree before a gripper changes, with gripper.binary."},
		param.Descriptor{Name: "gripper.driver_scale", Default: param.Double(1), Range: param.Between(-1e7, 1e7), ReadOnly: true,
			Meaning: "What the driver takes and tells for a metre of opening: 1 for metres, 0.5 for the way of one finger, 14.2857 for 0..1 of 0.07 m, 1428.57 for percent of it; negative where more is narrower."},
		param.Descriptor{Name: "gripper.driver_offset", Default: param.Double(0), Range: param.Between(-1e7, 1e7), ReadOnly: true,
			Meaning: "What the driver takes and tells for a closed gripper."},
		param.Descriptor{Name: "deadman.topic", Default: param.String(""), ReadOnly: true,
			Meaning: "Topic of a deadman (std_msgs/Bool, true while it is held) without which the arms halt; empty needs none."},
		param.Descriptor{Name: "deadman.timeout", Default: param.Double(0.5), Unit: "s", Range: param.Between(0.05, 60), ReadOnly: true,
			Meaning: "How long a message of the deadman holds."},
		param.Descriptor{Name: "dry_run", Default: param.Bool(false), ReadOnly: true,
			Meaning: "Do everything but send commands."},
	)
}

// motionFrom reads the live part.
func motionFrom(v param.Values) (control.Live, error) {
	l := control.Live{
		BlendRows: int(v.Int("motion.blend_rows")), EnsembleDecay: v.Double("motion.ensemble_decay"),
		SeamRows: int(v.Int("motion.seam_rows")), SoftConfidence: v.Double("motion.soft_confidence"),
		OpenLoopRows:      int(v.Int("motion.open_loop_rows")),
		KeepOnInstruction: v.String("motion.on_instruction") == "blend",
		SpeedScale:        v.Double("motion.speed_scale"), HomeSpeed: v.Double("motion.home_speed"),
	}
	var err error
	if l.HandOver, err = control.ParseHandOver(v.String("motion.hand_over")); err != nil {
		return l, err
	}
	if l.Interpolation, err = control.ParseInterpolation(v.String("motion.interpolation")); err != nil {
		return l, err
	}
	if v.String("deadman.topic") != "" {
		l.DeadmanTimeout = seconds(v.Double("deadman.timeout"))
	}
	return l, l.Validate()
}

// homeFrom reads the start pose, nil where both arms are left to the statistics.
func homeFrom(v param.Values) (home [2][]float64, err error) {
	for a, side := range arms {
		home[a] = v.Doubles("home." + side)
		if n := len(home[a]); n != 0 && n != armJoints {
			return home, fmt.Errorf("parameter home.%s has %d values; it takes six joints (rad) and the gripper's opening (m), or none", side, n)
		}
	}
	return home, nil
}

// gripperFrom reads the rule of the grippers.
func gripperFrom(v param.Values) (control.GripperRule, error) {
	if !v.Bool("gripper.binary") {
		return control.GripperRule{}, nil
	}
	g := control.GripperRule{
		Binary: true, Open: v.Double("gripper.open"), Close: v.Double("gripper.close"),
		Threshold: v.Double("gripper.threshold"), Hysteresis: v.Double("gripper.hysteresis"), Dwell: int(v.Int("gripper.dwell")),
	}
	if err := g.Validate(); err != nil {
		return g, fmt.Errorf("parameters gripper.*: %w", err)
	}
	return g, nil
}
