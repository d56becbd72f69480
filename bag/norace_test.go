//go:build !race

package bag

const underRace = false
