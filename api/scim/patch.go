package scim

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
)

type patchBody struct {
	Schemas    []string
	Operations []struct {
		Op    string
		Path  string
		Value json.RawMessage
	}
}

func read(r *http.Request, into any) error {
	err := json.NewDecoder(r.Body).Decode(into)
	var long *http.MaxBytesError
	if err != nil && !errors.As(err, &long) {
		return errSyntax
	}
	return err //nolint:wrapcheck // the handler says what is public of it
}

// userPaths are the paths by which operations change a user, in lower case, and where in a [userBody] their values go.
var userPaths = map[string][]string{
	"active": {"active"}, "displayname": {"displayName"}, "externalid": {"externalId"}, "username": {"userName"},
	"name": {"name"}, "name.formatted": {"name", "formatted"}, "name.givenname": {"name", "givenName"}, "name.familyname": {"name", "familyName"},
	strings.ToLower(schemaMember): {schemaMember}, strings.ToLower(schemaMember) + ":fhiruser": {schemaMember, "fhirUser"}, strings.ToLower(schemaMember) + ":organizations": {schemaMember, "organizations"},
}

// notKept are the attributes of a User (RFC 7643, 4.1 and 4.3) that a directory may send and nobody keeps here. A POST or PUT that
// has them is no error, and so a PATCH is none. The others of RFC 7643 are not among them: groups change by Groups alone, and there is no password here.
var notKept = map[string]bool{
	"nickname": true, "profileurl": true, "title": true, "usertype": true, "preferredlanguage": true, "locale": true, "timezone": true, "emails": true, "phonenumbers": true,
	"ims": true, "photos": true, "addresses": true, "entitlements": true, "roles": true, "x509certificates": true,
	"name.middlename": true, "name.honorificprefix": true, "name.honorificsuffix": true,
}

const enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:user"

func ignored(path string) bool {
	if path == enterprise || strings.HasPrefix(path, enterprise+":") || notKept[path] {
		return true
	}
	root, _, _ := strings.Cut(path, "[") // emails[type eq "work"].value
	root, _, _ = strings.Cut(root, ".")
	return notKept[root]
}

// readPatch reads the body of a PATCH, which has to do something (RFC 7644, 3.5.2).
func readPatch(r *http.Request) (p patchBody, err error) {
	if err = read(r, &p); err == nil && len(p.Operations) == 0 {
		err = errSyntax
	}
	return p, err
}

func (s *server) patchUser(r *http.Request, d Directory) (int, any, error) {
	old, err := s.oneUser(r.Context(), d, r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	p, err := readPatch(r)
	if err != nil {
		return 0, nil, err
	}
	u := old
	for _, o := range p.Operations {
		if err := u.patch(strings.ToLower(o.Op), o.Path, o.Value); err != nil {
			return 0, nil, err
		}
	}
	return s.changed(r.Context(), d, old, u)
}

// patch does one operation (RFC 7644, 3.5.2). Without a path the value is an object of attributes, whose names some directories write
// as paths, name.givenName among them.
func (u *User) patch(op, path string, value json.RawMessage) error {
	if op != "add" && op != "replace" && op != "remove" {
		return errSyntax
	}
	core := strings.ToLower(schemaUser) + ":"
	at := strings.TrimPrefix(strings.ToLower(path), core)
	if op == "remove" {
		return u.remove(at)
	}
	if path != "" {
		return u.set(at, value)
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(value, &members) != nil {
		return errValue
	}
	const shown = "displayname" // last, because it goes before name
	byPath := map[string]json.RawMessage{}
	for name, v := range members {
		byPath[strings.TrimPrefix(strings.ToLower(name), core)] = v
	}
	for _, at := range append(slices.DeleteFunc(slices.Sorted(maps.Keys(byPath)), func(at string) bool { return at == shown }), shown) {
		v, ok := byPath[at]
		if !ok || at == "id" || at == "schemas" || at == "meta" { // read-only, and there because the directory sends what it has
			continue
		}
		if err := u.set(at, v); err != nil {
			return err
		}
	}
	return nil
}

func (u *User) set(at string, value json.RawMessage) error {
	if ignored(at) {
		return nil
	}
	to, ok := userPaths[at]
	if !ok {
		return errPath
	}
	var wrapped any = value
	for i := len(to) - 1; i >= 0; i-- {
		wrapped = map[string]any{to[i]: wrapped}
	}
	text, err := json.Marshal(wrapped)
	var b userBody
	if err != nil || json.Unmarshal(text, &b) != nil {
		return errValue
	}
	// Given and family name come one by one, and the name is kept in full: the last word of it is the family name.
	if n := b.Name; n != nil && n.Formatted == "" && (n.GivenName == "") != (n.FamilyName == "") {
		given, family := "", u.Name
		if i := strings.LastIndex(u.Name, " "); i >= 0 {
			given, family = u.Name[:i], u.Name[i+1:]
		}
		if n.GivenName == "" {
			n.GivenName = given
		} else {
			n.FamilyName = family
		}
	}
	u.apply(b)
	return nil
}

// remove takes an attribute away. Those without which there is no user stay.
func (u *User) remove(at string) error {
	switch to := userPaths[at]; {
	case ignored(at):
	case at == "externalid":
		u.ExternalID = ""
	case len(to) == 1 && to[0] == schemaMember:
		u.User, u.Organizations = "", nil
	case len(to) == 2 && to[1] == "fhirUser":
		u.User = ""
	case len(to) == 2 && to[1] == "organizations":
		u.Organizations = nil
	case at == "username" || at == "active" || at == "displayname" || strings.HasPrefix(at, "name"):
		return &fault{http.StatusBadRequest, "mutability", "this attribute can be replaced, and not removed"}
	case at == "":
		return errTarget
	default:
		return errPath
	}
	return nil
}
