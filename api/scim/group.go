package scim

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

type memberBody struct {
	Value string `json:"value"`
}

// memberList is a list of members, or one without the brackets, as some directories write it.
type memberList []memberBody

func (l *memberList) UnmarshalJSON(text []byte) error {
	var list []memberBody
	if json.Unmarshal(text, &list) != nil {
		var one memberBody
		if json.Unmarshal(text, &one) != nil {
			return errValue
		}
		list = []memberBody{one}
	}
	*l = list
	return nil
}

// groupBody is a Group (RFC 7643, 4.2).
type groupBody struct {
	DisplayName *string     `json:"displayName"`
	ExternalID  *string     `json:"externalId"`
	Members     *memberList `json:"members"`
}

func (g *Group) apply(b groupBody) {
	if b.DisplayName != nil {
		g.Name = strings.TrimSpace(*b.DisplayName)
	}
	if b.ExternalID != nil {
		g.ExternalID = *b.ExternalID
	}
	if b.Members != nil {
		g.Members = values(*b.Members)
	}
}

func values(list memberList) []string {
	out := make([]string, len(list))
	for i, m := range list {
		out[i] = strings.ToLower(m.Value)
	}
	return out
}

func (s *server) group(g Group) map[string]any {
	members := make([]any, len(g.Members))
	for i, m := range g.Members {
		members[i] = map[string]any{"value": m, "type": "User", "$ref": s.Base + "/Users/" + m}
	}
	out := map[string]any{"schemas": []string{schemaGroup}, "id": g.ID, "displayName": g.Name, "members": members, "meta": s.meta("Group", "/Groups/"+g.ID, g.Created, g.Modified)}
	if g.ExternalID != "" {
		out["externalId"] = g.ExternalID
	}
	return out
}

var groupAttributes = map[string]string{"id": "id", "displayname": "displayName", "externalid": "externalId"}

func (s *server) listGroups(r *http.Request, d Directory) (int, any, error) {
	f, err := find(r, groupAttributes)
	if err != nil {
		return 0, nil, err
	}
	groups, total, err := s.Store.DirectoryGroups(r.Context(), d.Tenant, f)
	if err != nil {
		return 0, nil, err //nolint:wrapcheck // the handler says what is public of it
	}
	out := make([]any, len(groups))
	for i, g := range groups {
		out[i] = s.group(g)
	}
	return http.StatusOK, list(out, total, f.Start), nil
}

func (s *server) oneGroup(ctx context.Context, d Directory, id string) (Group, error) {
	groups, _, err := s.Store.DirectoryGroups(ctx, d.Tenant, Find{Attribute: "id", Value: id, Count: 1})
	if err == nil && len(groups) == 0 {
		return Group{}, errUnknown
	}
	if err != nil {
		return Group{}, err //nolint:wrapcheck // the handler says what is public of it
	}
	return groups[0], nil
}

