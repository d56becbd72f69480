//go:build race

package cyclone

// Sizes of what has no data races of its own to show, and starts processes that the detector makes slow.
const (
	restarts = 20
	crowd    = 12
)
