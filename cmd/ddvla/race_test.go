//go:build race

package main

// raced tells whether the race detector runs, which makes everything ten times as slow and keeps memory of
// its own.
const raced = true
