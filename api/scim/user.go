package scim

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"crypto/rand"
	"fmt"
)

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// userBody is a User (RFC 7643, 4.1) as far as it is kept. Pointers tell absent from empty.
type userBody struct {
	UserName    *string  `json:"userName"`
	ExternalID  *string  `json:"externalId"`
	DisplayName *string  `json:"displayName"`
	Active      *boolean `json:"active"`
	Name        *struct {
		Formatted, GivenName, FamilyName string
	} `json:"name"`
	Member *struct {
		User          *string  `json:"fhirUser"`
		Organizations []string `json:"organizations"`
	} `json:"urn:cloister:params:scim:schemas:extension:member:2.0:User"`
}

// boolean reads true, and "True" as some directories write it.
type boolean bool

func (b *boolean) UnmarshalJSON(text []byte) error {
	switch strings.ToLower(strings.Trim(string(text), `"`)) {
	case "true":
		*b = true
	case "false":
		*b = false
	default:
		return errValue
	}
	return nil
}

// apply puts what a body says into u.
func (u *User) apply(b userBody) {
	if b.UserName != nil {
		u.UserName = strings.ToLower(strings.TrimSpace(*b.UserName))
	}
	if b.ExternalID != nil {
		u.ExternalID = *b.ExternalID
	}
	if b.Active != nil {
		u.Active = bool(*b.Active)
	}
	if n := b.Name; n != nil {
		if n.Formatted == "" {
			n.Formatted = strings.TrimSpace(n.GivenName + " " + n.FamilyName)
		}
		if n.Formatted != "" {
			u.Name = n.Formatted
		}
	}
	if b.DisplayName != nil && *b.DisplayName != "" {
		u.Name = *b.DisplayName
	}
	if m := b.Member; m != nil {
		if m.User != nil {
			u.User = *m.User
		}
		if m.Organizations != nil {
			u.Organizations = m.Organizations
		}
	}
	if u.Name == "" {
		u.Name = u.UserName
	}
}

func (s *server) user(u User) map[string]any {
	groups := make([]any, len(u.Groups))
	for i, g := range u.Groups {
		groups[i] = map[string]any{"value": g.ID, "display": g.Name, "$ref": s.Base + "/Groups/" + g.ID}
	}
	out := map[string]any{
		"schemas": []string{schemaUser, schemaMember}, "id": u.ID, "userName": u.UserName, "displayName": u.Name, "active": u.Active,
		"name":   map[string]any{"formatted": u.Name},
		"emails": []any{map[string]any{"value": u.UserName, "type": "work", "primary": true}},
		"groups": groups,
		"meta":   s.meta("User", "/Users/"+u.ID, u.Created, u.Modified),
	}
	if u.ExternalID != "" {
		out["externalId"] = u.ExternalID
	}
	member := map[string]any{}
	if u.User != "" {
		member["fhirUser"] = u.User
	}
	if len(u.Organizations) > 0 {
		member["organizations"] = u.Organizations
	}
	out[schemaMember] = member
	return out
}

func (s *server) meta(kind, path string, created, modified time.Time) map[string]any {
	return map[string]any{"resourceType": kind, "location": s.Base + path, "created": created.UTC().Format(time.RFC3339), "lastModified": modified.UTC().Format(time.RFC3339)}
}

var userAttributes = map[string]string{"username": "userName", "externalid": "externalId"}

func (s *server) listUsers(r *http.Request, d Directory) (int, any, error) {
	f, err := find(r, userAttributes)
	if err != nil {
		return 0, nil, err
	}
	users, total, err := s.Store.DirectoryUsers(r.Context(), d.Tenant, f)
	if err != nil {
		return 0, nil, err //nolint:wrapcheck // the handler says what is public of it
	}
	out := make([]any, len(users))
	for i, u := range users {
		out[i] = s.user(u)
	}
	return http.StatusOK, list(out, total, f.Start), nil
}

func (s *server) oneUser(ctx context.Context, d Directory, id string) (User, error) {
	users, _, err := s.Store.DirectoryUsers(ctx, d.Tenant, Find{Attribute: "id", Value: id, Count: 1})
	if err == nil && len(users) == 0 {
		return User{}, errUnknown
	}
	if err != nil {
		return User{}, err //nolint:wrapcheck // the handler says what is public of it
	}
	return users[0], nil
}

