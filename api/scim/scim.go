// Package scim provisions accounts from the directory of a practice (SCIM 2.0, RFC 7643 and 7644).
package scim

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Directory is that of one practice, as its token names it.
type Directory struct {
	Tenant   int32
	Practice string
}

// User is a member of staff as the directory has her.
type User struct {
	ID, Account, UserName, ExternalID, Name string
	User                                    string // reference to her Practitioner, or ""
	Organizations                           []string
	Active                                  bool
	Created, Modified                       time.Time
	Groups                                  []Group // without their members
}

// Group is a group of users; which role it gives is for the configuration to say.
type Group struct {
	ID, Name, ExternalID string
	Members              []string // ids of users
	Created, Modified    time.Time
}

// Find says which resources are asked for. Start counts from 0; Attribute is "" for all, or the
// attribute that is to equal Value.
type Find struct {
	Attribute, Value string
	Start, Count     int
}

// ErrTaken is what a [Store] says of a name that another resource has.
var ErrTaken = errors.New("scim: taken")

// Store keeps what directories provide. Everything is within one practice.
type Store interface {
	DirectoryByToken(ctx context.Context, hash []byte) (Directory, bool, error)
	DirectoryUsers(ctx context.Context, tenant int32, f Find) ([]User, int, error)
	PutDirectoryUser(ctx context.Context, tenant int32, u User) error
	DeleteDirectoryUser(ctx context.Context, tenant int32, id string) (bool, error)
	DirectoryGroups(ctx context.Context, tenant int32, f Find) ([]Group, int, error)
	// PutDirectoryGroup stores a group with its members; those that are no users of the practice are left out.
	PutDirectoryGroup(ctx context.Context, tenant int32, g Group) error
	DeleteDirectoryGroup(ctx context.Context, tenant int32, id string) (bool, error)
}

// Accounts is the part of identity.Service that this package needs.
type Accounts interface {
	Provision(ctx context.Context, by string, p identity.Provisioned) (string, error)
}

// Config of the handler.
type Config struct {
	Store    Store
	Accounts Accounts
	Base     string              // address of /scim/v2, without a trailing slash
	Roles    map[string][]string // display name of a group, in lower case, to the roles that its members have
	Now      func() time.Time
	Log      *slog.Logger
	NewID    func() string // nil: random UUIDs
}

const (
	schemaUser   = "urn:ietf:params:scim:schemas:core:2.0:User"
	schemaGroup  = "urn:ietf:params:scim:schemas:core:2.0:Group"
	schemaMember = "urn:cloister:params:scim:schemas:extension:member:2.0:User"
	schemaList   = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
	schemaPatch  = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
	schemaError  = "urn:ietf:params:scim:api:messages:2.0:Error"
	schemaConfig = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
	schemaType   = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"

	mediaType = "application/scim+json"
	maxBody   = 1 << 20
	maxPage   = 200
)

// TokenHash is what is stored of a directory's token.
func TokenHash(token string) []byte {
	sum := sha256.Sum256([]byte("scim " + token))
	return sum[:]
}

// by is how events name the directory of a practice.
const by = "scim"

type server struct{ Config }

// fault is an error as RFC 7644 (3.12) has it.
type fault struct {
	status      int
	kind, about string // scimType, detail
}

func (f *fault) Error() string { return f.about }

var (
	errUnknown = &fault{http.StatusNotFound, "", "there is no such resource"}
	errSyntax  = &fault{http.StatusBadRequest, "invalidSyntax", "the body is not a SCIM resource"}
	errFilter  = &fault{http.StatusBadRequest, "invalidFilter", `the filter is none of userName eq "...", externalId eq "..." and displayName eq "..."`}
	errPath    = &fault{http.StatusBadRequest, "invalidPath", "the path of an operation is none that can be changed"}
	errValue   = &fault{http.StatusBadRequest, "invalidValue", "a value is missing or malformed"}
	errTaken   = &fault{http.StatusConflict, "uniqueness", "another resource has this name"}
)

// Handler serves /scim/v2/.
func Handler(c Config) http.Handler {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.NewID == nil {
		c.NewID = newID
	}
	s := &server{c}
	mux := http.NewServeMux()
	for pattern, h := range map[string]func(*http.Request, Directory) (int, any, error){
		"GET /scim/v2/ServiceProviderConfig": s.config,
		"GET /scim/v2/ResourceTypes":         s.types,
		"GET /scim/v2/Users":                 s.listUsers,
		"POST /scim/v2/Users":                s.createUser,
		"GET /scim/v2/Users/{id}":            s.readUser,
		"PUT /scim/v2/Users/{id}":            s.replaceUser,
		"PATCH /scim/v2/Users/{id}":          s.patchUser,
		"DELETE /scim/v2/Users/{id}":         s.deleteUser,
		"GET /scim/v2/Groups":                s.listGroups,
		"POST /scim/v2/Groups":               s.createGroup,
		"GET /scim/v2/Groups/{id}":           s.readGroup,
		"PUT /scim/v2/Groups/{id}":           s.replaceGroup,
		"PATCH /scim/v2/Groups/{id}":         s.patchGroup,
		"DELETE /scim/v2/Groups/{id}":        s.deleteGroup,
		"/scim/v2/":                          func(*http.Request, Directory) (int, any, error) { return 0, nil, errUnknown },
	} {
		mux.Handle(pattern, s.guarded(h))
	}
	return mux
}

