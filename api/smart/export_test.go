package smart

import "context"

// Sign signs claims as an access token has them.
func (r *Ring) Sign(ctx context.Context, claims any) (string, error) {
	return r.sign(ctx, ForAccess, claims)
}
