// in api/rest: cannot use mine.*as record\.Released value
package rest

import (
	"io"

	"github.com/cloister-health/cloister/api/respond"
	"github.com/cloister-health/cloister/fhir/record"
)

// What looks released is not.
type mine struct{ record.Released }

func (mine) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write([]byte("a body"))
	return int64(n), err
}

func forged(r record.Released) respond.Response { return respond.Resource(mine{r}) }
