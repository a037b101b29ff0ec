package identity

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"strings"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir/outcome"
)

const (
	codes    = 10 // in a list
	codeSize = 10 // bytes: 80 bits, which nobody guesses, not even from their hash
)

func codeName(account, code string) []byte {
	code = strings.ToUpper(strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return -1
		}
		return r
	}, code))
	return digest("code " + account + " " + code)
}

// RecoveryCodes makes a new list of codes for whoever holds a fresh session and has a second factor;
// the old list ends. Each is good for one second step, when the factor is lost.
func (s *Service) RecoveryCodes(ctx context.Context, token string, from From) ([]string, error) {
	h, err := s.holder(ctx, token)
	if err != nil {
		return nil, err
	}
	if h.first {
		return nil, ErrSession
	}
	if len(h.Factors()) == 0 {
		return nil, outcome.New(outcome.BusinessRule, "recovery codes replace a second factor: add one first")
	}
	list, hashes := make([]string, codes), make([][]byte, codes)
	for i := range list {
		var b [codeSize]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		text := base32.StdEncoding.EncodeToString(b[:])
		list[i], hashes[i] = text[:4]+"-"+text[4:8]+"-"+text[8:12]+"-"+text[12:], codeName(h.ID, text)
	}
	if err := s.store.SetCodes(ctx, h.ID, hashes); err != nil {
		return nil, unavailable(err)
	}
	s.tell(h.Email, factorAdded)
	return list, s.note(ctx, h.Account, from, audit.Security{Kind: audit.FactorAdded, Methods: []string{string(Recovery)}, Session: h.session.ID})
}

// RecoveryCode is the second step with a code of the list.
func (s *Service) RecoveryCode(ctx context.Context, challenge, code string, from From) (Step, error) {
	r, p, err := s.challenged(ctx, challenge)
	if err != nil {
		return Step{}, err
	}
	if p.Enrol {
		return Step{}, ErrWrong
	}
	key, ok, err := s.secondAllowed(ctx, r.ID, from)
	if err != nil {
		return Step{}, err
	}
	if !ok {
		return Step{}, s.refused(ctx, r.Account, from, audit.Locked, audit.ReasonThrottled, ErrLocked)
	}
	used, err := s.store.UseCode(ctx, r.ID, codeName(r.ID, code))
	if err != nil {
		return Step{}, unavailable(err)
	}
	if !used {
		return Step{}, s.refused(ctx, r.Account, from, audit.SignIn, audit.ReasonCredential, ErrWrong)
	}
	if err := s.note(ctx, r.Account, from, audit.Security{Kind: audit.FactorRemoved, Methods: []string{string(Recovery)}}); err != nil {
		return Step{}, err
	}
	s.tell(r.Email, codeUsed)
	return s.second(ctx, challenge, r, p, key, from, methodOTP)
}
