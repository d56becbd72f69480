// Package sim is a small simulated Cobot Magic at a table: coloured cubes, two
// arms by their URDF, three cameras drawn in software, a joint servo, and a
// scripted expert that reaches for the cube an instruction names.
//
// It makes the demonstrations that the tiny policy is trained on (command
// sim/dataset), stands in for the robot on the same topics (Run), and says how
// close a tool came to the named cube. Everything is drawn from seeds: the same
// seed gives the same scene, pixels and motion. Contact and grasping are not
// modelled; tools hover above cubes.
package sim
