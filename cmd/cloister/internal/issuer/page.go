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
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin: 2.5rem 0 0 }
p { margin: .2rem 0; overflow-wrap: anywhere } nav { margin: 1rem 0 } nav a { margin-right: .8rem; white-space: nowrap } a { color: #06c }
small { color: #666 }
pre { font: 12px/1.5 ui-monospace, monospace; margin: .2rem 0 .8rem; padding: .4rem .6rem; border: 1px solid #ccc; border-radius: 4px;
  white-space: pre-wrap; overflow-wrap: anywhere; user-select: all; -webkit-user-select: all }
code { font: 13px ui-monospace, monospace; user-select: all; -webkit-user-select: all } form { margin: .4rem 0 } select, button { font: inherit }
pre.token { white-space: nowrap; overflow: hidden; text-overflow: ellipsis }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } pre { background: #222; border-color: #444 } small { color: #999 } a { color: #7bf } }
</style>
<main>
<h1>Who do you want to be?</h1>
<p>These people exist in the sample clinic only. A click selects a whole line: paste a token into a terminal, then any of the
requests below it. Tokens of this page are good until {{.Until}}.{{if .Demo}} The <a href="{{.Demo}}/">demo app</a> needs none: there you sign in, and
<a href="{{.Demo}}/compare.html">compare who sees what</a>.{{end}}</p>
<nav>{{range .Personas}}<a href="#{{.Name}}">{{.Name}}</a> {{end}}</nav>
{{range $p := .Personas}}
<h2 id="{{.Name}}">{{.Name}}</h2>
<p>{{.About}}</p>
<p><small>{{.Practice}} · {{range $i, $r := .Roles}}{{if $i}}, {{end}}{{$r}}{{end}} · {{.Purpose}}{{with .User}} · {{.}}{{end}}</small></p>
<pre class="token" aria-label="token for {{.Name}}">TOKEN={{.Token}}</pre>
{{with .SignIn}}<p>Signs in as <code>{{.Email}}</code> with <code>{{.Password}}</code>{{with .Code}}, and then <code>{{.}}</code> (load this page again for the code of the next half minute){{end}}.</p>
{{if and $.Demo .Code}}<form method="post" action="/launch"><input type="hidden" name="persona" value="{{$p.Name}}"><label>Open the <a href="{{$.Demo}}/">demo app</a> from an EHR, for
<select name="patient">{{range $.Patients}}<option value="{{.ID}}">{{.Name}}</option>{{end}}</select></label> <button>Launch as {{$p.Name}}</button></form>{{end}}{{end}}
{{range .Try}}<p>{{.Expect}}</p>
<pre>{{.Command}}</pre>
{{end}}{{end}}
</main>
</html>
`))

// personas lists the personas, each with a command that works.
func (i *Issuer) personas(w http.ResponseWriter, _ *http.Request) {
	type row struct {
		Persona
		Token  string
		SignIn *Credentials
	}
	data := struct {
		Until, Demo string
		Patients    []Patient
		Personas    []row
	}{i.cfg.Now().Add(i.cfg.Lifetime).Format(time.RFC1123), i.cfg.Demo, i.cfg.Patients, nil}
	for _, p := range i.cfg.Personas {
		text, err := i.Mint(p.Claims, i.cfg.Lifetime)
		if err != nil {
			http.Error(w, "a token could not be signed", http.StatusInternalServerError)
			return
		}
		x := row{Persona: p, Token: text}
		if i.cfg.SignIn != nil {
			if c, ok := i.cfg.SignIn(p.Name); ok {
				x.SignIn = &c
			}
		}
		data.Personas = append(data.Personas, x)
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
