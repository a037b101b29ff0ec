package issuer

import (
	"bytes"
	"html/template"
	"net/http"
	"time"
)

var page = template.Must(template.New("personas").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Cloister: personas</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin: 2rem 0 0 }
p { margin: .2rem 0 } small { color: #666 }
textarea { box-sizing: border-box; width: 100%; height: 5.5rem; font: 12px/1.4 ui-monospace, monospace; border: 1px solid #ccc; padding: .5rem; margin-top: .4rem; resize: vertical }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } textarea { color: #ddd; background: #222; border-color: #444 } small { color: #999 } }
</style>
<h1>Who do you want to be?</h1>
<p>These people exist in the sample clinic only. Paste a command into a terminal; its token is good until {{.Until}}.</p>
{{range .Personas}}
<h2 id="{{.Name}}">{{.Name}}</h2>
<p>{{.About}}</p>
<p><small>{{.Practice}} · {{range $i, $r := .Roles}}{{if $i}}, {{end}}{{$r}}{{end}} · {{.Purpose}}{{with .User}} · {{.}}{{end}}</small></p>
<textarea readonly spellcheck="false" aria-label="command for {{.Name}}">curl -H 'Authorization: Bearer {{.Token}}' '{{$.Base}}{{.Try}}'</textarea>
{{end}}
</html>
`))

// personas lists the personas, each with a command that works.
func (i *Issuer) personas(w http.ResponseWriter, _ *http.Request) {
	type row struct {
		Persona
		Token string
	}
	data := struct {
		Until, Base string
		Personas    []row
	}{i.cfg.Now().Add(i.cfg.Lifetime).Format(time.RFC1123), i.cfg.Audience, nil}
	for _, p := range i.cfg.Personas {
		text, err := i.Mint(p.Claims, i.cfg.Lifetime)
		if err != nil {
			http.Error(w, "a token could not be signed", http.StatusInternalServerError)
			return
		}
		data.Personas = append(data.Personas, row{p, text})
	}
	var b bytes.Buffer
	if err := page.Execute(&b, data); err != nil {
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	_, _ = b.WriteTo(w) // a client that went away is not our fault
}
