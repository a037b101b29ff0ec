package account

import "slices"

// until says in words how long an app that was granted scopes keeps its access.
func until(scopes []string) string {
	switch {
	case slices.Contains(scopes, "offline_access"):
		return "Until you disconnect it under Your access, or it has not been used for 90 days; after a year in any case. Untick “Keep access when you do not use it” to let it end after five minutes."
	case slices.Contains(scopes, "online_access"):
		return "Until you sign out, or your sign-in ends."
	}
	return "For five minutes. To read more after that, the app has to ask you again."
}
