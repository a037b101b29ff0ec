package deident

import (
	"errors"
	"io"
)

// NDJSON writes resources of one release, one a line, in the order in which they come. It
// takes nothing that is not de-identified, and nothing of another release.
type NDJSON struct {
	of *Release
	w  io.Writer
}

// NDJSON makes a sink for resources of r. An order that comes from the store would link
// two releases to each other: whoever writes sorts by [Deidentified.Ref] first.
func (r *Release) NDJSON(w io.Writer) *NDJSON { return &NDJSON{r, w} }

var errForeign = errors.New("deident: this is no resource of the release")

// Put writes one resource.
func (n *NDJSON) Put(d Deidentified) error {
	if d.body == nil || d.of != n.of {
		return errForeign
	}
	_, err := n.w.Write(append(d.body(), '\n'))
	return err
}
