//go:build !race

package control

// proofDefault is how many scenarios `go test` plays: 20 s of one core.
const proofDefault = 10000
