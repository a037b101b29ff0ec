// Package vocabulary is the FHIR package of the code systems that Cloister defines for itself.
package vocabulary

import (
	"embed"

	"github.com/cloister-health/cloister/fhir/definition"
)

//go:embed package/*.json
var files embed.FS

// Package reads the embedded package.
func Package() (*definition.Package, error) {
	return definition.ReadDir(files, definition.DefaultLimits)
}
