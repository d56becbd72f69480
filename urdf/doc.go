// Package urdf reads a robot's kinematic description and computes with it:
// joint limits, forward kinematics, Jacobians and where collision capsules are.
//
// cobot_magic.urdf describes the robot that this project drives by default,
// two Piper arms with three cameras; it is embedded, so that a binary needs no
// file beside it. control takes its limits from here, sim its kinematics and
// its camera poses. Only what those need is read: links, joints, origins, axes,
// limits, and cylinders and spheres of <collision>. Meshes, inertias,
// transmissions and mimic tags are ignored.
package urdf
