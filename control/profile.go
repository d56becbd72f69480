package control

import "math"

// motion is the commanded state of one joint: position (rad, m), velocity and
// acceleration. It is a function of time with a bounded third derivative, of
// which commands are samples, so their divided differences keep the same
// bounds, however far apart the ticks are (mean value theorem).
type motion struct{ p, v, a float64 }

// coast returns m after t at constant jerk.
func (m motion) coast(jerk, t float64) motion {
	return motion{
		p: m.p + t*(m.v+t*(m.a/2+t*jerk/6)),
		v: m.v + t*(m.a+t*jerk/2),
		a: m.a + t*jerk,
	}
}

// top returns the speed that a joint reaches while its acceleration is taken away.
func (m motion) top(jerk float64) float64 {
	v := math.Abs(m.v)
	if m.v*m.a > 0 {
		v += m.a * m.a / (2 * jerk)
	}
	return v
}

// brakePath is the fastest way to rest with |a| <= the acceleration limit and
// |jerk| <= the jerk limit: jerk -sign*J for t1, none for t2, sign*J for t3.
type brakePath struct {
	from       motion
	sign, jerk float64
	t1, t2, t3 float64
}

// brakeFrom plans the stop of a joint; its acceleration must be within limit.
func brakeFrom(m motion, limit, jerk float64) brakePath {
	b := brakePath{from: m, sign: 1, jerk: jerk}
	// Which way the joint would go on moving once its acceleration is removed.
	if m.v+m.a*math.Abs(m.a)/(2*jerk) < 0 {
		b.sign = -1
	}
	v, a := b.sign*m.v, b.sign*m.a
	peak := math.Max(math.Sqrt(math.Max(0, jerk*v+a*a/2)), -a)
	if peak > limit {
		peak = math.Max(limit, -a)
		b.t2 = math.Max(0, (v+(a*a-2*peak*peak)/(2*jerk))/peak)
	}
	b.t1, b.t3 = math.Max(0, (a+peak)/jerk), peak/jerk
	return b
}

// duration returns how long the stop takes, in s.
func (b *brakePath) duration() float64 { return b.t1 + b.t2 + b.t3 }

// at returns the state t after the stop began, exactly at rest from its end on.
func (b *brakePath) at(t float64) motion {
	m := b.from.coast(-b.sign*b.jerk, math.Min(t, b.t1))
	if t > b.t1 {
		m = m.coast(0, math.Min(t-b.t1, b.t2))
	}
	if t > b.t1+b.t2 {
		m = m.coast(b.sign*b.jerk, math.Min(t-b.t1-b.t2, b.t3))
	}
	if t >= b.duration() {
		m.v, m.a = 0, 0
	}
	return m
}

// extent returns the lowest and highest position on the way, ends included,
// and the highest speed.
func (b *brakePath) extent() (lo, hi, speed float64) {
	end := b.at(b.duration()).p
	lo, hi = math.Min(b.from.p, end), math.Max(b.from.p, end)
	v, a := b.sign*b.from.v, b.sign*b.from.a
	speed = math.Abs(v)
	if a > 0 {
		speed = math.Max(speed, v+a*a/(2*b.jerk))
	}
	if v < 0 { // it turns around on the way
		t := (a - math.Sqrt(math.Max(0, a*a+2*b.jerk*v))) / b.jerk
		p := b.from.coast(-b.sign*b.jerk, math.Min(math.Max(t, 0), b.t1)).p
		lo, hi = math.Min(lo, p), math.Max(hi, p)
	}
	return lo, hi, speed
}

// emergency returns the state after braking at the given deceleration for t,
// whatever the acceleration was.
func emergency(m motion, deceleration, t float64) motion {
	t = math.Min(t, math.Abs(m.v)/deceleration)
	a := -math.Copysign(deceleration, m.v)
	next := motion{p: m.p + t*(m.v+t*a/2), v: m.v + a*t}
	if math.Abs(next.v) <= 1e-12 || next.v*m.v <= 0 {
		next.v = 0
	}
	return next
}

// quintic is the polynomial of least integrated squared jerk between two
// states (Flash and Hogan 1985): p0 + v0 t + a0 t²/2 + c3 t³ + c4 t⁴ + c5 t⁵.
type quintic struct {
	from           motion
	c3, c4, c5, in float64
}

// connect returns the quintic that leads from one state to the other in h s.
func connect(from, to motion, h float64) quintic {
	d := to.p - from.p - h*(from.v+h*from.a/2)
	dv := (to.v - from.v - h*from.a) * h
	da := (to.a - from.a) * h * h
	h3 := h * h * h
	return quintic{
		from: from, in: h,
		c3: (10*d - 4*dv + da/2) / h3,
		c4: (-15*d + 7*dv - da) / (h3 * h),
		c5: (6*d - 3*dv + da/2) / (h3 * h * h),
	}
}

// rest returns the polynomial of fourth degree that brings a joint to rest in h s,
// wherever that is. It is linear in the state, so joints that stop in the same
// time keep the direction they move in.
func rest(from motion, h float64) quintic {
	c4 := (from.v + from.a*h/2) / (2 * h * h * h)
	return quintic{from: from, in: h, c3: -from.a/(6*h) - 2*c4*h, c4: c4}
}

// at returns the state after t.
func (q *quintic) at(t float64) motion {
	return motion{
		p: q.from.p + t*(q.from.v+t*(q.from.a/2+t*(q.c3+t*(q.c4+t*q.c5)))),
		v: q.from.v + t*(q.from.a+t*(3*q.c3+t*(4*q.c4+t*5*q.c5))),
		a: q.acceleration(t),
	}
}

func (q *quintic) acceleration(t float64) float64 {
	return q.from.a + t*(6*q.c3+t*(12*q.c4+t*20*q.c5))
}

func (q *quintic) jerk(t float64) float64 { return 6*q.c3 + t*(24*q.c4+t*60*q.c5) }

// keeps returns OK, or which limit the quintic breaks first. Jerk and
// acceleration are exact, by the roots of their derivatives; the velocity,
// which brakeable bounds for what is executed, is looked at in three places.
func (q *quintic) keeps(speed, acceleration, jerk float64) Code {
	h := q.in
	jerk *= 1 + 1e-9
	if math.Abs(q.jerk(0)) > jerk || math.Abs(q.jerk(h)) > jerk {
		return LimitedJerk
	}
	if t := -q.c4 / (5 * q.c5); t > 0 && t < h && math.Abs(q.jerk(t)) > jerk {
		return LimitedJerk
	}
	// The jerk's roots.
	if root := 24*24*q.c4*q.c4 - 4*60*6*q.c5*q.c3; root >= 0 {
		root = math.Copysign(math.Sqrt(root), q.c4)
		acceleration := acceleration * (1 + 1e-9)
		for _, t := range [2]float64{(-24*q.c4 - root) / (120 * q.c5), 12 * q.c3 / (-24*q.c4 - root)} {
			if t > 0 && t < h && math.Abs(q.acceleration(t)) > acceleration {
				return LimitedAcceleration
			}
		}
	}
	speed *= 1 + 1e-6
	for _, share := range [3]float64{0.25, 0.5, 0.75} {
		t := share * h
		if v := q.from.v + t*(q.from.a+t*(3*q.c3+t*(4*q.c4+t*5*q.c5))); math.Abs(v) > speed {
			return LimitedVelocity
		}
	}
	return OK
}
