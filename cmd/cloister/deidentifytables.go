package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/cmd/cloister/internal/releaser"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/view"
	"github.com/cloister-health/cloister/fhir/view/clinical"
	"github.com/cloister-health/cloister/fhir/view/tabular"
)

// tableFlags say what of a release is written, and in which form.
type tableFlags struct {
	Format []string `name:"format" default:"ndjson" placeholder:"FORMAT,..." help:"ndjson for the resources, csv and parquet for tables of views."`
	View   []string `name:"view" placeholder:"VIEW,..." help:"Views of which tables are written: names of ready-made ones, or files with ViewDefinitions. Default: all ready-made ones of the types that are released."`
}

// maxView bounds the file of a ViewDefinition.
const maxView = 1 << 20

// content reads the views for a release of those types.
func (f tableFlags) content(types []fhir.ResourceType) (out releaser.Content, err error) {
	for _, name := range f.Format {
		format, ok := tabular.FormatNamed(name)
		switch {
		case name == "ndjson":
			out.Resources = true
		case !ok:
			return out, fmt.Errorf("--format is %q: it is ndjson, csv or parquet", name)
		case !slices.ContainsFunc(out.Formats, func(x tabular.Format) bool { return x.Name == name }):
			out.Formats = append(out.Formats, format)
		}
	}
	switch {
	case len(f.View) > 0 && out.Formats == nil:
		return out, errors.New("--view makes tables: add csv or parquet to --format")
	case out.Formats == nil:
		return out, nil
	case len(f.View) == 0:
		for _, v := range clinical.Views() {
			if slices.Contains(types, v.Resource()) {
				out.Views = append(out.Views, v)
			}
		}
		return out, nil
	}
	for _, name := range f.View {
		v, err := oneView(name)
		switch {
		case err != nil:
			return out, fmt.Errorf("--view %s: %w", name, err)
		case v.Name() == "":
			return out, fmt.Errorf("--view %s: the ViewDefinition has no name, which is that of the file", name)
		case !slices.Contains(types, v.Resource()):
			return out, fmt.Errorf("--view %s: it is of %s, of which nothing is released here", name, v.Resource())
		case slices.ContainsFunc(out.Views, func(x *view.View) bool { return strings.EqualFold(x.Name(), v.Name()) }):
			return out, fmt.Errorf("--view %s: there is another view %s", name, v.Name())
		}
		for _, x := range out.Formats {
			if err := x.Holds(v); err != nil {
				return out, fmt.Errorf("--view %s: %w", name, err)
			}
		}
		out.Views = append(out.Views, v)
	}
	return out, nil
}

// oneView finds a ready-made view, or reads a file.
func oneView(name string) (*view.View, error) {
	if v, ok := clinical.Named(name); ok {
		return v, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		var names []string
		for _, v := range clinical.Views() {
			names = append(names, v.Name())
		}
		return nil, fmt.Errorf("it is neither a ready-made view (%s) nor a file that can be read", strings.Join(names, ", "))
	}
	if info.Size() > maxView {
		return nil, errors.New("the file is too large for a ViewDefinition")
	}
	text, err := os.ReadFile(name) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the path
	}
	return view.Parse(text) //nolint:wrapcheck // it says where
}
