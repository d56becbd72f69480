package node

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/param"
	"github.com/ddvla/ddvla/urdf"
)

// CameraTopics are the default topics by camera name: AgileX's names of the Cobot
// Magic's cameras (f is the head's).
func CameraTopics() map[string]string {
	return map[string]string{
		"head":        "/camera_f/color/image_raw",
		"wrist_left":  "/camera_l/color/image_raw",
		"wrist_right": "/camera_r/color/image_raw",
	}
}

// standardCameras are a Cobot Magic's, as published models call them.
func standardCameras() []string { return []string{"head", "wrist_left", "wrist_right"} }

// Parameters is the node's table of parameters: the one source of their names,
// types, units, ranges, defaults and meanings. cameras are the bundle's; nil
// stands for those of a Cobot Magic.
func Parameters(cameras []string) []param.Descriptor {
	if cameras == nil {
		cameras = standardCameras()
	}
	c := control.DefaultConfig(nil)
	revolute, gripper := control.RevoluteLimits(-1, 1), control.GripperLimits(0.07)
	table := []param.Descriptor{
		{Name: "policy", Default: param.String(""), ReadOnly: true,
			Meaning: "Directory of the policy bundle that `ddvla export` wrote."},
		{Name: "urdf", Default: param.String(""), ReadOnly: true,
			Meaning: "Robot description with the joint limits; empty is the built-in Cobot Magic."},
		{Name: "runtime.library", Default: param.String(""), ReadOnly: true,
			Meaning: "ONNX Runtime's shared library or its directory; empty looks in $DDVLA_ORT_LIBRARY, beside the program and where the system looks."},
		{Name: "runtime.provider", Default: param.String("cpu"), OneOf: []string{"cpu", "cuda", "tensorrt"}, ReadOnly: true,
			Meaning: "Where the graph runs. A provider that cannot be had ends the start."},
		{Name: "runtime.device", Default: param.Int(0), Range: param.Between(0, 63), ReadOnly: true,
			Meaning: "Number of the GPU."},
		{Name: "runtime.threads", Default: param.Int(0), Range: param.Between(0, 1024), ReadOnly: true,
			Meaning: "Threads of one operator on the CPU; 0 is one per core."},
		{Name: "runtime.engine_cache", Default: param.String(""), ReadOnly: true,
			Meaning: "Directory in which TensorRT keeps the engines it built, so that the next start is quick; empty is ddvla/tensorrt in the user's cache directory."},
		{Name: "runtime.engine_hash", Default: param.String(""), ReadOnly: true,
			Meaning: "Name of the engines in runtime.engine_cache; empty is made of the hashes of the bundle's graph and weights, so that no other bundle's are taken."},
		{Name: "autostart", Default: param.Bool(true), ReadOnly: true,
			Meaning: "Configure and activate at start; false waits for `ros2 lifecycle set`."},
		{Name: "rate", Default: param.Double(10), Unit: "Hz", Range: param.Between(0.1, 100),
			Meaning: "Chunks per second at most; a slower model starts the next one as soon as it can."},
		{Name: "command_rate", Default: param.Double(c.CommandRate), Unit: "Hz", Range: param.Between(10, 200), ReadOnly: true,
			Meaning: "Joint commands per second."},
		{Name: "max_age", Default: param.Double(0.5), Unit: "s", Range: param.Between(0.01, 10),
			Meaning: "Largest age of any picture or joint state that a chunk is made from."},
		{Name: "max_skew", Default: param.Double(0.1), Unit: "s", Range: param.Between(0.001, 10),
			Meaning: "Largest time between the parts of one observation."},
		{Name: "max_chunk_age", Default: param.Double(0), Unit: "s", Range: param.Between(0, 60), ReadOnly: true,
			Meaning: "Largest age of the chunk being executed; 0 is as long as it has rows."},
		{Name: "instruction", Default: param.String(""), ReadOnly: true,
			Meaning: "What to do until ~/instruction says otherwise."},
		{Name: "start_enabled", Default: param.Bool(false), ReadOnly: true,
			Meaning: "Enable the arms as soon as joint states are there, without ~/enable. For simulation."},
		{Name: "check_statistics", Default: param.Bool(true), ReadOnly: true,
			Meaning: "Refuse to enable arms that contradict the checkpoint's statistics: data of another arm model, or a pose far beyond all of the data."},
		{Name: "seed", Default: param.Int(1), ReadOnly: true,
			Meaning: "Start of the decoding noise; the same seed and observations give the same chunks."},
		{Name: "record", Default: param.String(""), ReadOnly: true,
			Meaning: "Directory of a new bag for everything heard and said, the parameters and what each chunk was made from (docs/replay.md); a node that is configured again adds _2, _3; empty records nothing."},
		{Name: "record_images", Default: param.String(recordFull), OneOf: []string{recordFull, recordHash}, ReadOnly: true,
			Meaning: "How pictures are recorded: full, or hash for only the SHA-256 of those that chunks were made from, on ~/inference; `ddvla replay --diff` then takes them from another bag (--images)."},
		{Name: "lock_step", Default: param.Int(0), Range: param.Between(0, 1000), ReadOnly: true,
			Meaning: "Make a chunk of every n-th picture of the head camera, chosen by stamps alone, so that the same messages give the same chunks, live and replayed (docs/replay.md); 0 makes chunks of the newest messages, by the clock, as a robot wants it. Inputs are subscribed reliably; rate, max_age and motion.hand_over do not decide about chunks."},

		{Name: "decode.preset", Default: param.String(""), OneOf: presetNames(),
			Meaning: "How tokens are decoded; empty is the bundle's default. autoregressive is for bundles with causal attention: from left to right, at one token_temperature (0), no other decode.* given."},
		{Name: "decode.rounds", Default: param.Int(0), Range: param.Between(0, decode.MaxRounds),
			Meaning: "Denoising rounds T; 0 is the bundle's default."},
		{Name: "decode.schedule", Default: param.String(""), OneOf: scheduleNames(),
			Meaning: "How the share still masked falls with r, the share of the rounds that are over: cos(pi/2 r), 1 - r, 1 - r², 1 - r³, or the same number of tokens in each round; empty is the preset's cosine."},
		{Name: "decode.schedule_table", Default: param.Doubles(), Range: param.Between(0, 1),
			Meaning: "The share still masked after each round, one value per round, never rising and 0 at the end, instead of decode.schedule; empty is none."},
		{Name: "decode.score", Default: param.String(""), OneOf: []string{"", "candidate", "maximum", "gap"},
			Meaning: "What positions are ranked by; empty is the preset's."},
		{Name: "decode.token_temperature", Default: param.Doubles(), Range: param.Between(0, 1e6),
			Meaning: "Temperature of token sampling, one value or one per round; empty is the preset's. From 4 or so on a token may be drawn whose probability float32 knows as 0; such a chunk is refused and stops the arms."},
		{Name: "decode.choice_temperature", Default: param.Doubles(), Range: param.Between(0, 1e6),
			Meaning: "Temperature of the choice of positions, likewise."},
		{Name: "decode.committed_bias", Default: param.Doubles(),
			Meaning: "Added to the log-score of committed positions, likewise; .inf locks them."},
		{Name: "decode.threshold", Default: param.Doubles(),
			Meaning: "Committed tokens with less confidence are masked again, likewise."},
		{Name: "decode.drop_threshold", Default: param.Doubles(),
			Meaning: "Committed tokens whose confidence fell by more are masked again, likewise; .inf is off."},
		{Name: "decode.commit_confidence", Default: param.Doubles(),
			Meaning: "Candidates with this confidence are committed whatever the schedule says, likewise; above 1 is off."},
		{Name: "decode.mean_window", Default: param.Int(-1), Range: param.Between(-1, 255),
			Meaning: "Bins on each side of the chosen one that an action is averaged over; -1 is the preset's."},
		{Name: "decode.refresh", Default: param.Int(1), Range: param.Between(1, decode.MaxRounds),
			Meaning: "Rounds that each computation of what stands before the action tokens serves; 1 is exact, more is faster and an approximation, with bidirectional attention only."},
		{Name: "decode.warm_start", Default: param.Bool(false),
			Meaning: "Begin a chunk with what is left of the one before, shifted by the rows executed meanwhile, as tokens that may be masked again; saves rounds, see decode.warm_start_rounds."},
		{Name: "decode.warm_start_confidence", Default: param.Double(0), Range: param.Between(0, 1),
			Meaning: "Least confidence of a token that is taken over; what was less sure starts masked. 0 takes all."},
		{Name: "decode.warm_start_rounds", Default: param.Int(0), Range: param.Between(0, decode.MaxRounds),
			Meaning: "Rounds of a chunk that starts warm, at most decode.rounds; 0 is the masked tokens' share of decode.rounds, two at least."},
		{Name: "decode.trace", Default: param.Bool(false),
			Meaning: "Publish on ~/decode_trace what each round did to each token; `ddvla inspect --trace` draws it."},

		{Name: "limits.velocity", Default: param.Double(revolute.Velocity), Unit: "rad/s", Range: param.Between(0.01, 3), ReadOnly: true,
			Meaning: "Fastest joint speed; the firmware's own maximum is 3."},
		{Name: "limits.acceleration", Default: param.Double(revolute.Acceleration), Unit: "rad/s²", Range: param.Between(0.1, 20), ReadOnly: true,
			Meaning: "Largest joint acceleration; the firmware's own maximum is 5."},
		{Name: "limits.jerk", Default: param.Double(revolute.Jerk), Unit: "rad/s³", Range: param.Between(1, 1e4), ReadOnly: true,
			Meaning: "Largest change of a joint's acceleration; an e-stop knows none."},
		{Name: "limits.gripper_max", Default: param.Double(gripper.Upper), Unit: "m", Range: param.Between(0.01, 0.2), ReadOnly: true,
			Meaning: "Widest gripper opening: 0.07 for the standard Piper gripper, 0.1 for the newer one."},
		{Name: "limits.limit_tolerance", Default: param.Double(c.LimitTolerance), Unit: "rad", Range: param.Between(0.001, 1), ReadOnly: true,
			Meaning: "A target further beyond a joint limit than this for longer than half a second stops the arms; nearer ones are clamped."},
		{Name: "limits.limit_stop", Default: param.Double(c.LimitStop), Unit: "rad", Range: param.Between(0.01, 7), ReadOnly: true,
			Meaning: "A target further beyond a joint limit than this stops the arms at once."},
		{Name: "limits.following_tolerance", Default: param.Double(c.FollowingTolerance), Unit: "rad", Range: param.AtLeast(0.01), ReadOnly: true,
			Meaning: "A joint further from its command than this for longer than 0.3 s stops the arms."},
		{Name: "limits.feedback_timeout", Default: param.Double(c.FeedbackTimeout.Seconds()), Unit: "s", Range: param.Between(0.01, 10), ReadOnly: true,
			Meaning: "Joint states older than this stop the arms."},
		{Name: "limits.observation_timeout", Default: param.Double(c.ObservationTimeout.Seconds()), Unit: "s", Range: param.Between(0.01, 10), ReadOnly: true,
			Meaning: "Observations older than this halt the arms."},
		{Name: "limits.max_observation_age", Default: param.Double(c.MaxObservationAge.Seconds()), Unit: "s", Range: param.Between(0.05, 60), ReadOnly: true,
			Meaning: "A chunk whose observation is older than this when it is ready is dropped; a slow model needs more."},
		{Name: "command.joint_names", Default: param.String(namesGripper), OneOf: []string{namesGripper, namesJoint7}, ReadOnly: true,
			Meaning: "How commands name the joints. A driver that goes by name moves a joint that it misses to zero, so choose by driver: agx_arm_ros needs the first, Piper_ros takes either."},
		{Name: "command.output", Default: param.String(outputJointState), OneOf: []string{outputJointState, outputJointTrajectory}, ReadOnly: true,
			Meaning: "What commands go out as: JointState for the arms' own drivers, or JointTrajectory on ~/left/joint_trajectory and ~/right/joint_trajectory for ros2_control's joint_trajectory_controller (which needs open_loop_control: true on Humble)."},
		{Name: "command.jtc_horizon", Default: param.Double(0.3), Unit: "s", Range: param.Between(0.1, 2), ReadOnly: true,
			Meaning: "How far a JointTrajectory reaches at most; it ends at rest."},
		{Name: "base.topic", Default: param.String(""), ReadOnly: true,
			Meaning: "Topic of a mobile base's velocities (Twist), such as /cmd_vel, for policies that drive one; empty refuses these."},
		{Name: "command.speed_percent", Default: param.Double(0), Unit: "%", Range: param.Between(0, 100), ReadOnly: true,
			Meaning: "Speed that the arms' drivers are told (they read it from velocity[6]); 0 tells none."},
		{Name: "command.gripper_effort", Default: param.Double(0), Unit: "N", Range: param.Between(0, 3), ReadOnly: true,
			Meaning: "Gripper force that the arms' drivers are told (they read it from effort[6]); 0 tells none."},
	}
	table = append(table, motionParameters()...)
	table = append(table, spaceParameters()...)
	for _, name := range cameras {
		table = append(table, param.Descriptor{Name: "cameras." + name + ".topic", Default: param.String(CameraTopics()[name]), ReadOnly: true,
			Meaning: "Topic of the camera that the model calls " + name + "; CompressedImage where it ends in /compressed, else Image."})
	}
	for _, side := range arms {
		table = append(table,
			param.Descriptor{Name: "arms." + side + ".state_topic", Default: param.String("/puppet/joint_" + side), ReadOnly: true,
				Meaning: "Topic of the " + side + " arm's measured joints (JointState)."},
			param.Descriptor{Name: "arms." + side + ".command_topic", Default: param.String("/master/joint_" + side), ReadOnly: true,
				Meaning: "Topic that the " + side + " arm's driver takes commands from (JointState)."},
			param.Descriptor{Name: "arms." + side + ".trajectory_joints", Default: param.Strings("joint1", "joint2", "joint3", "joint4", "joint5", "joint6", "gripper"), ReadOnly: true,
				Meaning: "Names of the " + side + " arm's joints for command.output joint_trajectory, as its controller has them; without the seventh the gripper is left out."},
			param.Descriptor{Name: "arms." + side + ".status_topic", Default: param.String("/puppet/arm_status_" + side), ReadOnly: true,
				Meaning: "Topic on which the " + side + " arm's driver tells its status (piper_msgs/PiperStatusMsg). Once it has told one, faults and silence stop the arms; empty watches none."})
	}
	return table
}

