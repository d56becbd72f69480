package urdf

import "math"

// Transform is a rigid motion: it maps a point p of the child frame to R p + P
// in the parent frame.
type Transform struct {
	// R is the rotation matrix, row-major.
	R [9]float64
	// P is the translation in metres.
	P [3]float64
}

// Identity returns the motion that leaves points where they are.
func Identity() Transform {
	return Transform{R: [9]float64{1, 0, 0, 0, 1, 0, 0, 0, 1}}
}

// FromRPY returns the transform of a URDF origin: a translation in metres and
// fixed-axis roll, pitch, yaw in radians, R = Rz(yaw) Ry(pitch) Rx(roll).
func FromRPY(xyz, rpy [3]float64) Transform {
	sr, cr := math.Sincos(rpy[0])
	sp, cp := math.Sincos(rpy[1])
	sy, cy := math.Sincos(rpy[2])
	return Transform{
		R: [9]float64{
			cy * cp, cy*sp*sr - sy*cr, cy*sp*cr + sy*sr,
			sy * cp, sy*sp*sr + cy*cr, sy*sp*cr - cy*sr,
			-sp, cp * sr, cp * cr,
		},
		P: xyz,
	}
}

// Mul returns the motion that applies b first, then t.
func (t Transform) Mul(b Transform) Transform {
	var out Transform
	for i := range 3 {
		r := t.R[3*i : 3*i+3 : 3*i+3]
		for j := range 3 {
			out.R[3*i+j] = r[0]*b.R[j] + r[1]*b.R[3+j] + r[2]*b.R[6+j]
		}
		out.P[i] = r[0]*b.P[0] + r[1]*b.P[1] + r[2]*b.P[2] + t.P[i]
	}
	return out
}

// Inverse returns the motion that undoes t.
func (t Transform) Inverse() Transform {
	out := Transform{R: [9]float64{
		t.R[0], t.R[3], t.R[6],
		t.R[1], t.R[4], t.R[7],
		t.R[2], t.R[5], t.R[8],
	}}
	p := out.Rotate(t.P)
	out.P = [3]float64{-p[0], -p[1], -p[2]}
	return out
}

// Apply maps a point of the child frame into the parent frame.
func (t Transform) Apply(p [3]float64) [3]float64 {
	q := t.Rotate(p)
	return [3]float64{q[0] + t.P[0], q[1] + t.P[1], q[2] + t.P[2]}
}

// Rotate maps a direction of the child frame into the parent frame.
func (t Transform) Rotate(v [3]float64) [3]float64 {
	return [3]float64{
		t.R[0]*v[0] + t.R[1]*v[1] + t.R[2]*v[2],
		t.R[3]*v[0] + t.R[4]*v[1] + t.R[5]*v[2],
		t.R[6]*v[0] + t.R[7]*v[1] + t.R[8]*v[2],
	}
}

// AngleTo returns the angle in radians, 0 to pi, of the rotation between t and b.
func (t Transform) AngleTo(b Transform) float64 {
	d := t.Inverse().Mul(b)
	// atan2 of sine and cosine keeps its precision near 0 and pi, where the
	// arc cosine of the trace loses half the digits.
	sine := math.Hypot(math.Hypot(d.R[7]-d.R[5], d.R[2]-d.R[6]), d.R[3]-d.R[1])
	return math.Atan2(sine, d.R[0]+d.R[4]+d.R[8]-1)
}

// rotationAbout returns the rotation by angle about the unit vector a
// (Rodrigues' formula).
func rotationAbout(a [3]float64, angle float64) [9]float64 {
	s, c := math.Sincos(angle)
	k := 1 - c
	return [9]float64{
		c + k*a[0]*a[0], k*a[0]*a[1] - s*a[2], k*a[0]*a[2] + s*a[1],
		k*a[0]*a[1] + s*a[2], c + k*a[1]*a[1], k*a[1]*a[2] - s*a[0],
		k*a[0]*a[2] - s*a[1], k*a[1]*a[2] + s*a[0], c + k*a[2]*a[2],
	}
}

// FromRotationVector returns the rotation by the length of w in radians about
// its direction (the exponential map), without translation.
func FromRotationVector(w [3]float64) Transform {
	angle := math.Hypot(math.Hypot(w[0], w[1]), w[2])
	if angle < 1e-12 { // R = 1 + skew(w), exact to the last digit
		return Transform{R: [9]float64{1, -w[2], w[1], w[2], 1, -w[0], -w[1], w[0], 1}}
	}
	return Transform{R: rotationAbout([3]float64{w[0] / angle, w[1] / angle, w[2] / angle}, angle)}
}

// RotationVector returns the axis of t's rotation times its angle, 0 to pi
// radians (the logarithm). It goes through the quaternion's largest component
// (Shepperd, "Quaternion from rotation matrix", J. Guidance and Control 1978),
// which keeps all digits at any angle.
func (t Transform) RotationVector() [3]float64 {
	r := &t.R
	trace := r[0] + r[4] + r[8]
	var w, x, y, z float64 // 4 times the largest component times each
	switch {
	case trace >= r[0] && trace >= r[4] && trace >= r[8]:
		w, x, y, z = 1+trace, r[7]-r[5], r[2]-r[6], r[3]-r[1]
	case r[0] >= r[4] && r[0] >= r[8]:
		w, x, y, z = r[7]-r[5], 1+2*r[0]-trace, r[1]+r[3], r[2]+r[6]
	case r[4] >= r[8]:
		w, x, y, z = r[2]-r[6], r[1]+r[3], 1+2*r[4]-trace, r[5]+r[7]
	default:
		w, x, y, z = r[3]-r[1], r[2]+r[6], r[5]+r[7], 1+2*r[8]-trace
	}
	if w < 0 {
		w, x, y, z = -w, -x, -y, -z
	}
	sine := math.Hypot(math.Hypot(x, y), z)
	if sine == 0 {
		return [3]float64{}
	}
	k := 2 * math.Atan2(sine, w) / sine
	return [3]float64{k * x, k * y, k * z}
}