// guarded lets a directory in by its token: every route asks for one.
func (s *server) guarded(h func(*http.Request, Directory) (int, any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		var d Directory
		ok := false
		if bearer && token != "" {
			var err error
			if d, ok, err = s.Store.DirectoryByToken(r.Context(), TokenHash(token)); err != nil {
				s.fail(w, err)
				return
			}
		}
		if !ok {
			w.Header().Set("WWW-Authenticate", `Bearer realm="scim"`)
			s.fail(w, &fault{http.StatusUnauthorized, "", "the token is not that of a directory: make one with cloister account scim-token"})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		status, body, err := h(r, d)
		if err != nil {
			s.fail(w, err)
			return
		}
		s.answer(w, status, body)
	})
}

func (s *server) answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Cache-Control", "no-store")
	if body == nil {
		w.WriteHeader(status)
		return
	}
	text, err := json.Marshal(body)
	if err != nil {
		s.Log.Error("a SCIM answer cannot be written", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	if m, ok := body.(map[string]any); ok && status == http.StatusCreated {
		if meta, ok := m["meta"].(map[string]any); ok {
			if at, ok := meta["location"].(string); ok {
				w.Header().Set("Location", at)
			}
		}
	}
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client has gone
}

func (s *server) fail(w http.ResponseWriter, err error) {
	var f *fault
	var known *outcome.Error
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &f):
	case errors.As(err, &long):
		f = &fault{http.StatusRequestEntityTooLarge, "", "the body is too long"}
	case errors.Is(err, ErrTaken):
		f = errTaken
	case errors.As(err, &known):
		f = &fault{known.Status(), "", known.Error()}
		if f.status == http.StatusUnprocessableEntity {
			f.status, f.kind = http.StatusBadRequest, "invalidValue"
		}
	default:
		f = &fault{http.StatusInternalServerError, "", "the server failed; its log says why"}
	}
	if f.status >= http.StatusInternalServerError {
		s.Log.Error("a SCIM request failed", "error", err, "cause", errors.Unwrap(err))
	}
	body := map[string]any{"schemas": []string{schemaError}, "status": strconv.Itoa(f.status), "detail": f.about}
	if f.kind != "" {
		body["scimType"] = f.kind
	}
	s.answer(w, f.status, body)
}

func (s *server) config(*http.Request, Directory) (int, any, error) {
	no := map[string]any{"supported": false}
	return http.StatusOK, map[string]any{
		"schemas": []string{schemaConfig}, "patch": map[string]any{"supported": true},
		"bulk":           map[string]any{"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
		"filter":         map[string]any{"supported": true, "maxResults": maxPage},
		"changePassword": no, "sort": no, "etag": no,
		"authenticationSchemes": []any{map[string]any{"type": "oauthbearertoken", "name": "Bearer token", "description": "The token that cloister account scim-token makes"}},
	}, nil
}

func (s *server) types(*http.Request, Directory) (int, any, error) {
	return http.StatusOK, list([]any{
		map[string]any{"schemas": []string{schemaType}, "id": "User", "name": "User", "endpoint": "/Users", "schema": schemaUser, "schemaExtensions": []any{map[string]any{"schema": schemaMember, "required": false}}},
		map[string]any{"schemas": []string{schemaType}, "id": "Group", "name": "Group", "endpoint": "/Groups", "schema": schemaGroup},
	}, 2, 0), nil
}

func list(resources []any, total, start int) map[string]any {
	if resources == nil {
		resources = []any{}
	}
	return map[string]any{"schemas": []string{schemaList}, "totalResults": total, "startIndex": start + 1, "itemsPerPage": len(resources), "Resources": resources}
}

// find reads filter, startIndex and count (RFC 7644, 3.4.2).
func find(r *http.Request, attributes map[string]string) (Find, error) {
	f := Find{Count: maxPage}
	q := r.URL.Query()
	if text := strings.TrimSpace(q.Get("filter")); text != "" {
		words := strings.SplitN(text, " ", 3)
		if len(words) != 3 || !strings.EqualFold(words[1], "eq") {
			return f, errFilter
		}
		var ok bool
		if f.Attribute, ok = attributes[strings.ToLower(words[0])]; !ok || json.Unmarshal([]byte(words[2]), &f.Value) != nil {
			return f, errFilter
		}
	}
	if n, err := strconv.Atoi(q.Get("startIndex")); err == nil && n > 1 {
		f.Start = n - 1
	}
	if n, err := strconv.Atoi(q.Get("count")); err == nil && n < maxPage {
		f.Count = max(n, 0)
	}
	return f, nil
}

// roles are what the groups of a user give her.
func (s *server) roles(u User) (out []string) {
	for _, g := range u.Groups {
		out = append(out, s.Roles[strings.ToLower(g.Name)]...)
	}
	return out
}

// provision brings the account of a user in line, and says which it is.
func (s *server) provision(ctx context.Context, d Directory, u User) (string, error) {
	m := identity.Membership{Tenant: d.Tenant, Practice: d.Practice, Roles: s.roles(u)}
	if u.User != "" {
		var ok bool
		if m.User, ok = fhir.ParseRef(u.User); !ok || m.User.Type != "Practitioner" || !m.User.ID.Valid() {
			return "", errValue
		}
	}
	for _, o := range u.Organizations {
		m.Organizations = append(m.Organizations, fhir.ID(o))
	}
	return s.Accounts.Provision(ctx, by, identity.Provisioned{Account: u.Account, Email: u.email(), Name: u.Name, Membership: m, Active: u.Active}) //nolint:wrapcheck // the handler says what is public of it
}

// email is where a user is written to: her name in the directory is her address.
func (u User) email() string { return u.UserName }
