package account

import (
	"fmt"
	"slices"
	"time"

	"github.com/cloister-health/cloister/api/smart"
)

// until says in words how long an app that was granted scopes keeps its access.
func until(scopes []string) string {
	switch {
	case slices.Contains(scopes, "offline_access"):
		return fmt.Sprintf("Until you disconnect it under Your access, or it has not been used for %s; after %s in any case. Untick “Keep access when you do not use it” to let it end after %s.",
			spelled(smart.OfflineIdle), spelled(smart.OfflineLife), spelled(smart.AccessLife))
	case slices.Contains(scopes, "online_access"):
		return fmt.Sprintf("Until you sign out, or your sign-in ends; after %s in any case.", spelled(smart.OnlineLife))
	}
	return fmt.Sprintf("For %s. To read more after that, the app has to ask you again.", spelled(smart.AccessLife))
}

// spelled says a duration in words, in the largest unit of which it is a multiple.
func spelled(d time.Duration) string {
	const day = 24 * time.Hour
	for _, u := range []struct {
		name string
		size time.Duration
	}{{"year", 365 * day}, {"day", day}, {"hour", time.Hour}, {"minute", time.Minute}} {
		switch n := d / u.size; {
		case n == 0 || d%u.size != 0:
		case n == 1:
			return "one " + u.name
		default:
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	return d.String()
}
