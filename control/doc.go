// Package control turns action chunks into joint commands that a real arm can
// follow: it joins chunks in time, interpolates them at the command rate, and
// sends nothing that its safety filter did not pass. It knows nothing of
// tokens and nothing of ROS; the node converts.
//
// The Executor takes feedback, observations and chunks by method calls with
// explicit times and gives one Command a Tick; Run drives it from a ticker.
// See ExampleExecutor, docs of Mode for the states, and docs/safety.md for what
// is promised and how it is tested.
//
// # From a chunk to commands
//
//  1. Hand-over (Replace, with the rules of HandOver): rows that the arms went
//     through since the chunk's observation are dropped, by progress, which
//     stands while they stand.
//  2. Path: a spline through the rows, clamped to the position limits.
//  3. Pace: how fast the path is gone through. Where a joint would be too fast, or
//     the arms are away from the path, it falls for all joints of all arms, which
//     keeps the path's shape; afterwards they catch up. SpeedScale lowers it.
//  4. Step: from the last commanded position, velocity and acceleration, quintics
//     lead all joints to meet the path at the same time, as soon as the limits
//     allow. The first period of them is the command, if from its end every
//     joint could still brake before its limits; else the arms slow down, if they
//     can together, which keeps the path's shape.
//
// Ahead gives the same, some way into the future, for controllers that
// interpolate by themselves; Commit, what the next chunk has to begin with.
//
// # Safety, in this order
//
//  1. Finite numbers. A chunk that holds a NaN or an infinity stops the arms;
//     such a joint message is refused and does not count as feedback.
//  2. Position limits. A target beyond a limit is clamped to it and counted.
//     Beyond by more than Config.LimitTolerance for longer than
//     Config.LimitTime, or by more than Config.LimitStop, it stops the arms.
//     A joint that is itself outside (it was enabled there) may always move
//     back: the excess is measured from where the joint is.
//  3. Velocity, acceleration, jerk and step limits, which also keep every joint
//     able to brake before its position limit.
//  4. Workspace: Config.Guard, where set.
//  5. Following error: a joint (not a gripper, which is meant to be stopped by
//     what it grasps) further from its command than Config.FollowingTolerance
//     for longer than Config.FollowingTime; an arm that does not move though its
//     commands do; a driver that says it does not take them.
//  6. Staleness of the observation, the chunk, the joint feedback, the driver's
//     status and the deadman.
//  7. The e-stop latch.
//
// A stop decelerates from the last commanded state, each joint as fast as its
// limits allow, and then latches, once, a hold pose: the last command, or the measured
// pose of a joint whose following error lasts. The hold pose does not follow the
// measurement and is never zeros, and arms outside their limits stay where they are:
// neither a stop nor Enable moves them by itself, a chunk or Home does. An e-stop does
// the same at the maximum deceleration, whatever the jerk, from the next tick on.
//
// # States
//
//	                    Enable                     chunk
//	Disabled ─────────────────────────> Holding <─────────> Moving
//	   ^                                  ^  halt: Stopping    │
//	   │ Disable, at rest                 │                    │ stop, e-stop
//	   │                                  │ Enable             v
//	   └───────────────────────── Held, Estopped <───────── Stopping
//
// From Holding, or from a halt once it is at rest, Home leads to the start pose
// and back to Holding, and ends with every halt and stop.
//
// A halt (no chunk in time, an old observation, a jump of the clock, Flush, the
// deadman) ends by itself with the next good chunk, even while still decelerating. A
// stop (everything else) needs Enable, which is refused until the arms stand.
// Enable needs fresh feedback of every arm and starts from the measured pose,
// or from the hold pose where that is still being sent and the arm is there.
//
// Held and Estopped keep sending the hold pose, but only as long as fresh
// feedback agrees with it: an arm that was powered off and moved meanwhile is
// not pulled back. Once it does not agree, nothing is sent until Enable, which
// starts from the measured pose then. Disable decelerates, sends the hold pose a few
// times and is then silent, so that another publisher can take over; the driver keeps
// the last target, and nothing ever cuts its power.
//
// # Time
//
// All times are of the clock that Tick is called with. While it stands, as
// simulated time does when the simulator pauses or dies, nothing is sent: a
// paused robot would be given all of it at once when it goes on. The drivers hold
// the last command, so an arm that was moving stops there, at its driver's
// deceleration and not at the one configured here, and goes on from there with
// the clock. Simulated time is therefore not for real arms. This package cannot
// tell, since nobody ticks it; the node does.
package control