func presetNames() []string {
	names := []string{""}
	for _, p := range decode.Presets() {
		names = append(names, string(p))
	}
	return append(names, string(decode.Autoregressive))
}

func scheduleNames() []string {
	names := []string{""}
	for _, s := range decode.Schedules() {
		names = append(names, string(s))
	}
	return names
}

// SettingsFrom reads the settings of a node with the given bundle and names from
// its parameters.
func SettingsFrom(v param.Values, m *bundle.Manifest, names *ros.Names) (Settings, error) {
	s := Settings{
		Policy: v.String("policy"), URDF: v.String("urdf"),
		Runtime: ort.Config{
			Library: v.String("runtime.library"), Provider: ort.Provider(v.String("runtime.provider")),
			Device: int(v.Int("runtime.device")), Threads: int(v.Int("runtime.threads")),
			EngineCache: v.String("runtime.engine_cache"), EngineHash: v.String("runtime.engine_hash"),
		},
		Cameras:         map[string]string{},
		JointNames:      v.String("command.joint_names"),
		CommandRate:     v.Double("command_rate"),
		SpeedPercent:    v.Double("command.speed_percent"),
		GripperEffort:   v.Double("command.gripper_effort"),
		StartEnabled:    v.Bool("start_enabled"),
		CheckStatistics: v.Bool("check_statistics"),
		Instruction:     v.String("instruction"),
		Seed:            v.Int("seed"),
		Autostart:       v.Bool("autostart"),
		Record:          v.String("record"),
		RecordHashes:    v.String("record_images") == recordHash,
		LockStep:        int(v.Int("lock_step")),
	}
	for _, c := range m.Cameras {
		s.Cameras[c.Name] = v.String("cameras." + c.Name + ".topic")
	}
	for a, side := range arms {
		s.States[a] = v.String("arms." + side + ".state_topic")
		s.Targets[a] = v.String("arms." + side + ".command_topic")
		s.Drivers[a] = v.String("arms." + side + ".status_topic")
		s.TrajectoryJoints[a] = slices.Clone(v.Strings("arms." + side + ".trajectory_joints"))
	}
	var err error
	if s.QoS, err = overrides(v, m, names); err != nil {
		return s, err
	}
	robot, err := loadRobot(s.URDF)
	if err != nil {
		return s, err
	}
	rule, err := gripperFrom(v)
	if err != nil {
		return s, err
	}
	layout, err := limits(robot, v.Double("limits.velocity"), v.Double("limits.acceleration"), v.Double("limits.jerk"), v.Double("limits.gripper_max"), rule)
	if err != nil {
		return s, err
	}
	if s.Home, err = homeFrom(v); err != nil {
		return s, err
	}
	s.Deadman = v.String("deadman.topic")
	s.Gripper = control.GripperUnits{Scale: v.Double("gripper.driver_scale"), Offset: v.Double("gripper.driver_offset")}
	if s.Gripper.Scale == 0 {
		return s, fmt.Errorf("parameter gripper.driver_scale is 0; it is what the driver takes for a metre of opening")
	}
	s.Control = control.DefaultConfig(layout)
	s.Control.CommandRate = s.CommandRate
	s.Control.LimitTolerance = v.Double("limits.limit_tolerance")
	s.Control.LimitStop = v.Double("limits.limit_stop")
	// The parameter may be .inf, on recordings whose arms follow another hand.
	s.Control.FollowingTolerance = min(v.Double("limits.following_tolerance"), math.MaxFloat64)
	s.Control.FeedbackTimeout = seconds(v.Double("limits.feedback_timeout"))
	s.Control.ObservationTimeout = seconds(v.Double("limits.observation_timeout"))
	s.Control.MaxObservationAge = seconds(v.Double("limits.max_observation_age"))
	s.Control.MaxChunkAge = seconds(v.Double("max_chunk_age"))
	s.Control.DryRun = v.Bool("dry_run")
	if err := s.checkHome(); err != nil {
		return s, err
	}
	s.Space, s.Base = spaceFrom(v), v.String("base.topic")
	guard, err := guardFrom(v, robot, layout)
	if err != nil {
		return s, err
	}
	s.Control.Guard = guard
	s.Trajectories = v.String("command.output") == outputJointTrajectory
	s.TrajectoryHorizon = seconds(v.Double("command.jtc_horizon"))
	if err := s.checkTrajectories(); err != nil {
		return s, err
	}
	if err := s.checkTopics(names); err != nil {
		return s, err
	}
	if s.Live, err = LiveFrom(v, m); err != nil {
		return s, err
	}
	s.Control.Live = s.Live.Motion
	return s, nil
}

