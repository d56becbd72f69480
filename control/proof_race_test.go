//go:build race

package control

// raced tells that the race detector makes tests ten times as slow. It has nothing to
// find in those that drive an executor of their own from one goroutine, so they do less.
const raced = true
