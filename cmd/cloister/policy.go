package main

import (
	"errors"
	"fmt"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

// policyCmd is the administration point of the access policy.
type policyCmd struct {
	Explain policyExplainCmd `cmd:"" help:"Say which lines of the policy decide for a caller and a class of resources."`
	Test    policyTestCmd    `cmd:"" help:"Run authorization cases (YAML)."`
}

// policyExplainCmd asks the policy one question.
type policyExplainCmd struct {
	Roles   []string `name:"role" required:"" placeholder:"ROLE,..." help:"Roles of the caller, such as therapist."`
	Purpose string   `name:"purpose" default:"TREAT" help:"Purpose of use (v3-ActReason), such as TREAT, HPAYMT or HOPERAT."`
	Action  string   `name:"action" default:"read" help:"read, create, update or delete. Reading includes searching and history."`
	Type    string   `name:"type" required:"" placeholder:"TYPE" help:"Resource type, such as Observation."`
	Labels  string   `name:"labels" default:"-" help:"Security labels of the resource, such as 42CFRPart2+SUD; - for none."`
}

// Help is shown below the summary.
func (policyExplainCmd) Help() string {
	return `For example: cloister policy explain --role=therapist --type=DocumentReference --labels=PSYTHPN`
}

// Validate refuses a question that the policy could not be asked.
func (c *policyExplainCmd) Validate() error {
	var errs []error
	if !fhir.ResourceType(c.Type).Valid() {
		errs = append(errs, fmt.Errorf("--type is %q: name a FHIR R4 resource type, such as Observation", c.Type))
	}
	switch authz.Action(c.Action) {
	case authz.ActionRead, authz.ActionCreate, authz.ActionUpdate, authz.ActionDelete:
	default:
		errs = append(errs, fmt.Errorf("--action is %q: set it to read, create, update or delete", c.Action))
	}
	if _, err := label.ParseSet(c.Labels); err != nil {
		errs = append(errs, fmt.Errorf("--labels is %q: join codes with +, such as 42CFRPart2+SUD (known: %s)", c.Labels, label.All))
	}
	return errors.Join(errs...)
}

// question is what the flags ask; they were checked by Validate.
func (c *policyExplainCmd) question() authz.Question {
	labels, _ := label.ParseSet(c.Labels) // checked by Validate
	return authz.Question{Roles: c.Roles, Purpose: c.Purpose, Action: authz.Action(c.Action), Type: fhir.ResourceType(c.Type), Labels: labels}
}

// policyTestCmd runs cases against the policy, without a database.
type policyTestCmd struct {
	Paths []string `arg:"" optional:"" name:"path" type:"existingpath" help:"Case files, or directories of them. Default: testdata/authz."`
}
