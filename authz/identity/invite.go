package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

var (
	errNoAccount = outcome.New(outcome.NotFound, "there is no such account")
	errNoMail    = outcome.New(outcome.NotSupported, "this server sends no mail")
)

// roleAdmin may invite, besides the command line.
const roleAdmin = "practice-admin"

// Invite sends an invitation to become a member of a practice. by is a practice-admin of that practice, or the
// command line ([authz.Operator]); nobody else may.
func (s *Service) Invite(ctx context.Context, by authz.Principal, i Invitation) error {
	if err := mayInvite(by, i.Membership); err != nil {
		return err
	}
	email, err := checkInvitation(i)
	if err != nil {
		return err
	}
	if s.cfg.Mail == nil {
		return errNoMail
	}
	i.Email = email
	link, err := s.invitation(ctx, i, s.cfg.Now().Add(s.cfg.Invitations))
	if err != nil {
		return err
	}
	if err := s.noteInvited(ctx, by.Subject, i.Membership); err != nil {
		return err
	}
	if err := s.cfg.Mail.Send(ctx, email, invitationSubject, fmt.Sprintf(invitationText, link, lasting(s.cfg.Invitations))); err != nil {
		return outcome.New(outcome.Unavailable, "the invitation could not be sent: try again later").Because(err)
	}
	return nil
}

func (s *Service) noteInvited(ctx context.Context, by string, m Membership) error {
	return unavailable(s.cfg.Audit.RecordSecurity(ctx, audit.Security{
		ID: newID(), At: s.cfg.Now().UTC(), Tenant: m.Tenant, Kind: audit.Invited, Outcome: audit.Success, User: m.User, By: by,
	}))
}

// invitation keeps an invitation and gives its link.
func (s *Service) invitation(ctx context.Context, i Invitation, expires time.Time) (string, error) {
	data, err := json.Marshal(i)
	if err != nil {
		return "", unavailable(err)
	}
	token := secret()
	if err := s.store.PutPending(ctx, Pending{Hash: digest(token), Purpose: pendingInvitation, Email: i.Email, Tenant: i.Membership.Tenant, Data: data, Expires: expires}); err != nil {
		return "", unavailable(err)
	}
	return s.cfg.Pages + "/invitation?token=" + url.QueryEscape(token), nil
}

func mayInvite(by authz.Principal, m Membership) error {
	if slices.Contains(by.Roles, authz.Operator) {
		return nil
	}
	if by.Tenant <= 0 || by.Tenant != m.Tenant || !slices.Contains(by.Roles, roleAdmin) {
		return authz.ErrDenied
	}
	return nil
}

func checkInvitation(i Invitation) (email string, err error) {
	email, ok := address(i.Email)
	if !ok {
		return "", outcome.New(outcome.Value, "the e-mail address is not one")
	}
	if err := checkName(i.Name); err != nil && i.Name != "" {
		return "", err
	}
	return email, checkMembership(i.Membership)
}

func checkName(name string) error {
	if n := utf8.RuneCountInString(name); n == 0 || n > 200 || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return outcome.New(outcome.Value, "a name has 1 to 200 characters, all on one line")
	}
	return nil
}

// mostRoles bounds what a token has to carry.
const mostRoles = 64

