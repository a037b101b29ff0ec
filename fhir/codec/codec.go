// Package codec reads the bytes of a FHIR resource into one checked tree.
package codec

import (
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

// Resource is one incoming resource that has passed every check of [Parse].
type Resource struct {
	Type fhir.ResourceType
	Root *element.Node
}
