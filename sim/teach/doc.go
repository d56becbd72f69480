// Package teach records demonstrations of sim's tasks into data sets: what
// `ddvla sim demos` and the command sim/demos do.
//
// An episode is first done by the expert from home or near it. Then it is done again
// from moments of it at which the arms were shoved, the gripper opened or a thing
// moved, and from arms at home or anywhere over the table: the shove itself is left
// out, what the expert does after it is recorded, its beginning kept.
// So recordings hold nothing but the expert's own commands, from states that a
// policy's mistakes lead to (the purpose of Laskey et al., "DART:
// Noise Injection for Robust Imitation Learning", CoRL 2017, which perturbs the
// expert without pause; here chunks must be free of it).
package teach
