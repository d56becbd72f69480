package urdf

import (
	"bytes"
	_ "embed"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Errors of descriptions that cannot be used; each is wrapped with the link or
// joint at fault.
var (
	// ErrSyntax says that the text is no URDF.
	ErrSyntax = errors.New("not a URDF")
	// ErrMissingLimit says that a revolute or prismatic joint has no <limit>.
	ErrMissingLimit = errors.New("no <limit> with lower, upper and velocity")
	// ErrLimit says that a joint's limits contradict each other.
	ErrLimit = errors.New("limit out of order")
	// ErrUnknownLink says that a joint or a caller names a link that is not there.
	ErrUnknownLink = errors.New("unknown link")
	// ErrUnknownJoint says that a caller names a joint that is not there.
	ErrUnknownJoint = errors.New("unknown joint")
	// ErrDuplicate says that a name is used twice.
	ErrDuplicate = errors.New("name used twice")
	// ErrTree says that the links do not form one tree: a loop, a link with two
	// parents, or more than one root.
	ErrTree = errors.New("links form no tree")
	// ErrNonFinite says that a number is NaN or infinite.
	ErrNonFinite = errors.New("number is not finite")
	// ErrJointType says that a joint is of a kind that has no single coordinate.
	ErrJointType = errors.New("joint type not supported; use revolute, continuous, prismatic or fixed")
	// ErrShape says that a collision shape has an impossible size.
	ErrShape = errors.New("collision shape out of range")
)

// maxSize bounds a description; full robots with meshes stay below a megabyte.
const maxSize = 8 << 20

// JointType is how a joint moves.
type JointType string

// Joint types.
const (
	Revolute   JointType = "revolute"
	Continuous JointType = "continuous"
	Prismatic  JointType = "prismatic"
	Fixed      JointType = "fixed"
)

// Joint connects a parent link to a child link.
type Joint struct {
	Name   string
	Type   JointType
	Parent string
	Child  string
	// Origin is the child's frame in the parent's at joint position 0.
	Origin Transform
	// Axis is the unit vector of motion in the child's frame; zero when fixed.
	Axis [3]float64
	// Lower and Upper bound the position in rad or m; infinite for a continuous
	// joint, 0 for a fixed one.
	Lower, Upper float64
	// Velocity bounds the speed in rad/s or m/s; +Inf for a continuous joint
	// that gives none.
	Velocity float64
	// Effort bounds the torque or force in N m or N; 0 where none is given.
	Effort float64
}

// Robot is a tree of links.
type Robot struct {
	Name string
	// Root is the one link without a parent.
	Root string
	// Links and Joints are in the order of the file.
	Links  []string
	Joints []Joint
	// Capsules are the collision shapes, in the order of the file.
	Capsules []Capsule
	// Unshaped tells, for each link that has one, the kind of collision geometry
	// that no capsule is made of: "mesh" or "box". Such a link is not covered
	// by its capsules.
	Unshaped map[string]string

	parentJoint map[string]int // link -> index of the joint above it
}

//go:embed cobot_magic.urdf
var cobotMagic []byte

// CobotMagic returns the embedded description of the Cobot Magic.
func CobotMagic() (*Robot, error) {
	return Parse(bytes.NewReader(cobotMagic))
}

// Load reads a description from a file.
func Load(path string) (*Robot, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("urdf: %w", err)
	}
	defer f.Close()
	r, err := Parse(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

type xmlRobot struct {
	XMLName xml.Name `xml:"robot"`
	Name    string   `xml:"name,attr"`
	Links   []struct {
		Name       string         `xml:"name,attr"`
		Collisions []xmlCollision `xml:"collision"`
	} `xml:"link"`
	Joints []xmlJoint `xml:"joint"`
}

type xmlJoint struct {
	Name   string `xml:"name,attr"`
	Type   string `xml:"type,attr"`
	Parent struct {
		Link string `xml:"link,attr"`
	} `xml:"parent"`
	Child struct {
		Link string `xml:"link,attr"`
	} `xml:"child"`
	Origin struct {
		XYZ string `xml:"xyz,attr"`
		RPY string `xml:"rpy,attr"`
	} `xml:"origin"`
	Axis *struct {
		XYZ string `xml:"xyz,attr"`
	} `xml:"axis"`
	Limit *struct {
		Lower    string `xml:"lower,attr"`
		Upper    string `xml:"upper,attr"`
		Velocity string `xml:"velocity,attr"`
		Effort   string `xml:"effort,attr"`
	} `xml:"limit"`
}

// Parse reads and checks a description.
func Parse(r io.Reader) (*Robot, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("urdf: %w", err)
	}
	if len(raw) > maxSize {
		return nil, fmt.Errorf("urdf: %w: larger than %d bytes", ErrSyntax, maxSize)
	}
	var doc xmlRobot
	if err := xml.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("urdf: %w: %w", ErrSyntax, err)
	}
	robot := &Robot{Name: doc.Name, Unshaped: map[string]string{}, parentJoint: make(map[string]int, len(doc.Joints))}
	seen := make(map[string]bool, len(doc.Links))
	for _, l := range doc.Links {
		if l.Name == "" || seen[l.Name] {
			return nil, fmt.Errorf("urdf: link %q: %w or empty", l.Name, ErrDuplicate)
		}
		seen[l.Name] = true
		robot.Links = append(robot.Links, l.Name)
		for i := range l.Collisions {
			capsule, unshaped, err := parseCollision(l.Name, &l.Collisions[i])
			switch {
			case err != nil:
				return nil, fmt.Errorf("urdf: link %q: collision: %w", l.Name, err)
			case unshaped != "":
				robot.Unshaped[l.Name] = unshaped
			default:
				robot.Capsules = append(robot.Capsules, capsule)
			}
		}
	}
	names := make(map[string]bool, len(doc.Joints))
	for i := range doc.Joints {
		j, err := parseJoint(&doc.Joints[i])
		if err == nil && (j.Name == "" || names[j.Name]) {
			err = fmt.Errorf("%w or empty", ErrDuplicate)
		}
		if err == nil && !seen[j.Parent] {
			err = fmt.Errorf("parent %q: %w", j.Parent, ErrUnknownLink)
		}
		if err == nil && !seen[j.Child] {
			err = fmt.Errorf("child %q: %w", j.Child, ErrUnknownLink)
		}
		if err == nil {
			if above, ok := robot.parentJoint[j.Child]; ok {
				err = fmt.Errorf("%w: link %q already hangs on joint %q", ErrTree, j.Child, robot.Joints[above].Name)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("urdf: joint %q: %w", doc.Joints[i].Name, err)
		}
		names[j.Name] = true
		robot.parentJoint[j.Child] = len(robot.Joints)
		robot.Joints = append(robot.Joints, j)
	}
	if err := robot.findRoot(); err != nil {
		return nil, fmt.Errorf("urdf: %w", err)
	}
	return robot, nil
}

// findRoot sets Root and proves that every link hangs below it.
func (r *Robot) findRoot() error {
	var roots []string
	for _, l := range r.Links {
		if _, ok := r.parentJoint[l]; !ok {
			roots = append(roots, l)
		}
	}
	if len(roots) != 1 {
		return fmt.Errorf("%w: want one root link, have %d %q", ErrTree, len(roots), roots)
	}
	r.Root = roots[0]
	// Links minus joints is 1 here, each joint has its own child: a link that
	// is not reached from the root is on or below a loop.
	children := make(map[string][]string, len(r.Links))
	for _, j := range r.Joints {
		children[j.Parent] = append(children[j.Parent], j.Child)
	}
	reached := map[string]bool{r.Root: true}
	for queue := []string{r.Root}; len(queue) > 0; queue = queue[1:] {
		for _, c := range children[queue[0]] {
			reached[c] = true
			queue = append(queue, c)
		}
	}
	for _, l := range r.Links {
		if !reached[l] {
			return fmt.Errorf("%w: link %q is part of a loop or hangs below one", ErrTree, l)
		}
	}
	return nil
}

func parseJoint(x *xmlJoint) (Joint, error) {
	j := Joint{Name: x.Name, Type: JointType(x.Type), Parent: x.Parent.Link, Child: x.Child.Link}
	switch j.Type {
	case Revolute, Continuous, Prismatic, Fixed:
	default:
		return Joint{}, fmt.Errorf("type %q: %w", x.Type, ErrJointType)
	}
	xyz, err := triple("origin xyz", x.Origin.XYZ, [3]float64{})
	if err != nil {
		return Joint{}, err
	}
	rpy, err := triple("origin rpy", x.Origin.RPY, [3]float64{})
	if err != nil {
		return Joint{}, err
	}
	j.Origin = FromRPY(xyz, rpy)
	if j.Type == Fixed {
		return j, nil
	}
	j.Axis = [3]float64{1, 0, 0} // the format's default
	if x.Axis != nil {
		if j.Axis, err = triple("axis xyz", x.Axis.XYZ, j.Axis); err != nil {
			return Joint{}, err
		}
	}
	norm := math.Hypot(math.Hypot(j.Axis[0], j.Axis[1]), j.Axis[2])
	if !(norm > 1e-9) || math.IsInf(norm, 0) {
		return Joint{}, fmt.Errorf("%w: axis %v has no direction", ErrSyntax, j.Axis)
	}
	for i := range j.Axis {
		j.Axis[i] /= norm
	}
	return j, parseLimit(x, &j)
}

func parseLimit(x *xmlJoint, j *Joint) error {
	if j.Type == Continuous {
		j.Lower, j.Upper, j.Velocity = math.Inf(-1), math.Inf(1), math.Inf(1)
		if x.Limit == nil {
			return nil
		}
	}
	l := x.Limit
	if l == nil {
		return ErrMissingLimit
	}
	fields := []struct {
		name, text string
		to         *float64
		required   bool
	}{
		{"velocity", l.Velocity, &j.Velocity, j.Type != Continuous},
		{"effort", l.Effort, &j.Effort, false},
	}
	if j.Type != Continuous {
		fields = append(fields, []struct {
			name, text string
			to         *float64
			required   bool
		}{{"lower", l.Lower, &j.Lower, true}, {"upper", l.Upper, &j.Upper, true}}...)
	}
	for _, f := range fields {
		if f.text == "" {
			if f.required {
				return fmt.Errorf("%w: %s is missing", ErrMissingLimit, f.name)
			}
			continue
		}
		v, err := number(f.text)
		if err != nil {
			return fmt.Errorf("limit %s: %w", f.name, err)
		}
		*f.to = v
	}
	if j.Lower > j.Upper {
		return fmt.Errorf("%w: lower %g is above upper %g", ErrLimit, j.Lower, j.Upper)
	}
	if !(j.Velocity > 0) || j.Effort < 0 {
		return fmt.Errorf("%w: want velocity > 0 and effort >= 0, have %g and %g", ErrLimit, j.Velocity, j.Effort)
	}
	return nil
}

// triple parses three numbers between white space; an empty text is the default.
func triple(what, text string, otherwise [3]float64) ([3]float64, error) {
	if strings.TrimSpace(text) == "" {
		return otherwise, nil
	}
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return otherwise, fmt.Errorf("%w: %s: want 3 numbers, have %q", ErrSyntax, what, text)
	}
	var out [3]float64
	for i, f := range fields {
		v, err := number(f)
		if err != nil {
			return otherwise, fmt.Errorf("%s: %w", what, err)
		}
		out[i] = v
	}
	return out, nil
}

func number(text string) (float64, error) {
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if errors.Is(err, strconv.ErrRange) || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("%w: %q", ErrNonFinite, text)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %q is no number", ErrSyntax, text)
	}
	return v, nil
}

// Joint returns the joint of that name.
func (r *Robot) Joint(name string) (Joint, error) {
	i := slices.IndexFunc(r.Joints, func(j Joint) bool { return j.Name == name })
	if i < 0 {
		return Joint{}, fmt.Errorf("urdf: robot %q: joint %q: %w", r.Name, name, ErrUnknownJoint)
	}
	return r.Joints[i], nil
}
