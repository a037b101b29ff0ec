package account

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strings"

	"github.com/cloister-health/cloister/fhir/outcome"
)

//go:embed pages style
var files embed.FS

// layouts holds one set of templates per page, each in the same layout.
var layouts = func() map[string]*template.Template {
	out := map[string]*template.Template{}
	entries, err := files.ReadDir("pages")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		name, _ := strings.CutSuffix(e.Name(), ".html")
		if name == "layout" {
			continue
		}
		out[name] = template.Must(template.New("layout.html").Funcs(template.FuncMap{"slot": slot}).ParseFS(files, "pages/layout.html", "pages/"+e.Name()))
	}
	return out
}()

// fault is one line of the summary of errors, linked to its field.
type fault struct{ Field, Text string }

// page is what the layout and every page need; Data is the page's own.
type page struct {
	Title   string
	Faults  []fault
	Brand   Brand
	Prefix  string // of all links
	Form    string // token of the forms
	Return  string // query string that leads back into an interaction, with its question mark
	Passkey bool   // the page needs the script
	Wide    bool
	Account string // e-mail address of the one who is signed in, where the page says so
	Data    any

	interaction string
}

// Of is the text of a field's fault, or "".
func (p page) Of(field string) string {
	for _, f := range p.Faults {
		if f.Field == field {
			return f.Text
		}
	}
	return ""
}

// show answers with a page.
func (p *Pages) show(w http.ResponseWriter, r *http.Request, status int, name string, d page) {
	d.Prefix, d.Form = p.prefix, p.token(w, r)
	d.interaction = interactionOf(r)
	if id := d.interaction; id != "" {
		d.Return = "?interaction=" + id
	}
	if d.Brand.Name == "" {
		d.Brand = p.Brands.of("")
	}
	if d.Passkey {
		w.Header().Set("Content-Security-Policy", policy("'self'"))
	}
	var b bytes.Buffer
	if err := layouts[name].Execute(&b, d); err != nil {
		p.Log.ErrorContext(r.Context(), "a page could not be made", "page", name, "error", fmt.Sprintf("%T", err))
		http.Error(w, "This page could not be made.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = b.WriteTo(w) // a client that went away is not our fault
}

// fail answers with a page that says what is wrong and leads nowhere but back.
func (p *Pages) fail(w http.ResponseWriter, r *http.Request, status int, title, text string) {
	p.show(w, r, status, "fault", page{Title: title, Data: text})
}

// public is the status and the text of a failed step, as the user may know them. A page has no challenge for 401.
func public(err error) (int, string) {
	var o *outcome.Error
	if !errors.As(err, &o) || len(o.Issues) == 0 {
		return http.StatusInternalServerError, "Something went wrong on our side. Please try again later."
	}
	status := o.Status()
	if status == http.StatusUnauthorized {
		status = http.StatusUnprocessableEntity
	}
	if status >= http.StatusInternalServerError {
		return status, "This does not work at the moment. Please try again later."
	}
	return status, sentence(o.Issues[0].Text)
}

// sentence is text as a page shows it: errors begin with a small letter in Go.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// stopped answers for an error that no form of the page can mend.
func (p *Pages) stopped(w http.ResponseWriter, r *http.Request, err error) {
	status, text := public(err)
	if status >= http.StatusInternalServerError {
		cause := errors.Unwrap(err)
		if cause == nil {
			cause = err
		}
		p.Log.ErrorContext(r.Context(), "a page of sign-in failed", "error", cause)
	}
	p.fail(w, r, status, "This did not work", text)
}

// slot is a small form that takes one choice of an interaction back.
func slot(d page, what, text string) map[string]string {
	return map[string]string{"Prefix": d.Prefix, "Form": d.Form, "ID": d.interaction, "What": what, "Text": text}
}
