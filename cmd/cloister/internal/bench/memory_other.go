//go:build !linux

package bench

import "runtime"

// resident is the memory that the runtime took from the system, in bytes: about
// what the process holds.
func resident() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys - m.HeapReleased) //nolint:gosec // below 8 EB
}
