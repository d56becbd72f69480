package control

import (
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
