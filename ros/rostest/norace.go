//go:build !race

package rostest

const raced = false
