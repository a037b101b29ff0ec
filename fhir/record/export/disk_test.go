package export_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/record/export/sinktest"
)

func TestDiskConformance(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "exports")
	d, err := export.OpenDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	sinktest.Memory(t, d)
	sinktest.Run(t, d, func() int {
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	})
}
