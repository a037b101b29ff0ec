// in api/rest: rq\.Writer undefined
package rest

import (
	"context"

	"github.com/cloister-health/cloister/api/respond"
)

func forged(_ context.Context, rq *respond.Request) (respond.Response, error) {
	_, err := rq.Writer.Write([]byte("a body"))
	return nil, err
}
