package identity

import (
	"context"
)

// What strangers do must never keep somebody out of her own account. So nothing is counted by
// account alone but for those who come from an unknown device, and even they are left two
// ways that no wrong password closes: a passkey, and a link by e-mail. The delays that grow are counted
// per account and place, and a stranger's place is not hers.

// visit is an attempt with a password that was let through.
type visit struct {
	pair         []byte
	held         [][]byte // what success gives back: one attempt each
	knownAlready bool
}

// admit lets an attempt with a password through, or not. It counts first, so that a thousand
// attempts at the same moment are a thousand. who is the e-mail address that was given: what
// nobody has is counted like what somebody has.
func (s *Service) admit(ctx context.Context, account, who string, from From) (visit, bool, error) {
	known, err := s.known(ctx, account, from)
	if err != nil {
		return visit{}, false, err
	}
	at := "at " + place(from.Address)
	if known {
		at = "device " + from.Device
	}
	now, v := s.cfg.Now(), visit{pair: s.box.Mark("pair", who, at), knownAlready: known}
	if ok, err := s.store.Attempt(ctx, v.pair, s.cfg.Limits.Pair, now); !ok || err != nil {
		return v, false, unavailable(err)
	}
	if known {
		return v, true, nil
	}
	for _, l := range []struct {
		key   []byte
		limit Limit
	}{
		{s.box.Mark("address", place(from.Address)), s.cfg.Limits.Address},
		{s.box.Mark("account", who), s.cfg.Limits.Account},
	} {
		if ok, err := s.store.Attempt(ctx, l.key, l.limit, now); !ok || err != nil {
			return v, false, unavailable(err)
		}
		v.held = append(v.held, l.key)
	}
	return v, true, nil
}

// succeeded takes back what a success is not: a failure. Only its own attempt is taken back of
// what strangers share, or somebody with an account of her own could guess at others' for ever.
func (s *Service) succeeded(ctx context.Context, v visit) error {
	if err := s.store.Forget(ctx, v.pair); err != nil {
		return unavailable(err)
	}
	for _, k := range v.held {
		if err := s.store.Forgive(ctx, k); err != nil {
			return unavailable(err)
		}
	}
	return nil
}

// known says that the browser has shown before that it belongs to the owner of the account.
func (s *Service) known(ctx context.Context, account string, from From) (bool, error) {
	if account == "" || from.Device == "" {
		return false, nil
	}
	ok, err := s.store.Known(ctx, account, digest(from.Device), s.cfg.Now())
	return ok, unavailable(err)
}

// secondAllowed bounds the second steps of an account: whoever takes them knows its password.
func (s *Service) secondAllowed(ctx context.Context, account string, from From) ([]byte, bool, error) {
	known, err := s.known(ctx, account, from)
	if err != nil {
		return nil, false, err
	}
	at := ""
	if known {
		at = from.Device
	}
	key := s.box.Mark("second", account, at)
	ok, err := s.store.Attempt(ctx, key, s.cfg.Limits.Second, s.cfg.Now())
	return key, ok, unavailable(err)
}
