//go:build !race

package cyclone

const (
	restarts = 200
	crowd    = 50
)
