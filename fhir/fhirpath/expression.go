package fhirpath

import (
	"sync"
)

// Expression is a compiled expression. It is safe for concurrent use.
type Expression struct {
	source string
	root   *node
}

// String is the text of the expression.
func (e *Expression) String() string { return e.source }

// maxCompiled bounds the cache of Compile. The R4 definitions hold some 2,500 distinct expressions.
const maxCompiled = 4096

var compiled = struct {
	sync.RWMutex
	m map[string]*Expression
}{m: map[string]*Expression{}}

// Compile reads an expression of at most [MaxExpression] bytes. The error is a *SyntaxError. Equal texts give the
// same Expression for as long as it is cached.
func Compile(source string) (*Expression, error) {
	compiled.RLock()
	e := compiled.m[source]
	compiled.RUnlock()
	if e != nil {
		return e, nil
	}
	root, err := parse(source)
	if err != nil {
		return nil, err
	}
	e = &Expression{source, root}
	compiled.Lock()
	defer compiled.Unlock()
	if len(compiled.m) >= maxCompiled {
		for k := range compiled.m { // any one: what is in use comes back
			delete(compiled.m, k)
			break
		}
	}
	compiled.m[source] = e
	return e, nil
}
