package config

import (
	"errors"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/authz"
)

// Group is one entry of CLOISTER_SCIM_ROLES: the roles that the members of a group of a practice's directory have.
type Group struct {
	Practice, Name string
	Roles          []string
}

// UnmarshalText reads practice|group|role+role.
func (g *Group) UnmarshalText(text []byte) error {
	parts := strings.Split(string(text), "|")
	if len(parts) != 3 || slices.Contains(parts, "") {
		return fault("CLOISTER_SCIM_ROLES", "holds %q: write each group as PRACTICE|GROUP|ROLE+ROLE", text)
	}
	*g = Group{Practice: parts[0], Name: strings.TrimSpace(parts[1]), Roles: strings.Split(parts[2], "+")}
	return nil
}

// Directories are the groups by which the directories of practices say who has which role (SCIM 2.0).
type Directories struct {
	Groups []Group `name:"scim-roles" env:"CLOISTER_SCIM_ROLES" placeholder:"PRACTICE|GROUP|ROLE+ROLE,..." help:"Roles that the members of a group of a practice's directory have (SCIM, below /scim/v2). Whoever is in none of these groups is no member of the practice."`
}

// Check reports what is wrong. A directory provides members of staff alone.
func (d Directories) Check() error {
	var errs []error
	var seen []string
	for _, g := range d.Groups {
		for _, r := range g.Roles {
			if r == authz.Operator || r == "patient" || r == "proxy" || !slices.Contains(authz.Roles(), r) {
				errs = append(errs, fault("CLOISTER_SCIM_ROLES", "gives the group %q the role %q, which is none of a member of staff", g.Name, r))
			}
		}
		key := g.Practice + "|" + strings.ToLower(g.Name)
		if slices.Contains(seen, key) {
			errs = append(errs, fault("CLOISTER_SCIM_ROLES", "names the group %q of %s twice: leave one out, or join their roles with +", g.Name, g.Practice))
		}
		seen = append(seen, key)
	}
	return errors.Join(errs...)
}

// Roles are those of a group, by its name in any case.
func (d Directories) Roles(practice, group string) []string {
	for _, g := range d.Groups {
		if g.Practice == practice && strings.EqualFold(g.Name, strings.TrimSpace(group)) {
			return g.Roles
		}
	}
	return nil
}
