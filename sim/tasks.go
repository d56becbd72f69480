package sim

import (
	"math"
	"math/rand/v2"
	"time"

	"gonum.org/v1/gonum/spatial/r3"
)

// cubesOnBothSides puts two to four cubes of different colours on the table, at
// least one on each side, and returns how many.
func (s *stage) cubesOnBothSides(rng *rand.Rand) int {
	colours := shuffled(rng)
	left, right := 1+rng.IntN(2), 1+rng.IntN(2)
	for i := range left + right {
		side := Left
		if i >= left {
			side = Right
		}
		s.put(rng, CubeKind, colours[i], side)
	}
	return left + right
}

// two draws two different numbers below n.
func two(rng *rand.Rand, n int) (int, int) {
	a, b := rng.IntN(n), rng.IntN(n-1)
	if b >= a {
		b++
	}
	return a, b
}

func reachTask() Task {
	return Task{
		Name:        "reach",
		Description: "move the gripper to just above the cube of the named colour",
		Limit:       8 * time.Second,
		Train:       crosswise([]string{"reach the {a}", "reach for the {a}", "move to the {a}", "go to the {a}", "point at the {a}"}, "cube", "block"),
		HeldOut:     crosswise([]string{"hover over the {a}", "bring the gripper to the {a}", "move above the {a}"}, "cube", "block", "one"),
		draw: func(rng *rand.Rand, s *stage) {
			a, b := two(rng, s.cubesOnBothSides(rng))
			s.goal, s.wrong = Goal{Object: a, Target: -1}, Goal{Object: b, Target: -1}
		},
		success: func(w *World, g Goal) bool {
			// At rest: on the way to a far cube a tool passes over a near one.
			return w.resting() && w.held[0] < 0 && w.held[1] < 0 &&
				w.toolDistance(hoverPoint(&w.Objects[g.Object])) < Reached
		},
	}
}

// hoverPoint is where the tool goes to reach for an object.
func hoverPoint(o *Object) r3.Vec {
	return r3.Vec{X: o.Pose.P[0], Y: o.Pose.P[1], Z: o.top() + Hover}
}

// free says whether no gripper holds object i and it rests.
func (w *World) free(i int) bool { return w.owner(i) < 0 && w.Objects[i].fall == 0 }

// placed says whether a goal's object rests, let go, on its target, its middle
// within placeTolerance of the target's (anywhere in a tray and on a mat, which are
// places and not spots).
func placed(w *World, g Goal) bool {
	o, on := &w.Objects[g.Object], &w.Objects[g.Target]
	if !w.free(g.Object) || o.on != g.Target {
		return false
	}
	return on.Kind == TrayKind || on.Kind == MatKind || math.Hypot(o.Pose.P[0]-on.Pose.P[0], o.Pose.P[1]-on.Pose.P[1]) <= placeTolerance
}

// placeTolerance is how far in metres a thing may be from the middle of what it
// is put on.
const placeTolerance = 0.04

func liftTask() Task {
	return Task{
		Name:        "lift",
		Description: "pick up the cube of the named colour and hold it up",
		Limit:       10 * time.Second,
		Train:       crosswise([]string{"lift the {a}", "pick up the {a}", "grab the {a}", "raise the {a}", "take the {a}"}, "cube", "block"),
		HeldOut:     crosswise([]string{"hold up the {a}", "get the {a}", "lift up the {a}"}, "cube", "block", "one"),
		draw: func(rng *rand.Rand, s *stage) {
			a, b := two(rng, s.cubesOnBothSides(rng))
			s.goal, s.wrong = Goal{Object: a, Target: -1}, Goal{Object: b, Target: -1}
		},
		success: func(w *World, g Goal) bool {
			return w.owner(g.Object) >= 0 && w.Objects[g.Object].bottom() >= TableHeight+0.08
		},
	}
}

func bellTask() Task {
	return Task{
		Name:        "bell",
		Description: "press the bell",
		Limit:       8 * time.Second,
		Train:       crosswise([]string{"press", "ring", "push", "hit", "sound"}, "the bell", "the bell on the table"),
		HeldOut:     []string{"make the bell ring", "give the bell a push", "press down on the bell", "tap the bell"},
		draw: func(rng *rand.Rand, s *stage) {
			side := Side(rng.IntN(2))
			bell := s.put(rng, BellKind, "", side)
			colours := shuffled(rng)
			cube := s.put(rng, CubeKind, colours[0], Side(rng.IntN(2)))
			if rng.Float64() < 0.5 {
				s.put(rng, CubeKind, colours[1], Side(rng.IntN(2)))
			}
			s.goal, s.wrong = Goal{Object: bell, Target: -1}, Goal{Task: "lift", Object: cube, Target: -1}
		},
		success: func(w *World, g Goal) bool { return w.Objects[g.Object].Pressed },
	}
}