// LiveFrom reads the live settings, with the bundle's defaults where a parameter
// leaves it to them.
func LiveFrom(v param.Values, m *bundle.Manifest) (Live, error) {
	l := Live{
		Rate: v.Double("rate"), MaxAge: seconds(v.Double("max_age")), MaxSkew: seconds(v.Double("max_skew")),
		Trace: v.Bool("decode.trace"), Parameters: v,
		Decode: decode.Params{
			Preset: decode.Preset(v.String("decode.preset")), Rounds: int(v.Int("decode.rounds")),
			Schedule: decode.Schedule(v.String("decode.schedule")), Score: v.String("decode.score"),
			ScheduleTable:     slices.Clone(v.Doubles("decode.schedule_table")),
			TokenTemperature:  slices.Clone(v.Doubles("decode.token_temperature")),
			ChoiceTemperature: slices.Clone(v.Doubles("decode.choice_temperature")),
			CommittedBias:     slices.Clone(v.Doubles("decode.committed_bias")),
			Threshold:         slices.Clone(v.Doubles("decode.threshold")),
			DropThreshold:     slices.Clone(v.Doubles("decode.drop_threshold")),
			CommitConfidence:  slices.Clone(v.Doubles("decode.commit_confidence")),
			Refresh:           int(v.Int("decode.refresh")),

			WarmStart: v.Bool("decode.warm_start"), WarmStartConfidence: v.Double("decode.warm_start_confidence"),
			WarmStartRounds: int(v.Int("decode.warm_start_rounds")),
		},
	}
	var err error
	if l.Motion, err = motionFrom(v); err != nil {
		return l, fmt.Errorf("parameters motion.*: %w", err)
	}
	if l.Motion.HandOver == control.Infill && (columns(m) == nil || m.Model.Head == bundle.L1Head) {
		return l, fmt.Errorf("parameter motion.hand_over: infill gives the decoder tokens of absolute joints, which the bundle's policy has not; choose blend")
	}
	if l.Motion.HandOver == control.Infill && v.Int("lock_step") > 0 {
		return l, fmt.Errorf("parameter motion.hand_over: infill makes chunks of what the arms do, which lock_step must not; choose blend")
	}
	if l.Decode.Preset == "" {
		l.Decode.Preset = decode.Preset(m.Decode.Preset)
	}
	if l.Decode.Rounds == 0 {
		l.Decode.Rounds = m.Decode.Rounds
	}
	if w := int(v.Int("decode.mean_window")); w >= 0 {
		l.Decode.MeanWindow = &w
	}
	if err := policy.CheckDecode(l.Decode, m); err != nil {
		return l, fmt.Errorf("parameters decode.*: %w", err)
	}
	return l, nil
}

// The values of record_images.
const (
	recordFull = "full"
	recordHash = "hash"
)

func loadRobot(path string) (*urdf.Robot, error) {
	if path == "" {
		return urdf.CobotMagic()
	}
	return urdf.Load(path)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
