package sim

import "time"

// World is a scene with a robot that moves in it: what a closed loop steps in
// process, without topics. Used by one goroutine.
type World struct {
	Arms  *Arms
	Scene Scene

	servo *Servo
	now   time.Duration
}

// servoStep is the longest step of the joint servo.
const servoStep = 5 * time.Millisecond

// NewWorld returns a world with the arms at home.
func NewWorld(arms *Arms, scene Scene) *World {
	return NewWorldAt(arms, scene, Home())
}

// NewWorldAt returns a world with the arms at rest in a posture.
func NewWorldAt(arms *Arms, scene Scene, q State) *World {
	return &World{Arms: arms, Scene: scene, servo: NewServo(arms, q)}
}

// Now is the time since the start.
func (w *World) Now() time.Duration { return w.now }

// State returns where the joints are.
func (w *World) State() State { return w.servo.Position }

// Velocity returns how fast they move, rad/s and m/s.
func (w *World) Velocity() State { return w.servo.Velocity }

// Command sets the posture that the servo moves to; see [Servo.Command].
func (w *World) Command(q State) { w.servo.Command(q) }

// Step lets dt pass.
func (w *World) Step(dt time.Duration) {
	for dt > 0 {
		step := min(dt, servoStep)
		w.servo.Step(step.Seconds())
		w.now += step
		dt -= step
	}
}
