//go:build !linux

package bench

import "time"

// processor is not known on this system.
func processor() (own, children time.Duration) { return 0, 0 }
