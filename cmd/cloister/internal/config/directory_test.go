package config

import (
	"slices"
	"strings"
	"testing"
)

func TestDirectoriesAreChecked(t *testing.T) {
	var d Directories
	for _, text := range []string{"harbor|Clinical Staff|therapist+supervisor", "harbor|Front|front-desk", "lakeside|clinical staff|psychiatrist"} {
		var g Group
		if err := g.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		d.Groups = append(d.Groups, g)
	}
	if err := d.Check(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		practice, group string
		want            []string
	}{
		{"harbor", "CLINICAL staff", []string{"therapist", "supervisor"}},
		{"harbor", "Front", []string{"front-desk"}},
		{"lakeside", "Clinical Staff", []string{"psychiatrist"}},
		{"lakeside", "Front", nil}, // another practice's group of that name
		{"harbor", "Visitors", nil},
		{"", "Front", nil},
	} {
		if got := d.Roles(c.practice, c.group); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: %v, want %v", c.practice, c.group, got, c.want)
		}
	}
	for _, text := range []string{"", "harbor", "harbor|Front", "|Front|biller", "harbor||biller", "harbor|Front|", "harbor|Front|biller|x"} {
		if err := new(Group).UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "CLOISTER_SCIM_ROLES") {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, bad := range []Group{
		{"harbor", "x", []string{"operator"}},
		{"harbor", "x", []string{"patient"}},
		{"harbor", "x", []string{"therapist", "proxy"}},
		{"harbor", "x", []string{"therapists"}},
		{"harbor", "FRONT", []string{"biller"}},
	} {
		if err := (Directories{append(slices.Clone(d.Groups), bad)}).Check(); err == nil || !strings.Contains(err.Error(), "CLOISTER_SCIM_ROLES") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
