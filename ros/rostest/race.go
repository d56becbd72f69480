//go:build race

package rostest

// raced tells that the race detector runs, which keeps memory of its own.
const raced = true