func (s *server) readUser(r *http.Request, d Directory) (int, any, error) {
	u, err := s.oneUser(r.Context(), d, r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, s.user(u), nil
}

// keep provisions a user and stores her as the directory has her. What is taken away is taken away first.
func (s *server) keep(ctx context.Context, d Directory, u User) error {
	if u.UserName == "" {
		return errValue
	}
	u.Modified = s.Now().UTC()
	account, err := s.provision(ctx, d, u)
	if err != nil {
		return err
	}
	u.Account = account
	return s.Store.PutDirectoryUser(ctx, d.Tenant, u) //nolint:wrapcheck // the handler says what is public of it
}

func (s *server) createUser(r *http.Request, d Directory) (int, any, error) {
	var b userBody
	if err := read(r, &b); err != nil {
		return 0, nil, err
	}
	now := s.Now().UTC()
	u := User{ID: s.NewID(), Active: true, Created: now, Modified: now}
	u.apply(b)
	if _, n, err := s.Store.DirectoryUsers(r.Context(), d.Tenant, Find{Attribute: "userName", Value: u.UserName, Count: 1}); err != nil {
		return 0, nil, err //nolint:wrapcheck // the handler says what is public of it
	} else if n > 0 {
		return 0, nil, errTaken
	}
	if err := s.keep(r.Context(), d, u); err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, s.user(u), nil
}

func (s *server) replaceUser(r *http.Request, d Directory) (int, any, error) {
	old, err := s.oneUser(r.Context(), d, r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	var b userBody
	if err := read(r, &b); err != nil {
		return 0, nil, err
	}
	u := User{ID: old.ID, Account: old.Account, Created: old.Created, Groups: old.Groups, Active: true}
	u.apply(b)
	return s.changed(r.Context(), d, old, u)
}

// changed keeps a user who was changed. Her name in the directory is the address of her account: that of another is another account.
func (s *server) changed(ctx context.Context, d Directory, old, u User) (int, any, error) {
	if u.UserName != old.UserName {
		return 0, nil, &fault{http.StatusBadRequest, "mutability", "userName names the account and cannot change: delete the user and create another"}
	}
	if err := s.keep(ctx, d, u); err != nil {
		return 0, nil, err
	}
	u.Modified = s.Now().UTC()
	return http.StatusOK, s.user(u), nil
}

type patchBody struct {
	Schemas    []string
	Operations []struct {
		Op    string
		Path  string
		Value json.RawMessage
	}
}

func (s *server) patchUser(r *http.Request, d Directory) (int, any, error) {
	old, err := s.oneUser(r.Context(), d, r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	var p patchBody
	if err := read(r, &p); err != nil {
		return 0, nil, err
	}
	u := old
	for _, o := range p.Operations {
		var b userBody
		text := o.Value
		switch op := strings.ToLower(o.Op); {
		case op != "replace" && op != "add":
			return 0, nil, errPath
		case o.Path != "":
			name, ok := map[string]string{"active": "active", "displayname": "displayName", "externalid": "externalId", "username": "userName", "name": "name", "name.formatted": "displayName",
				strings.ToLower(schemaMember): schemaMember, strings.ToLower(schemaMember) + ":fhiruser": "fhirUser", strings.ToLower(schemaMember) + ":organizations": "organizations"}[strings.ToLower(o.Path)]
			if !ok {
				return 0, nil, errPath
			}
			wrapped := map[string]any{name: o.Value}
			if name == "fhirUser" || name == "organizations" {
				wrapped = map[string]any{schemaMember: wrapped}
			}
			if text, err = json.Marshal(wrapped); err != nil {
				return 0, nil, errSyntax
			}
		}
		if json.Unmarshal(text, &b) != nil {
			return 0, nil, errValue
		}
		u.apply(b)
	}
	return s.changed(r.Context(), d, old, u)
}

// deleteUser ends the membership, and forgets the user; an account that belongs to others too stays theirs.
func (s *server) deleteUser(r *http.Request, d Directory) (int, any, error) {
	u, err := s.oneUser(r.Context(), d, r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	u.Active = false
	if _, err := s.provision(r.Context(), d, u); err != nil {
		return 0, nil, err
	}
	if _, err := s.Store.DeleteDirectoryUser(r.Context(), d.Tenant, u.ID); err != nil {
		return 0, nil, err //nolint:wrapcheck // the handler says what is public of it
	}
	return http.StatusNoContent, nil, nil
}

func read(r *http.Request, into any) error {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		return errSyntax
	}
	return nil
}
