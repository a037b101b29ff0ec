package turntest

import "errors"

// ErrKilled is what comes of all that a dead worker does.
var ErrKilled = errors.New("killed")

// Mortal is what a worker in the test's own process is killed by: all that it touches asks it. At the call of
// that number it is killed: before the call, or after it and before anybody hears of it. From then on nothing that
// it does reaches anything, as after SIGKILL.
type Mortal struct {
	At     int
	Only   string // "": calls of any name count
	After  bool
	Sleeps func() // nil: it is killed; else it does this at that moment, and goes on
	Dead   bool
	Died   string // where
	calls  int
}

func (m *Mortal) end(where string) {
	m.Died = where
	if m.Sleeps == nil {
		m.Dead = true
		return
	}
	m.Sleeps()
}

// Do makes a call of that name, as long as the worker lives.
func Do[T any](m *Mortal, name string, call func() (T, error)) (T, error) {
	var zero T
	counts := m.Only == "" || m.Only == name
	if counts {
		m.calls++
	}
	last := counts && m.calls == m.At
	if last && !m.After {
		m.end("before " + name)
	}
	if m.Dead {
		return zero, ErrKilled
	}
	out, err := call()
	if last && m.After {
		m.end("after " + name)
	}
	if m.Dead {
		return zero, ErrKilled
	}
	return out, err
}

// Act is Do of a call that gives nothing but its error.
func Act(m *Mortal, name string, call func() error) error {
	_, err := Do(m, name, func() (struct{}, error) { return struct{}{}, call() })
	return err
}
