package api

import "testing"

// The worked example of docs/bulk.md is what a server answers, step by step.
func TestDocsBulkExample(t *testing.T) {
	c, s := newBulk(t)
	steps, _ := workedExample(t, "bulk.md", "bulk", 9)
	id := ""
	for _, x := range steps {
		w := x.send(t, c, "id", id)
		switch {
		case w.Header().Get("X-Progress") != "":
			work(t, s)
		case id == "":
			id = jobOf(w)
		}
		x.agrees(t, w.Body.String(), same)
	}
}