func (s *server) readGroup(r *http.Request, d Directory) (int, any, error) {
	g, err := s.oneGroup(r.Context(), d, r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, s.group(g), nil
}

// keepGroup stores a group and brings everybody in line who was, or is, in it.
func (s *server) keepGroup(ctx context.Context, d Directory, old, g Group) (map[string]any, error) {
	if n := utf8.RuneCountInString(g.Name); n == 0 || n > 256 {
		return nil, errValue
	}
	g.Modified = s.Now().UTC()
	if err := s.Store.PutDirectoryGroup(ctx, d.Tenant, g); err != nil {
		return nil, err //nolint:wrapcheck // the handler says what is public of it
	}
	kept, err := s.oneGroup(ctx, d, g.ID)
	if err != nil {
		return nil, err
	}
	if err := s.align(ctx, d, append(slices.Clone(old.Members), kept.Members...)); err != nil {
		if old.ID != "" { // so that the directory finds the change undone, and tries it again, whole
			if undone := s.Store.PutDirectoryGroup(context.WithoutCancel(ctx), d.Tenant, old); undone != nil {
				s.Log.Error("a group is ahead of the roles of its members", "error", undone)
			}
		}
		return nil, err
	}
	return s.group(kept), nil
}

// align brings the accounts of users in line with their groups.
func (s *server) align(ctx context.Context, d Directory, ids []string) error {
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		u, err := s.oneUser(ctx, d, id)
		if errors.Is(err, errUnknown) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := s.provision(ctx, d, u); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) createGroup(r *http.Request, d Directory) (int, any, error) {
	var b groupBody
	if err := read(r, &b); err != nil {
		return 0, nil, err
	}
	g := Group{ID: s.NewID(), Created: s.Now().UTC()}
	g.apply(b)
	out, err := s.keepGroup(r.Context(), d, Group{}, g)
	return http.StatusCreated, out, err
}

func (s *server) replaceGroup(r *http.Request, d Directory) (int, any, error) {
	old, err := s.oneGroup(r.Context(), d, r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	var b groupBody
	if err := read(r, &b); err != nil {
		return 0, nil, err
	}
	g := Group{ID: old.ID, Created: old.Created}
	g.apply(b)
	out, err := s.keepGroup(r.Context(), d, old, g)
	return http.StatusOK, out, err
}

// oneMember is the path of one member, as RFC 7644 (3.5.2.2) has it.
var oneMember = regexp.MustCompile(`(?i)^members\[\s*value\s+eq\s+"([^"]+)"\s*\]$`)

func (s *server) patchGroup(r *http.Request, d Directory) (int, any, error) {
	old, err := s.oneGroup(r.Context(), d, r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	p, err := readPatch(r)
	if err != nil {
		return 0, nil, err
	}
	g := old
	g.Members = slices.Clone(old.Members)
	for _, o := range p.Operations {
		if err := g.patch(strings.ToLower(o.Op), o.Path, o.Value); err != nil {
			return 0, nil, err
		}
	}
	out, err := s.keepGroup(r.Context(), d, old, g)
	return http.StatusOK, out, err
}

func (g *Group) patch(op, path string, value json.RawMessage) error {
	one := oneMember.FindStringSubmatch(path)
	switch {
	case op == "remove" && one != nil:
		g.Members = slices.DeleteFunc(g.Members, func(m string) bool { return strings.EqualFold(m, one[1]) })
		return nil
	case op == "remove" && path == "":
		return errTarget
	case strings.EqualFold(path, "members"):
		var list memberList
		if value != nil && json.Unmarshal(value, &list) != nil {
			return errValue
		}
		switch op {
		case "add":
			g.Members = append(g.Members, values(list)...)
		case "replace":
			g.Members = values(list)
		case "remove":
			gone := values(list)
			g.Members = slices.DeleteFunc(g.Members, func(m string) bool { return value == nil || slices.Contains(gone, m) })
		default:
			return errPath
		}
		return nil
	case path != "" && (op == "replace" || op == "add"):
		name, ok := groupAttributes[strings.ToLower(path)]
		if !ok || name == "id" {
			return errPath
		}
		var err error
		if value, err = json.Marshal(map[string]any{name: value}); err != nil {
			return errValue
		}
	case op != "replace" && op != "add":
		return errPath
	}
	var b groupBody
	if json.Unmarshal(value, &b) != nil {
		return errValue
	}
	if op == "add" && b.Members != nil {
		g.Members = append(g.Members, values(*b.Members)...)
		b.Members = nil
	}
	g.apply(b)
	return nil
}

func (s *server) deleteGroup(r *http.Request, d Directory) (int, any, error) {
	old, err := s.oneGroup(r.Context(), d, r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	empty := old
	empty.Members = nil
	if _, err := s.keepGroup(r.Context(), d, old, empty); err != nil {
		return 0, nil, err
	}
	if _, err := s.Store.DeleteDirectoryGroup(r.Context(), d.Tenant, old.ID); err != nil {
		return 0, nil, err //nolint:wrapcheck // the handler says what is public of it
	}
	return http.StatusNoContent, nil, nil
}
