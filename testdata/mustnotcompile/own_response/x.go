// in api/rest: mine does not implement respond\.Response \((missing|unexported) method build
package rest

import (
	"net/http"

	"github.com/cloister-health/cloister/api/respond"
)

type mine struct{}

func (mine) build(w http.ResponseWriter, _ *respond.Request) error {
	_, err := w.Write([]byte("a body"))
	return err
}

func forged() respond.Response { return mine{} }
