//go:build race

package control

// The race detector makes scenarios ten times as slow, and has nothing to find in
// them: each has an executor of its own.
const proofDefault = 300
