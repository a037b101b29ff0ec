package oidc

import (
	"encoding/json"
	"testing"
	"time"
)

func TestMoment(t *testing.T) {
	for text, want := range map[string]int64{`1772366400`: 1772366400, `1772366400.5`: 1772366400, `"1772366400"`: -1, `0`: -1, `-5`: -1, `1e300`: -1, `null`: -1, `true`: -1, ``: 0} {
		r := reader{}
		if text != "" {
			r[claimSignedIn] = json.RawMessage(text)
		}
		at := r.moment(claimSignedIn)
		switch {
		case want < 0 && r.err() == nil, want >= 0 && r.err() != nil:
			t.Errorf("%q: %v, %v", text, at, r.err())
		case want > 0 && !at.Equal(time.Unix(want, 0)):
			t.Errorf("%q: %v", text, at)
		case want <= 0 && !at.IsZero():
			t.Errorf("%q: %v", text, at)
		}
	}
}
