package config

import (
	"errors"
	"os"
	"strings"

	"github.com/cloister-health/cloister/authz/label"
)

// Labels says what an operator decides over labels.
type Labels struct {
	LabelSets    []string `name:"label-set" env:"CLOISTER_LABEL_SETS" placeholder:"[LABELS=]FILE,..." help:"Content rules beside the built-in ones: files of lines (labels, code system, codes, between tabs), or FHIR ValueSets in JSON with what they are about, such as SUD+ETH=valueset.json."`
	LabelTobacco bool     `name:"label-tobacco" env:"CLOISTER_LABEL_TOBACCO" help:"Count tobacco use as substance use. It is recorded of nearly every patient, so it hides nearly every record."`
	LabelUnknown bool     `name:"label-unknown" env:"CLOISTER_LABEL_UNKNOWN" help:"Protect what is coded in a code system that no rule knows (UNCLASSIFIED, confidentiality R). Otherwise it is N."`
}

// Check reports what is wrong, with the files.
func (l Labels) Check() error {
	_, err := l.Classifier()
	return err
}

// Classifier reads the files: the content rules with what the operator decided.
func (l Labels) Classifier() (*label.Classifier, error) {
	o := label.Options{Tobacco: l.LabelTobacco, Unknown: l.LabelUnknown}
	var errs []error
	for _, item := range l.LabelSets {
		labels, path, ok := strings.Cut(item, "=")
		if !ok {
			labels, path = "", item
		}
		data, err := os.ReadFile(path) //nolint:gosec // the operator names the file
		if err != nil {
			errs = append(errs, fault("CLOISTER_LABEL_SETS", "names %q, which cannot be read: %v", path, errors.Unwrap(err)))
			continue
		}
		v, err := label.ReadValueSet(path, labels, data)
		if err != nil {
			errs = append(errs, fault("CLOISTER_LABEL_SETS", "is wrong: %v", err))
			continue
		}
		o.Sets = append(o.Sets, v)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return label.New(o), nil
}
