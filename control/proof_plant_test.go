package control

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// plant is the two arms with their drivers, apart from package control: each joint
// goes to its newest command as a first-order lag, as fast as firmware and motor
// can, and holds the last command when nothing more comes. Drivers may drop
// commands, and joints may be blocked.
type plant struct {
	p, v, target []float64
	lag          float64 // s
	blocked      []bool
	deaf         [2]bool // the driver is not enabled
	random       *rand.Rand
}

func newPlant(pose []float64, lag float64, random *rand.Rand) *plant {
	n := len(pose)
	return &plant{p: append([]float64(nil), pose...), target: append([]float64(nil), pose...),
		v: make([]float64, n), blocked: make([]bool, n), lag: lag, random: random}
}

// command takes a setpoint.
func (m *plant) command(p []float64) {
	for j := range p {
		if !m.deaf[j/7] {
			m.target[j] = p[j]
		}
	}
}

// move lets dt s pass. The firmware's maxima are 3 rad/s and, while a joint is
// servoed, 40 rad/s² of the motor; of the gripper 1 m/s and 10 m/s².
func (m *plant) move(dt float64) {
	for j := range m.p {
		fastest, hardest := 3.0, 40.0
		if j%7 == 6 {
			fastest, hardest = 1, 10
		}
		want := math.Max(-fastest, math.Min(fastest, (m.target[j]-m.p[j])/(m.lag+dt)))
		m.v[j] += math.Max(-hardest*dt, math.Min(hardest*dt, want-m.v[j]))
		if m.blocked[j] {
			m.v[j] = 0
		}
		m.p[j] += m.v[j] * dt
	}
}

// measure is what an arm's encoders say, with their noise.
func (m *plant) measure(arm int) []float64 {
	p := make([]float64, 7)
	for j := range p {
		p[j] = m.p[arm*7+j] + 1e-5*m.random.NormFloat64()
	}
	return p
}

// jointLimits is one row of the robot's data sheet.
type jointLimits struct {
	name                              string
	lower, upper                      float64
	velocity, accel, hard, jerk, step float64
	gripper                           bool
}

// dataSheet is the Cobot Magic's, written down apart from package control.
func dataSheet() []jointLimits {
	var all []jointLimits
	for _, side := range []string{"left", "right"} {
		for i, l := range [][2]float64{{-2.618, 2.618}, {0, 3.14}, {-2.967, 0}, {-1.745, 1.745}, {-1.22, 1.22}, {-2.0944, 2.0944}} {
			all = append(all, jointLimits{fmt.Sprintf("%s/joint%d", side, i+1), l[0], l[1], 1, 4, 5, 50, 0.05, false})
		}
		all = append(all, jointLimits{side + "/gripper", 0, 0.07, 0.1, 0.5, 1, 10, 0.01, true})
	}
	return all
}