func checkMembership(m Membership) error {
	bad := func(text string) error { return outcome.New(outcome.Value, text) }
	if m.Tenant <= 0 || m.Practice == "" {
		return bad("a membership is of a practice")
	}
	if len(m.Roles) == 0 || len(m.Roles) > mostRoles || len(m.Organizations) > mostRoles {
		return bad("a membership has at least one role, and at most 64 roles and organizations")
	}
	for _, r := range m.Roles {
		if r == authz.Operator || r == "" || len(r) > 64 || strings.Trim(r, "abcdefghijklmnopqrstuvwxyz-") != "" {
			return bad("a role is not one that a member can have")
		}
	}
	switch m.User.Type {
	case "Practitioner", "Patient", "RelatedPerson":
		if !m.User.ID.Valid() {
			return bad("the user is not a reference to a Practitioner, a Patient or a RelatedPerson")
		}
	case "":
	default:
		return bad("the user is not a reference to a Practitioner, a Patient or a RelatedPerson")
	}
	own := slices.ContainsFunc(m.Roles, func(r string) bool { return r == rolePatient || r == roleProxy })
	if patient := m.User.Type == "Patient" || m.User.Type == "RelatedPerson"; patient && m.Staff() || own && !patient {
		return bad("whoever is a Patient or a RelatedPerson has the roles patient and proxy, and nobody else has them; a member of staff who is a patient has two memberships")
	}
	if slices.ContainsFunc(m.Organizations, func(o fhir.ID) bool { return !o.Valid() }) {
		return bad("an organization is not a logical id")
	}
	return nil
}

// AcceptInvitation makes an account of an invitation, with a name and a password, or adds the membership to the
// account that the address has already: then password is the one of that account.
func (s *Service) AcceptInvitation(ctx context.Context, token, name, password string, from From) (Step, error) {
	now := s.cfg.Now()
	pending, ok, err := s.store.TryPending(ctx, digest(token), pendingInvitation, 10*challengeTries, now)
	if err != nil {
		return Step{}, unavailable(err)
	}
	if !ok {
		return Step{}, ErrLink
	}
	var i Invitation
	if err := json.Unmarshal(pending.Data, &i); err != nil {
		return Step{}, unavailable(err)
	}
	r, exists, err := s.store.AccountByEmail(ctx, i.Email)
	if err != nil {
		return Step{}, unavailable(err)
	}
	var hash string
	switch {
	case exists && (r.Password != "" || len(r.Factors()) > 0 || r.Linked || r.Disabled): // a mail is not enough to get into an account that is in use
		if r, err = s.password(ctx, i.Email, password, from); err != nil {
			return Step{}, err
		}
	default:
		if name == "" {
			name = i.Name
		}
		if err := checkName(name); err != nil {
			return Step{}, err
		}
		if err := s.acceptable(password, i.Email); err != nil {
			return Step{}, err
		}
		if hash, err = s.hasher.hash(ctx, password); err != nil {
			return Step{}, unavailable(err)
		}
	}
	if _, ok, err := s.store.TakePending(ctx, digest(token), pendingInvitation, now); err != nil {
		return Step{}, unavailable(err)
	} else if !ok {
		return Step{}, ErrLink
	}
	if r, err = s.join(ctx, r, i, name, hash, from); err != nil {
		return Step{}, err
	}
	return s.proceed(ctx, r, progress{Methods: []string{methodPassword}, SignedIn: now.UTC()}, from)
}

// join adds the membership of an invitation to an account, which is made if there is none.
func (s *Service) join(ctx context.Context, r Record, i Invitation, name, hash string, from From) (Record, error) {
	now := s.cfg.Now()
	created := r.ID == ""
	if created {
		a := Account{ID: newID(), Name: name, Email: i.Email, Memberships: []Membership{i.Membership}}
		if err := s.store.CreateAccount(ctx, a, hash, now); err != nil {
			return Record{}, unavailable(err)
		}
		r = Record{Account: a, Password: hash}
	} else {
		if hash != "" {
			if err := s.store.SetPassword(ctx, r.ID, hash, now); err != nil {
				return Record{}, unavailable(err)
			}
		}
		if err := s.store.PutMembership(ctx, r.ID, i.Membership); err != nil {
			return Record{}, unavailable(err)
		}
		found, ok, err := s.store.Account(ctx, r.ID)
		if err != nil || !ok {
			return Record{}, unavailable(err)
		}
		r = found
	}
	kind := audit.RolesChanged
	if created {
		kind = audit.AccountCreated
	}
	joined := r.Account
	joined.Memberships = []Membership{i.Membership}
	return r, s.note(ctx, joined, from, audit.Security{Kind: kind})
}