func cupTask() Task {
	return Task{
		Name:        "cup",
		Description: "put the cup on the coaster",
		Limit:       14 * time.Second,
		Train:       crosswise([]string{"put the cup", "place the cup", "set the cup", "move the cup"}, "on the coaster", "onto the coaster"),
		HeldOut:     []string{"put the cup down on the coaster", "the cup belongs on the coaster", "bring the cup to the coaster", "rest the cup on the coaster"},
		draw: func(rng *rand.Rand, s *stage) {
			side := Side(rng.IntN(2))
			coaster := s.put(rng, CoasterKind, "", side)
			cup := s.put(rng, CupKind, "", side)
			cube := s.put(rng, CubeKind, shuffled(rng)[0], 1-side)
			s.goal, s.wrong = Goal{Object: cup, Target: coaster}, Goal{Task: "lift", Object: cube, Target: -1}
		},
		success: placed,
	}
}

func sortTask() Task {
	return Task{
		Name:        "sort",
		Description: "put the cube of the named colour into the tray and leave the other out",
		Limit:       14 * time.Second,
		Train: crosswise([]string{"put the {a} cube", "put the {a} block", "place the {a} cube", "drop the {a} block", "sort the {a} cube"},
			"in the tray", "into the tray"),
		HeldOut: crosswise([]string{"the {a} cube belongs", "move the {a} block", "get the {a} one"}, "in the tray", "into the tray"),
		draw: func(rng *rand.Rand, s *stage) {
			side := Side(rng.IntN(2))
			tray := s.put(rng, TrayKind, "", side)
			colours := shuffled(rng)
			a := s.put(rng, CubeKind, colours[0], side)
			b := s.put(rng, CubeKind, colours[1], side)
			s.goal, s.wrong = Goal{Object: a, Target: tray}, Goal{Object: b, Target: tray}
		},
		success: func(w *World, g Goal) bool {
			for i := range w.Objects {
				if i != g.Object && w.Objects[i].on == g.Target {
					return false
				}
			}
			return placed(w, g)
		},
	}
}

func stackTask() Task {
	return Task{
		Name:        "stack",
		Description: "stack the cube of one named colour on that of another",
		Limit:       14 * time.Second,
		Train: crosswise([]string{"put the {a} cube", "put the {a} block", "stack the {a} cube", "stack the {a} block", "place the {a} cube"},
			"on the {b} cube", "on the {b} block"),
		HeldOut: crosswise([]string{"set the {a} cube", "the {a} block goes", "pile the {a} cube"}, "on top of the {b} cube", "onto the {b} one"),
		draw: func(rng *rand.Rand, s *stage) {
			side := Side(rng.IntN(2))
			colours := shuffled(rng)
			a := s.put(rng, CubeKind, colours[0], side)
			b := s.put(rng, CubeKind, colours[1], side)
			if rng.Float64() < 0.5 {
				s.put(rng, CubeKind, colours[2], 1-side)
			}
			s.goal, s.wrong = Goal{Object: a, Target: b}, Goal{Object: b, Target: a}
		},
		success: placed,
	}
}

func handoverTask() Task {
	return Task{
		Name:        "handover",
		Description: "hand the bar over from one arm to the other and lay it on the mat on the other side",
		Limit:       18 * time.Second,
		Train: crosswise([]string{"hand over the bar", "pass the bar across", "pass the bar", "hand the bar over"},
			"to the mat", "and put it on the mat"),
		HeldOut: []string{"move the bar to the mat on the other side", "give the bar to the other arm and lay it on the mat",
			"transfer the bar to the mat"},
		draw: func(rng *rand.Rand, s *stage) {
			side := Side(rng.IntN(2))
			mat := s.put(rng, MatKind, "", 1-side)
			bar := s.put(rng, BarKind, "", side)
			cube := s.put(rng, CubeKind, shuffled(rng)[0], Side(rng.IntN(2)))
			s.goal, s.wrong = Goal{Object: bar, Target: mat}, Goal{Task: "lift", Object: cube, Target: -1}
		},
		success: func(w *World, g Goal) bool {
			return placed(w, g) && w.Objects[g.Object].last == sideAt(w.Objects[g.Target].Pose.P[1])
		},
	}
}

// sideAt is the arm on whose side of the table y is.
func sideAt(y float64) Side {
	if y >= 0 {
		return Left
	}
	return Right
}
